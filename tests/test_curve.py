"""`--curve`: nested training parts, whole test part, and from which size on LoRA is worth it."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from toy import RECIPE, registered, task, write

from fmhub import api, heads
from fmhub.evaluation import difference, evaluate, metrics
from fmhub.evaluation.baselines import Majority
from fmhub.training.curve import curve_members, worth_from
from fmhub.training.folds import load_rows


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return write(tmp_path / "toy.csv")


def test_training_parts_are_nested_and_the_others_stay_whole(tiny, csv):
    with registered(task(tiny, csv)):
        plan = api.plan("toy", curve=[10, 30, 80], seeds=2)
        rows = load_rows(plan)
        found = curve_members(plan, rows)
    assert len({member.name for member in found}) == 6
    sizes = {size: {*member.splits["train"]["id"].to_pylist()} for member in found for size in [len(member.splits["train"])]}
    assert list(sizes) == [10, 30, 80] and sizes[10] < sizes[30] < sizes[80] < {*rows.parts[0]["train"]["id"].to_pylist()}
    for member in found:
        assert member.splits["test"].equals(rows.parts[0]["test"]) and member.splits["validation"].equals(rows.parts[0]["validation"])


def point(train: int, *gaps: tuple[float, float]) -> dict:
    rows = [{"name": "b", "difference": {"value": sum(gap) / 2, "low": gap[0], "high": gap[1]}} for gap in gaps]
    return {"train": train, "baselines": rows}


@pytest.mark.parametrize(
    ("metric", "points", "expected"),
    [
        ("accuracy", [point(10, (-0.1, 0.1)), point(20, (0.01, 0.2)), point(30, (0.1, 0.2))], 20),
        ("accuracy", [point(10, (0.1, 0.2)), point(20, (-0.1, 0.2)), point(30, (0.1, 0.2))], 30),
        ("accuracy", [point(10, (0.1, 0.2)), point(20, (0.1, 0.2), (-0.1, 0.1))], None),
        ("accuracy", [point(10, (-0.2, -0.1))], None),
        ("mae", [point(10, (-0.2, -0.1)), point(20, (-0.2, -0.1))], 10),
        ("mae", [point(10, (0.1, 0.2))], None),
        ("accuracy", [point(10), point(20)], None),
    ],
)
def test_worth_it_from_where_every_baseline_stays_surely_behind(metric, points, expected):
    assert worth_from(points, metrics.get(metric)) == expected


def test_the_record_holds_the_curve_and_the_predictions_behind_it(tiny, csv, tmp_path, capsys):
    recipe = {"epochs": 8}
    with registered(task(tiny, csv, recipe=RECIPE, baselines=(Majority(),))):
        record = api.run("toy", curve=[10, 40], seeds=2, output=tmp_path / "run", set=recipe)
        alone = api.run("toy", limit=40, seeds=2, set=recipe)
    curve = record["curve"]
    assert [row["train"] for row in curve["points"]] == [10, 40, record["data"]["train"]]
    assert curve["points"][-1]["score"] == record["scores"]["test"]["accuracy"]
    assert curve["points"][1]["score"] == alone["scores"]["test"]["accuracy"], "the same training as with --limit 40"
    assert curve["points"][1]["baselines"][0]["difference"] == alone["baselines"][0]["difference"]
    assert curve["metric"] == "accuracy" and curve["says"] in record["notes"]
    assert (str(curve["worth_from"]) in curve["says"]) if curve["worth_from"] else "not yet" in curve["says"]
    table = pq.read_table(tmp_path / "run" / "curve.parquet")
    tables = {
        name: table.filter((pc.field("train") == 10) & (pc.field("name") == name) & (pc.field("split") == "test"))
        for name in ("", "majority")
    }
    assert evaluate(tables[""], ["accuracy"])["accuracy"] == curve["points"][0]["score"]
    gap = curve["points"][0]["baselines"][0]["difference"]
    assert {key: difference(tables[""], tables["majority"], "accuracy")[key] for key in gap} == gap
    assert record["test_readings"] == 6


def test_without_baselines_nothing_is_claimed(tiny, csv):
    with registered(task(tiny, csv)):
        record = api.run("toy", curve=[20], baseline=False, set={"epochs": 1})
    assert record["curve"]["worth_from"] is None and "without a baseline" in record["curve"]["says"]


def test_a_point_is_found_where_some_rows_are_not_learnt_from(tiny, csv, monkeypatch):
    monkeypatch.setattr(heads.Classification, "learnable", lambda head, encoded: encoded.lengths < 9, raising=False)
    with registered(task(tiny, csv)):
        record = api.run("toy", curve=[20, 40], set={"epochs": 1})
    assert [point["train"] for point in record["curve"]["points"]][:2] == [20, 40]
    assert sum("were not learnt from" in note for note in record["notes"]) == 1
