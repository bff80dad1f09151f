"""Laws of splitting: every row in exactly one part, no group or example in two, the same seed the same parts."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmhub import data
from fmhub.data.build import check_labels
from fmhub.data.parts import _fill, _teach, divide, keys, limit
from fmhub.data.splitting import assign, folds
from fmhub.errors import DataError, UsageError


def table(targets: list[Any], groups: list[str | None] | None = None, texts: list[str] | None = None, **more: list[Any]) -> pa.Table:
    columns: dict[str, Any] = {
        "id": [str(row) for row in range(len(targets))],
        "text": texts or [f"text {row}" for row in range(len(targets))],
    }
    columns |= {"target": targets, **({"group": pa.array(groups, pa.string())} if groups else {}), **more}
    return pa.table(columns)


def ids(parts: dict[str, pa.Table]) -> dict[str, list[str]]:
    return {name: part["id"].to_pylist() for name, part in parts.items()}


def split(
    rule: data.Rule, rows: pa.Table | dict[str, pa.Table], fields: tuple[str, ...] = ("text",)
) -> tuple[dict[str, pa.Table], list[str]]:
    return rule.split({"": rows} if isinstance(rows, pa.Table) else rows, fields)


SETS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 12), st.sampled_from([f"t{n}" for n in range(40)])), min_size=3, max_size=80
)


@settings(deadline=None, max_examples=200)
@given(SETS, st.integers(0, 5), st.booleans(), st.booleans())
def test_a_partition_is_exact_and_nothing_crosses(rows: list[tuple[str, int, str]], seed: int, by_group: bool, stratify: bool) -> None:
    rows_of = table([row[0] for row in rows], [f"g{row[1]}" for row in rows] if by_group else None, [row[2] for row in rows])
    units = [f"g{row[1]}" if by_group else row[2] for row in rows]
    shares = {"train": 0.7, "validation": 0.1, "test": 0.2}
    if len(set(units)) < 3:
        with pytest.raises(DataError, match="cannot fill 3 parts"):
            divide(rows_of, shares, ("text",), stratify=stratify, seed=seed)
        return
    parts = divide(rows_of, shares, ("text",), stratify=stratify, seed=seed)
    found = [name for part in ids(parts).values() for name in part]
    assert sorted(found, key=int) == rows_of["id"].to_pylist()
    assert all(len(part) for part in parts.values())
    where = {name: part for part, names in ids(parts).items() for name in names}
    assert all(len({where[str(row)] for row in range(len(rows)) if units[row] == unit}) == 1 for unit in set(units))
    assert ids(parts) == ids(divide(rows_of, shares, ("text",), stratify=stratify, seed=seed))


@settings(deadline=None, max_examples=100)
@given(SETS, st.integers(0, 3), st.booleans())
def test_no_training_row_is_identical_to_one_held_out(rows: list[tuple[str, int, str]], seed: int, by_group: bool) -> None:
    rows_of = table([row[0] for row in rows], [f"g{row[1]}" for row in rows] if by_group else None, [row[2] for row in rows])
    try:
        parts, notes = split(data.Random(seed=seed), rows_of)
    except DataError:
        return
    sets = {name: set(keys(part, ("text",))) for name, part in parts.items()}
    assert not sets["train"] & sets["validation"]
    assert not sets["train"] & sets["test"]
    assert not sets["validation"] & sets["test"]
    assert bool(notes) == (sum(map(len, parts.values())) < len(rows_of))
    assert by_group or not notes


@settings(deadline=None, max_examples=100)
@given(SETS, st.integers(2, 5), st.booleans())
def test_every_row_is_tested_in_one_fold(rows: list[tuple[str, int, str]], k: int, by_group: bool) -> None:
    rows_of = table([row[0] for row in rows], [f"g{row[1]}" for row in rows] if by_group else None, [row[2] for row in rows])
    units = [f"g{row[1]}" if by_group else row[2] for row in rows]
    if len(set(units)) < k:
        with pytest.raises(DataError, match=f"cannot fill {k} parts"):
            assign(rows_of, data.KFold(k), ("text",))
        return
    numbers = assign(rows_of, data.KFold(k), ("text",))
    assert set(numbers.tolist()) == set(range(k))
    assert len(set(zip(units, numbers.tolist(), strict=True))) == len(set(units))


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=60), st.integers(1, 70), st.integers(1, 70))
def test_limits_are_nested(targets: list[str], one: int, other: int) -> None:
    small, large = (limit(table(targets), n)["id"].to_pylist() for n in sorted((one, other)))
    assert len(small) == min(one, other, len(targets))
    assert set(small) <= set(large)
    assert small == sorted(small, key=int)


def test_a_limit_keeps_every_class_and_depends_on_ids_alone() -> None:
    rows = table(["common"] * 990 + ["rare"] * 10)
    cut = limit(rows, 100)
    assert Counter(cut["target"].to_pylist())["rare"] in (1, 2)
    backwards = rows.take(pa.array(range(999, -1, -1)))
    assert set(limit(backwards, 100)["id"].to_pylist()) == set(cut["id"].to_pylist())
    with pytest.raises(UsageError, match="must be at least 1"):
        limit(rows, 0)


@pytest.mark.parametrize("count", [100, 1000, 3001])
def test_shares_and_classes_are_kept(count: int) -> None:
    targets = ["abc"[(row % 10 > 5) + (row % 10 > 8)] for row in range(count)]
    parts, _ = split(data.Random(test=0.2, validation=0.1), table(targets))
    for name, share in {"train": 0.7, "validation": 0.1, "test": 0.2}.items():
        assert abs(len(parts[name]) - share * count) <= 2
        for label, total in Counter(targets).items():
            assert abs(Counter(parts[name]["target"].to_pylist())[label] - share * total) <= 1.5


def test_many_tiny_classes_do_not_starve_the_test_part() -> None:
    parts, _ = split(data.Random(), table([f"class {row // 2}" for row in range(200)]))
    assert set(parts["train"]["target"].to_pylist()) == {f"class {number}" for number in range(100)}
    assert 30 <= len(parts["test"]) <= 50
    check_labels(parts)


def test_a_numeric_target_is_spread_by_rank() -> None:
    values = np.random.default_rng(0).normal(size=500).tolist()
    parts, _ = split(data.Random(), table(values))
    assert np.quantile(parts["test"]["target"], [0.1, 0.5, 0.9]) == pytest.approx(np.quantile(values, [0.1, 0.5, 0.9]), abs=0.25)


def test_seeds_differ() -> None:
    rows = table(["a", "b"] * 50)
    assert ids(split(data.Random(seed=0), rows)[0]) != ids(split(data.Random(seed=1), rows)[0])


def test_groups_stay_whole_and_a_column_can_be_named() -> None:
    rows = table(["a", "b"] * 50, site=[f"s{row // 10}" for row in range(100)])
    parts, _ = split(data.Random(group="site"), rows)
    sites = [set(part["group"].to_pylist()) for part in parts.values()]
    assert sum(map(len, sites)) == len(set.union(*sites)) == 10
    with pytest.raises(DataError, match="No column 'place' to group by"):
        split(data.Random(group="place"), rows)


def test_rows_without_a_group_stand_alone() -> None:
    parts, _ = split(data.Random(), table(["a", "b"] * 20, [None] * 40))
    assert [len(part) for part in parts.values()] == [28, 4, 8]


def test_a_label_that_only_one_group_has_is_in_train() -> None:
    groups = [f"g{row // 10}" for row in range(60)]
    for seed in range(10):
        parts, _ = split(data.Random(seed=seed), table(["rare" if row < 10 else "ab"[row % 2] for row in range(60)], groups))
        assert "rare" in parts["train"]["target"].to_pylist()


@pytest.mark.parametrize("seed", range(12))
def test_a_label_that_boxes_of_one_picture_alone_have_is_in_train(seed: int) -> None:
    """Where every label is in train anyway, boxes change nothing of how pictures are drawn."""
    shares = {"train": 0.7, "validation": 0.1, "test": 0.2}

    def drawn(labels: list[list[str]]) -> dict[str, list[str]]:
        targets = [[{"box": [0.0, 0.0, 1.0, 1.0], "label": label} for label in row] for row in labels]
        table = pa.table({"id": [str(row) for row in range(len(labels))], "group": [str(row) for row in range(len(labels))]})
        kind = pa.list_(pa.struct([("box", pa.list_(pa.float64())), ("label", pa.string())]))
        made = divide(table.append_column("target", pa.array(targets, kind)), shares, (), stratify=True, seed=seed)
        return {name: part["id"].to_pylist() for name, part in made.items()}

    usual = drawn([["cat"]] * 19 + [[]])
    rare = drawn([["cat"]] * 18 + [["cat", "bird"], []])
    assert "18" in rare["train"] and all(rare.values())
    moved = {name for name in shares if set(usual[name]) != set(rare[name])}
    assert moved <= {"train", next(name for name, ids in usual.items() if "18" in ids)} and (moved == set()) == ("18" in usual["train"])


def test_given_parts_are_kept_and_validation_is_made() -> None:
    rows = table(["a", "b"] * 50)
    given_parts = {"train": rows.slice(0, 80), "test": rows.slice(80, 15), "shift:web": rows.slice(95)}
    parts, notes = split(data.Given(validation=0.25), given_parts)
    assert {name: len(part) for name, part in parts.items()} == {"train": 60, "test": 15, "shift:web": 5, "validation": 20}
    assert parts["test"].equals(given_parts["test"])
    assert notes == []
    assert Counter(parts["validation"]["target"].to_pylist()) == {"a": 10, "b": 10}


def test_given_parts_lose_training_rows_that_are_held_out() -> None:
    train = table(["a"] * 6, texts=["One  two", "three", "four", "five", "six", "web"])
    later = {
        "validation": table(["a"] * 2, texts=["THREE", "four"]),
        "test": table(["a"] * 2, texts=["one two", "Four "]),
        "shift:w": table(["a"], texts=["web"]),
    }
    parts, notes = split(data.Given(), {"train": train, **later})
    assert parts["train"]["text"].to_pylist() == ["five", "six"]
    assert parts["validation"]["text"].to_pylist() == ["THREE"]
    assert notes == [
        "1 row of validation, identical to examples held out, dropped",
        "4 rows of train, identical to examples held out, dropped",
    ]


def test_a_group_in_two_given_parts_is_refused_by_name() -> None:
    rows = table(["a", "b"] * 10, ["p1"] * 10 + ["p2"] * 10)
    with pytest.raises(DataError, match="Group 'p2' is both in train and in test"):
        split(data.Given(), {"train": rows.slice(0, 15), "test": rows.slice(15)})


def test_labels_that_train_lacks() -> None:
    with pytest.raises(DataError, match=r"label 'c' is in 2 rows of test \(first: id 1\) but in none of train; train has 'a', 'b'"):
        check_labels({"train": table(["a", "b"]), "test": table(["a", "c", "c"])})


@pytest.mark.parametrize("kind", ["number", "text", "date"])
def test_temporal_with_an_embargo(kind: str) -> None:
    days = [f"2020-01-{day:02}" for day in range(1, 31)]
    times = {"number": list(range(1, 31)), "text": days, "date": np.array(days, "datetime64[D]").tolist()}[kind]
    cutoffs: Any = (11, 21) if kind == "number" else ("2020-01-11", "2020-01-21")
    parts, notes = split(data.Temporal(cutoffs, embargo=2), table([0.0] * 30, time=times))
    expected = {"train": range(8), "validation": range(10, 18), "test": range(20, 30)}
    assert ids(parts) == {name: [str(row) for row in rows] for name, rows in expected.items()}
    assert notes == ["4 rows within the embargo of 2 before a cutoff were left out"]


def test_temporal_without_a_usable_time() -> None:
    with pytest.raises(DataError, match="needs a time column"):
        split(data.Temporal((1, 2)), table([0.0] * 3))
    with pytest.raises(DataError, match="Row 2 has no time"):
        split(data.Temporal((1, 2)), table([0.0] * 3, time=[1, None, 3]))
    with pytest.raises(DataError, match="neither a number nor an ISO date"):
        split(data.Temporal((1, 2)), table([0.0] * 3, time=["soon", "later", "never"]))
    with pytest.raises(UsageError, match="must be before the second"):
        split(data.Temporal((2, 1)), table([0.0] * 3, time=[1, 2, 3]))


def test_folds_keep_shifts_and_hold_out_validation() -> None:
    rows = table(["a", "b"] * 30, [f"g{row // 4}" for row in range(60)])
    splits = data.rows(lambda: {"train": rows.slice(0, 40), "test": rows.slice(40, 12), "shift:x": rows.slice(52)}).load()
    found = list(folds(splits, data.KFold(4), ("text",)))
    assert len({one.fingerprint for one in found}) == 4
    assert sorted((name for one in found for name in one.tables["test"]["id"].to_pylist()), key=int) == [str(row) for row in range(52)]
    for one in found:
        assert sum(len(part) for name, part in one.tables.items() if name != "shift:x") == 52
        assert one.tables["shift:x"].equals(splits.tables["shift:x"])
        groups = [set(part["group"].to_pylist()) for part in one.tables.values()]
        assert sum(map(len, groups)) == len(set.union(*groups))


def test_the_first_fold_is_the_test_part_of_a_task() -> None:
    parts, _ = split(data.KFold(5), table(["a", "b"] * 25))
    assert {name: len(part) for name, part in parts.items()} == {"train": 36, "validation": 4, "test": 10}


@pytest.mark.parametrize(("test", "validation"), [(0.0, 0.1), (0.2, 0.0), (0.6, 0.4)])
def test_shares_that_cannot_be(test: float, validation: float) -> None:
    with pytest.raises(UsageError, match="must be above 0"):
        data.Random(test=test, validation=validation)
    with pytest.raises(UsageError, match="k must be at least 2"):
        data.KFold(1)


def test_identity_is_by_the_named_fields_alone() -> None:
    rows = table(["a", "b"], texts=["Same\n TEXT", "same text"], source=["x", "y"])
    assert len(set(keys(rows, ("text",)))) == 1
    assert len(set(keys(rows, ()))) == 2
    assert len(set(keys(rows.append_column("sha256", pa.array(["0", "0"])), ()))) == 1
    assert len(set(keys(rows.select(["id", "target"]), ()))) == 2


def test_twenty_thousand_rows_split_in_a_second() -> None:
    import time

    rows = table([row % 5 for row in range(20_000)])
    began = time.process_time()
    split(data.Random(), rows)
    assert time.process_time() - began < 3


@pytest.mark.parametrize("sizes", [(1, 1, 1), (10, 1, 1), (2, 2, 2), (1, 30, 1, 1)])
def test_tiny_and_uneven_sets_leave_no_part_empty(sizes: tuple[int, ...]) -> None:
    groups: list[str | None] = [f"g{number}" for number, size in enumerate(sizes) for _ in range(size)]
    for stratify in (True, False):
        parts, _ = split(data.Random(stratify=stratify), table(["ab"[row % 2] for row in range(len(groups))], groups))
        assert all(len(part) for part in parts.values())
        assert len(parts["train"]) == max(sizes)


def test_an_empty_part_takes_a_unit_whose_classes_stay_behind() -> None:
    units, chosen = [Counter({1: 1}), Counter({0: 2}), Counter({0: 2})], [0, 0, 0]
    _fill(units, chosen, 2)
    assert chosen == [0, 1, 0]


def test_train_is_given_the_smallest_unit_of_what_it_lacks() -> None:
    units, chosen = [Counter({0: 5}), Counter({1: 4}), Counter({1: 2})], [0, 1, 1]
    _teach(units, chosen, 0)
    assert chosen == [0, 1, 0]
