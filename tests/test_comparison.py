"""What is compared with what: copies, fronts, normalised scores, means over tasks, and how often equal systems differ."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from fmhub.evaluation import better, difference, evaluate, metrics
from fmhub.home import registry
from fmhub.leaderboard import overall, references, schema, statistics, store
from fmhub.leaderboard.copies import copied
from fmhub.runs import folder as run_folder
from fmhub.task import Reference

pytestmark = pytest.mark.usefixtures("unshipped")

LABELS = ["neg", "pos"]


def side(prediction, target, ids=None):
    names = np.array(ids if ids is not None else [f"r{n}" for n in range(len(target))], dtype=object)
    kind = None if np.asarray(prediction).dtype.kind == "f" else object
    return {"id": names, "prediction": np.array(prediction, dtype=kind), "target": np.array(target, dtype=kind)}


def labelled(accuracy, seed, n=400):
    truth = np.random.default_rng(0).integers(0, 3, n)
    draw = np.random.default_rng(seed)
    guess = np.where(draw.random(n) < accuracy, truth, (truth + draw.integers(1, 3, n)) % 3)
    return [f"l{v}" for v in guess], [f"l{v}" for v in truth]


def test_copies_are_found_whatever_is_predicted():
    guess, truth = labelled(0.8, 1)
    near = list(guess)
    near[:2] = ["l9", "l9"]
    other, _ = labelled(0.8, 2)
    assert copied(side(guess, truth), side(near, truth))
    assert not copied(side(guess, truth), side(other, truth))
    order = np.random.default_rng(0).permutation(len(truth))
    shuffled = side(np.array(near)[order], np.array(truth)[order], [f"r{n}" for n in order])
    assert copied(side(guess, truth), shuffled)
    assert not copied(side(truth, truth), side(truth, truth)), "being right together proves nothing"
    draw = np.random.default_rng(3)
    truth = draw.normal(size=300)
    ours = truth + draw.normal(size=300)
    assert copied(side(ours, truth), side(ours + 1e-4 * draw.normal(size=300), truth))
    assert not copied(side(ours, truth), side(ours + 0.2 * draw.normal(size=300), truth))
    assert not copied(side(np.zeros(300), truth), side(np.ones(300), truth))
    lists = [[f"i{a}", f"i{b}"] for a, b in draw.integers(0, 50, (300, 2))]
    texts = {"id": np.arange(300).astype(str).astype(object), "target": np.empty(300, object), "prediction": np.empty(300, object)}
    texts["prediction"][:] = lists
    changed = {**texts, "prediction": texts["prediction"].copy()}
    changed["prediction"][0] = ["i0"]
    assert copied(texts, changed)
    changed["prediction"][::5] = [["i0"]] * 60
    assert not copied(texts, changed)


def kept(task, file="predictions"):
    """The reference run's test rows by seed, or a baseline's (under None)."""
    table = pq.read_table(registry() / "leaderboard" / task / f"{file}.parquet")
    seeds = table["seed"].to_pylist() if file == "predictions" else [None] * len(table)
    parts = {seed: table.filter(pa.array([one == seed for one in seeds])) for seed in set(seeds)}
    return {seed: {**side(*(part[name].to_pylist() for name in ("prediction", "target", "id"))),
                   "scores": np.array(part["scores"].to_pylist())} for seed, part in parts.items()}  # fmt: skip


@pytest.mark.parametrize(
    ("task", "scored"),
    [
        ("fmhub-medical/breast-cancer", False),  # 12 to 14 wrong rows of 569
        ("fmhub-medical/breast-cancer", True),
        ("fmhub-education/item-response", True),  # all but one in a thousand labels agree
        ("fmhub-finance/credit-risk-text", True),
    ],
)
def test_scores_that_were_moved_a_little_are_a_copy_and_another_seeds_are_not(task, scored):
    draw, seeds = np.random.default_rng(0), kept(task)
    assert len(seeds) == 3
    for one, other in itertools.combinations(seeds.values(), 2):
        assert not copied(one, other, scored=scored)
        for moved in (1e-6, 1e-5):
            near = one["scores"] + moved * draw.choice([-1, 1], one["scores"].shape)
            assert copied(one, {**one, "scores": np.clip(near, 0, 1)}, scored=scored)


def test_models_that_all_say_the_most_frequent_label_are_no_copies_where_scores_rank():
    names = ("majority", "frozen-logistic", "pixel-logistic")
    sides = [kept("fmhub-medical/medical-imaging", f"baselines/{name}")[None] for name in names]
    for one, other in itertools.combinations(sides, 2):
        assert (one["prediction"] == other["prediction"]).all()
        assert not copied(one, other, scored=True)


points = st.dictionaries(st.integers(0, 20), st.tuples(st.integers(0, 5).map(float), st.integers(0, 5).map(float)), max_size=12)


@given(points=points, more=st.booleans())
def test_the_front_is_what_nothing_beats(points, more):
    sign = 1 if more else -1

    def beats(one, other):
        (q1, c1), (q2, c2) = points[one], points[other]
        return sign * q1 >= sign * q2 and c1 <= c2 and (q1, c1) != (q2, c2)

    assert statistics.front(points, more_is_better=more) == {key for key in points if not any(beats(other, key) for other in points)}


def test_normalised_scores_have_floor_0_and_reference_1():
    up, down = Reference("accuracy", 0.5, 0.9), Reference("rmse", 2.0, 1.0)
    assert statistics.normalised({"value": 0.7, "low": 0.6, "high": 0.9}, up) == pytest.approx({"value": 0.5, "low": 0.25, "high": 1.0})
    assert statistics.normalised({"value": 1.5, "low": 1.25, "high": 2.0}, down) == pytest.approx({"value": 0.5, "low": 0.0, "high": 0.75})
    assert statistics.normalised({"value": 0.7, "low": None, "high": None}, up) == pytest.approx({"value": 0.5, "low": 0.5, "high": 0.5})
    assert statistics.normalised({"value": None, "low": None, "high": None}, up) is None
    assert statistics.normalised({"value": 0.7, "low": 0.6, "high": 0.9}, None) is None
    assert statistics.normalised({"value": 0.7, "low": 0.6, "high": 0.9}, Reference("accuracy", 0.5, 0.5)) is None


FAMILIES = {"p:a": "text", "p:b": "text", "p:c": "vision"}
scores = st.one_of(st.none(), st.floats(-1, 2).map(lambda v: {"value": v, "low": v - 0.05, "high": v + 0.05}))
systems = st.dictionaries(st.sampled_from("uvwxyz"), st.dictionaries(st.sampled_from(sorted(FAMILIES)), scores, min_size=1), max_size=5)


@settings(max_examples=12, deadline=None)
@given(values=systems, seed=st.randoms())
def test_means_do_not_depend_on_order_or_on_others(values, seed):
    found = statistics.means(values, FAMILIES)
    names = list(values)
    seed.shuffle(names)
    assert statistics.means({name: values[name] for name in names}, dict(sorted(FAMILIES.items(), reverse=True))) == found
    order = list(found)
    for name in names:
        fewer = statistics.means({other: held for other, held in values.items() if other != name}, FAMILIES)
        assert list(fewer) == [other for other in order if other != name]
        for other, row in fewer.items():
            assert {key: row[key] for key in ("value", "low", "high", "families")} == {
                key: found[other][key] for key in ("value", "low", "high", "families")
            }
    for row in found.values():
        assert row["low"] <= row["value"] <= row["high"] and all(map(math.isfinite, (row["low"], row["high"])))


def test_means_are_taken_in_families_then_across():
    def one(value):
        return {"value": value, "low": value, "high": value}

    found = statistics.means(
        {
            "all": {"p:a": one(1.0), "p:b": one(0.5), "p:c": one(0.25)},
            "text": {"p:a": one(1.0), "p:b": one(1.0)},
            "open": {"p:a": one(1.0), "p:b": None, "p:c": one(0.25)},
            "honest": {"p:a": None, "p:b": None, "p:c": None},
        },
        FAMILIES,
    )
    assert {name: row["value"] for name, row in found.items()} == pytest.approx({"open": 0.625, "all": 0.5, "text": 0.5})
    assert found["text"]["families"] == {"text": 1.0, "vision": 0.0}
    assert found["all"]["win_rate"] == pytest.approx((0.5 + 0.0 + 0.5) / 3)


# The board as a whole, with a plugin's task that has references.


@pytest.fixture
def task(monkeypatch):
    """`references.find` and the universe as an installed task with references would have them."""
    monkeypatch.setattr(references, "find", lambda *_, **__: Reference("accuracy", 0.5, 0.9))
    return {("fmhub-text:sentiment", "1"): "text"}


def add(
    folder,
    guess,
    run,
    *,
    metric="accuracy",
    contamination="",
    status="done",
    cost=None,
    backbone="minilm-l6",
    target=None,
    scores=None,
    **options,
):
    n = len(guess)
    truth = np.random.default_rng(5).integers(0, 2, n)
    truth = target if target is not None else [LABELS[v] for v in truth]
    table = pa.table({"id": [f"r{r}" for r in range(n)], "split": ["test"] * n, "prediction": guess, "target": truth})
    if scores is not None:
        table = table.append_column("scores", pa.array(scores.tolist()))
    plan = {
        "id": run, "started": "2026-11-24T01:00:00Z", "backbone": {"name": backbone}, "recipe": {}, "stem": {}, "options": options,
        "task": {"name": "sentiment", "version": "1", "plugin": "fmhub-text", "family": "text"}, "metrics": [metric], "baselines": [],
        "data": {"fingerprint": "f" * 64, "train": 9, "test": n}, "head": {"labels": LABELS if target is None else None},
    }  # fmt: skip
    run_folder.write_json(folder / run / "plan.json", plan)
    if status == "done":
        run_folder.write_json(folder / run / "run.json", {**plan, "status": "done", "scores": {}, "cost": cost})
    else:
        run_folder.write_status(folder / run, status)
    run_folder.write_table(folder / run / "predictions.parquet", table)
    return store.add(folder / run, contamination)[0]


def guesses(accuracy, seed, n=400):
    truth = np.random.default_rng(5).integers(0, 2, n)
    return [LABELS[v] for v in np.where(np.random.default_rng(seed).random(n) < accuracy, truth, 1 - truth)]


def ranks():
    return {entry["name"]: entry["rank"] for entry in store.board()[0]["entries"]}


def test_ten_near_copies_change_nobodys_group(tmp_path, task):
    for name, accuracy, seed in (("best", 0.9, 1), ("good", 0.8, 2), ("weak", 0.65, 3), ("weaker", 0.64, 4)):
        add(tmp_path, guesses(accuracy, seed), name)
    before, means = ranks(), overall.overall(store.board(), task)
    for number in range(10):
        near = guesses(0.8, 2)
        near[number] = "pos" if near[number] == "neg" else "neg"
        add(tmp_path, near, f"copy-{number}", backbone=f"other-{number}")
    after = ranks()
    assert {name: after[name] for name in before} == before
    copies = [entry for entry in store.board()[0]["entries"] if entry["name"].startswith("copy")]
    assert {entry["copy_of"] for entry in copies} == {next(e["id"] for e in store.board()[0]["entries"] if e["name"] == "good")}
    assert {entry["rank"] for entry in copies} == {before["good"]}
    assert overall.overall(store.board(), task) == means


def test_ten_copies_of_an_entry_with_few_errors_change_nobodys_rank(tmp_path):
    draw, truth = np.random.default_rng(0), np.random.default_rng(5).integers(0, 2, 400)
    made = {}
    for name, wrong in (("best", 0), ("good", 8), ("third", 19)):
        logits = np.where(truth == 1, 5.0, -5.0) + draw.normal(size=400)
        logits[:wrong] = -logits[:wrong]
        made[name] = 1 / (1 + np.exp(-logits))

    def put(name, p, **more):
        add(tmp_path, [LABELS[int(one > 0.5)] for one in p], name, scores=np.stack([1 - p, p], axis=1), **more)

    for name, p in made.items():
        put(name, p)
    before = ranks()
    assert len(set(before.values())) == 3
    for number in range(10):
        put(f"copy-{number}", made["good"] + 1e-6 * draw.choice([-1, 1], 400), backbone=f"other-{number}")
    after = ranks()
    assert {name: after[name] for name in before} == before
    assert all(entry["copy_of"] for entry in store.board()[0]["entries"] if entry["name"].startswith("copy"))


def given_by(identity, submitter):
    """The stored entry as a submitter's."""
    with schema.database() as engine, schema.writing(engine) as connection:
        connection.execute(sa.update(schema.ENTRIES).where(schema.ENTRIES.c.id == identity).values(submitter=submitter))


def test_what_a_stranger_declares_of_a_copy_unranks_nobody(tmp_path):
    given_by(add(tmp_path, guesses(0.9, 1), "anns"), "ann")
    add(tmp_path, guesses(0.8, 2), "second")
    before = ranks()
    for who, flagged in (("mallory", {"again"}), ("ann", {"again", "anns"}), (None, {"again", "anns"})):
        copy = add(tmp_path, guesses(0.9, 1), "again", contamination="says somebody")
        given_by(copy, who)
        assert {entry["name"] for entry in store.board()[0]["entries"] if entry["contamination"]} == flagged
        assert "anns" in flagged or ranks() == {**before, "again": before["anns"]}


def test_a_random_start_is_another_system_than_its_pretrained_twin(tmp_path, task):
    add(tmp_path, guesses(0.9, 1), "pretrained")
    alone = overall.overall(store.board(), task)["systems"]
    add(tmp_path, guesses(0.6, 2), "twin", random_weights=True)
    both = {row["system"]: row for row in overall.overall(store.board(), task)["systems"]}
    assert set(both) == {"minilm-l6", "minilm-l6 (random start)"}
    assert both["minilm-l6"]["value"] == alone[0]["value"]


def test_what_two_records_tell_of_one_baseline_is_one_entry(tmp_path):
    add(tmp_path, guesses(0.9, 1), "run")
    with schema.database() as engine, engine.connect() as connection:
        row = dict(connection.execute(sa.select(schema.ENTRIES)).mappings().one())
    said = {**row, "id": "a" * 64, "kind": "baseline", "name": "majority", "predictions": None}
    shown = store.board(None, [said, {**said, "run": "another"}])[0]["entries"]
    assert sorted(entry["name"] for entry in shown) == ["majority", "run"]


def test_hiding_a_part_takes_the_task_out_of_normalised_scores_and_no_entry_does(tmp_path, task):
    """References are of the test part: nobody gains or falls to the floor by what is, or is not, predicted of a hidden one."""
    add(tmp_path, guesses(0.9, 1), "first")
    both = {**task, ("p:other", "1"): "vision"}
    assert overall.overall(store.board(), both)["systems"][0]["value"] > 0.4
    truth = tmp_path / "truth.csv"
    truth.write_text("id,target\nh1,pos\nh2,neg\n")
    assert store.hide("sentiment", truth) == 2
    (one,) = store.board()
    assert one["split"] == "hidden"
    assert [(entry["rank"], entry["normalised"]) for entry in one["entries"]] == [(None, None)]
    found = overall.overall([one], both)
    assert found == {"tasks": {"p:other": "vision"}, "systems": []}


def test_declared_contamination_is_flagged_left_out_and_costs_nobody(tmp_path, task):
    add(tmp_path, guesses(0.9, 1), "best", backbone="clean")
    before = overall.overall(store.board(), task)["systems"]
    add(tmp_path, guesses(0.99, 2), "leaked", backbone="leaky", contamination="test texts were in the pretraining set")
    assert ranks() == {"leaked": 1, "best": 1}
    entry = store.board()[0]["entries"][0]
    assert entry["contamination"].startswith("test texts")
    assert overall.overall(store.board(), task)["systems"] == before
    add(tmp_path, guesses(0.9, 1), "best", backbone="clean", contamination="found out later")
    assert {entry["name"] for entry in store.board()[0]["entries"] if entry["contamination"]} == {"best", "leaked"}


def test_a_failed_task_counts_as_the_floor(tmp_path, task):
    add(tmp_path, guesses(0.9, 1), "fine", backbone="a")
    add(tmp_path, guesses(0.9, 2), "broken", backbone="b", status="failed")
    found = {row["system"]: row for row in overall.overall(store.board(), task)["systems"]}
    assert found["b"]["value"] == 0.0
    assert found["a"]["value"] == pytest.approx(1.0, abs=0.1)
    assert overall.overall(store.board(), {**task, ("p:other", "1"): "vision"})["systems"][0]["value"] == found["a"]["value"] / 2


def normalised_order():
    """(normalised scores by name, names in their order) of the board's one table."""
    shown = [entry for entry in store.board()[0]["entries"] if entry["normalised"]]
    return {entry["name"]: entry["normalised"] for entry in shown}, [entry["name"] for entry in shown]


def test_entries_that_come_or_go_change_no_normalised_score_and_no_order(tmp_path, task, monkeypatch):
    """The same entries in every order of arrival, with each of them left out: two of them are equally good."""
    made = {"a": guesses(0.9, 1), "b": guesses(0.8, 2), "d": guesses(0.6, 3)}
    truth = [LABELS[label] for label in np.random.default_rng(5).integers(0, 2, 400)]
    right, wrong = ([n for n in range(400) if (made["b"][n] == truth[n]) == fits] for fits in (True, False))
    made["c"] = list(made["b"])
    for one, other in zip(right[:40], wrong[:40], strict=True):  # as many errors, elsewhere
        made["c"][one], made["c"][other] = made["c"][other], made["c"][one]
        made["c"][one] = "pos" if truth[one] == "neg" else "neg"
        made["c"][other] = truth[other]

    def board_of(names, place):
        monkeypatch.setenv("FMHUB_HOME", str(tmp_path / place))
        for name in names:
            add(tmp_path / place, made[name], name)
        return (*normalised_order(), ranks())

    scores, order, places = board_of("abcd", "whole")
    assert len(order) == 4 and scores["b"]["value"] == scores["c"]["value"]
    for number, names in enumerate(["dcba", "cadb"]):
        assert board_of(names, f"again-{number}") == (scores, order, places)
    for left in "abcd":
        fewer, held, _ = board_of([name for name in "cadb" if name != left], f"without-{left}")
        assert fewer == {name: value for name, value in scores.items() if name != left}
        assert held == [name for name in order if name != left]


def test_each_entry_tells_its_paired_difference_to_the_one_above_and_comparisons_are_made_once(tmp_path, home, monkeypatch):
    from fmhub.leaderboard import pairs

    pairs.KEPT.held.clear()  # what other tests have compared
    for name, accuracy, seed in (("best", 0.9, 1), ("good", 0.8, 2), ("weak", 0.6, 3)):
        add(tmp_path, guesses(accuracy, seed), name)
    shown = store.board()[0]["entries"]
    assert shown[0]["gap"] is None
    for above, entry in itertools.pairwise(shown):
        gap = entry["gap"]
        assert gap["to"] == above["id"]
        assert gap["value"] == pytest.approx(entry["score"]["value"] - above["score"]["value"])
        assert gap["low"] <= gap["value"] <= gap["high"] < 0
    with monkeypatch.context() as patch:
        patch.setattr(pairs, "difference", None)
        patch.setattr(pairs.copies, "agree", None)
        patch.setattr(pairs, "KEPT", fresh := pairs.Kept())
        assert store.board()[0]["entries"] == shown and fresh.held
    for spoilt in ("{", "[]", '{"a": [1e999, 0, 0], "b": "x", "c": [1]}'):
        (home / "cache" / "comparisons.json").write_text(spoilt)
        with monkeypatch.context() as patch:
            patch.setattr(pairs, "KEPT", pairs.Kept())
            assert store.board()[0]["entries"] == shown


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf"), None])
def test_what_is_no_number_never_ranks(tmp_path, wrong):
    truth = np.random.default_rng(1).normal(size=50)
    add(tmp_path, truth + 0.1, "near", metric="mae", target=truth)
    add(tmp_path, truth + 1.0, "far", metric="mae", target=truth)
    add(tmp_path, pa.array([wrong, *truth[1:]], pa.float64()), "odd", metric="mae", target=truth)
    assert ranks() == {"near": 1, "far": 2, "odd": None}


def test_the_front_of_quality_and_cost_is_marked(tmp_path):
    add(tmp_path, guesses(0.9, 1), "good", cost={"train_seconds": 100.0, "latency_ms": 5.0})
    add(tmp_path, guesses(0.8, 2), "quick", cost={"train_seconds": 10.0, "latency_ms": 9.0})
    add(tmp_path, guesses(0.7, 3), "neither", cost={"train_seconds": 20.0, "latency_ms": None})
    fronts = {entry["name"]: entry["front"] for entry in store.board()[0]["entries"]}
    assert fronts == {"good": ["train_seconds", "latency_ms"], "quick": ["train_seconds"], "neither": []}


def test_a_reference_holds_for_its_version_data_and_a_gap_beyond_noise(tmp_path, monkeypatch):
    from types import SimpleNamespace

    declared = SimpleNamespace(name="t", version="1", references=(Reference("accuracy", 0.5, 0.9),))
    monkeypatch.setattr(references.hub, "task", lambda _: (declared, SimpleNamespace(name="p")))
    monkeypatch.setattr(references, "registry", lambda: tmp_path)
    assert references.find("p:t", "1", "f", "accuracy") == declared.references[0]
    assert references.find("p:t", "1", "f", "accuracy", own_data=True) is None
    assert references.find("p:t", "2", "f", "accuracy") is None
    assert references.find("p:t", "1", "f", "auc") is None
    path = tmp_path / "leaderboard" / "p" / "t.json"
    path.parent.mkdir(parents=True)
    held = {"task": {"version": "1"}, "data": {"fingerprint": "f"}, "scores": {"test": {"accuracy": {"low": 0.8, "high": 1.0}}}}
    path.write_text(json.dumps(held))
    assert references.find("p:t", "1", "f", "accuracy") == declared.references[0]
    assert references.find("p:t", "1", "g", "accuracy") is None
    held["scores"]["test"]["accuracy"]["low"] = 0.4
    path.write_text(json.dumps(held))
    assert references.find("p:t", "1", "f", "accuracy") is None


def simulated(times, seed, rows=1):
    """(share of intervals that hold the truth, share of equal systems called different), 200 independent groups of `rows` each."""
    draw, right, apart, metric = np.random.default_rng(seed), 0, 0, metrics.get("accuracy")
    size = 200 * rows
    shared = {"id": [f"r{n}" for n in range(size)], "target": ["a"] * size, "group": np.repeat([f"g{n}" for n in range(200)], rows)}
    for _ in range(times):
        tables = []
        for _ in range(2):
            hit = np.repeat(draw.random(200) < 0.8, rows)  # the rows of a group are right or wrong together
            tables.append({**shared, "prediction": np.where(hit, "a", "b").astype(object)})
        score = evaluate(tables[0], [metric])["accuracy"]
        right += score["low"] <= 0.8 <= score["high"]
        found = difference(*tables, metric, resamples=statistics.RESAMPLES, level=statistics.LEVEL)
        apart += better(found, metric) is not None
    return right / times, apart / times


def test_intervals_cover_and_equal_systems_seldom_differ_roughly():
    covered, apart = simulated(60, 0)
    assert covered >= 0.85
    assert apart <= 0.15


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 3])
def test_intervals_cover_and_equal_systems_seldom_differ(rows):
    """2,000 simulations of 200 independent groups."""
    covered, apart = simulated(2000, 1, rows)
    assert 0.93 <= covered <= 0.97
    assert apart < 0.05


def test_the_commands_compare_and_declare(tmp_path, task, monkeypatch, capsys):
    from fmhub.cli import main

    assert main(["leaderboard", "overall"]) == 0
    assert "frozen references" in capsys.readouterr().out
    monkeypatch.setattr(references, "universe", lambda: task)
    add(tmp_path, guesses(0.9, 1), "fine")
    add(tmp_path, guesses(0.9, 1), "twin")
    assert main(["leaderboard", "overall"]) == 0
    assert "1 tasks of 1 families" in capsys.readouterr().out
    assert main(["leaderboard", "overall", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["systems"][0]["tasks"] == 1
    assert main(["leaderboard", "declare", str(tmp_path / "fine"), "seen in pretraining"]) == 0
    assert main(["leaderboard"]) == 0
    shown = capsys.readouterr().out
    assert "declares contamination: fine: seen in pretraining" in shown and "near-copy of: twin" in shown
