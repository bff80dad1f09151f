"""Metrics of rankings against their definitions, next-item baselines, and their intervals."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from fmhub import DataError, data
from fmhub.evaluation import baselines, evaluate
from fmhub.evaluation.metrics import get
from fmhub.task import Setting

NAMES = ("hr_1", "hr_5", "hr_10", "ndcg_10", "mrr", "coverage")
LABELS = [f"i{number}" for number in range(30)]


def table(rankings, targets):
    return {"id": [str(row) for row in range(len(targets))], "prediction": rankings, "target": targets}


BY_PLACE = ((0, (1, 1, 1, 1, 1)), (1, (0, 1, 1, 1 / np.log2(3), 0.5)), (9, (0, 0, 1, 1 / np.log2(11), 0.1)), (10, (0, 0, 0, 0, 1 / 11)))


@pytest.mark.parametrize(("place", "expected"), [*BY_PLACE, (None, (0, 0, 0, 0, 0))])
def test_one_ranking_by_hand(place, expected):
    target = "absent" if place is None else LABELS[place]
    for name, value in zip(NAMES, expected, strict=False):
        assert get(name).score(table([LABELS[:20]], [target]), LABELS) == pytest.approx(value), name


def test_coverage_counts_what_anybody_is_shown():
    rankings = [LABELS[:12], LABELS[5:17]]
    assert get("coverage").score(table(rankings, ["i0", "i0"]), LABELS) == 15 / 30
    with pytest.raises(DataError, match="Coverage needs the catalogue"):
        get("coverage").score(table(rankings, ["i0", "i0"]), None)


@settings(max_examples=50, deadline=None)
@given(some.lists(some.tuples(some.permutations(LABELS[:14]), some.sampled_from(LABELS)), min_size=1, max_size=12), some.data())
def test_a_resample_is_the_metric_of_the_resampled_rows(rows, draw):
    columns = {"prediction": np.empty(len(rows), object), "target": np.array([target for _, target in rows], object)}
    columns["prediction"][:] = [ranking for ranking, _ in rows]
    counts = np.array(draw.draw(some.lists(some.integers(0, 3), min_size=len(rows), max_size=len(rows)).filter(any)))
    again = np.repeat(np.arange(len(rows)), counts)
    for name in NAMES:
        metric = get(name)
        expected = metric.score({key: values[again] for key, values in columns.items()}, LABELS)
        if metric.statistics:
            found = metric.combine(counts @ metric.statistics(columns, LABELS))
        else:
            found = metric.resample(columns, LABELS)(counts[None].astype(float))[0]
        assert found == pytest.approx(expected), name
        assert metric.low <= expected <= metric.high


def test_an_arrow_table_of_lists_is_scored_with_intervals():
    random = np.random.default_rng(0)
    rankings = [[str(item) for item in random.permutation(LABELS)] for _ in range(50)]
    found = evaluate(pa.table(table(rankings, [LABELS[row % 30] for row in range(50)])), NAMES, LABELS)
    for name, row in found.items():
        assert row["low"] <= row["value"] <= row["high"] and row["n"] == 50, name
        assert row["low"] < row["high"] or name == "coverage"


@pytest.mark.parametrize("wrong", ["i1", ["i1", "i1"], 3])
def test_what_is_no_ranking_is_refused(wrong):
    with pytest.raises(DataError, match="not a list of different items"):
        get("ndcg_10").score(table([wrong], ["i1"]), LABELS)


class Head:
    """As far as baselines look at one."""

    labels = tuple(f"s{street}-{place}" for street in range(4) for place in range(8))


def walks(people=60):
    """Everybody walks a street from some place on, so that the next place follows from the last one."""
    random = np.random.default_rng(1)
    rows = []
    for person in range(people):
        street, start = random.integers(4), random.integers(8)
        rows += [(str(person), f"s{street}-{(start + step) % 8}", float(step)) for step in range(7)]
    raw = pa.table({name: [row[number] for row in rows] for number, name in enumerate(("user", "item", "time"))})
    return data.Histories(data.rows(lambda: raw)).load().tables


METHODS = (
    baselines.Popularity(),
    baselines.ItemKNN(),
    baselines.Ease(),
    baselines.Ease(decays=(0.8,), name="ease-recent"),
    baselines.WindowedMarkov(),
    baselines.WindowedMarkov(both=True, discounts=(0.0, 0.5), name="markov-both"),
)


@pytest.mark.parametrize("method", METHODS, ids=[method.name for method in METHODS])
def test_baselines_rank_every_unmet_item_once_and_never_look_at_the_target(method):
    tables = walks()
    fitted = method.fit(Setting(train=tables["train"], validation=tables["validation"], head=Head(), seed=0))
    blind = tables["test"].drop_columns(["target"])
    rankings = fitted.predict(blind)["prediction"]
    for ranking, history in zip(rankings, tables["test"]["history"].to_pylist(), strict=True):
        assert sorted([*ranking, *history]) == sorted(Head.labels)
    score = get("ndcg_10").score({"prediction": rankings, "target": tables["test"]["target"].to_pylist()}, None)
    assert score > {"popularity": 0.1, "item-knn": 0.5, "ease": 0.5, "markov-both": 0.7}.get(method.name, 0.9)
    unknown = pa.array([["never seen", *blind["history"][0].as_py()]])
    strange = blind.slice(0, 1).set_column(blind.column_names.index("history"), "history", unknown)
    assert fitted.predict(strange)["prediction"] == rankings[:1]


def test_a_baseline_learns_nothing_from_rows_held_out():
    tables = walks()
    one = baselines.Ease(penalties=(50.0,)).fit(Setting(train=tables["train"], validation=tables["validation"], head=Head(), seed=0))
    other = baselines.Ease(penalties=(50.0,)).fit(
        Setting(train=tables["train"], validation=tables["validation"].slice(0, 1), head=Head(), seed=0)
    )
    assert np.array_equal(one.matrix, other.matrix)
