"""`--folds`: every row tested once by an adapter that never saw it, nothing mixed that must not be, one adapter refitted on all."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file
from toy import Trap, registered, same_end, task, write

from fmhub import api, data, heads
from fmhub.errors import Stopped, UsageError
from fmhub.leaderboard import again, store
from fmhub.training.folds import GIVEN, load_rows, settle_labels


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return write(tmp_path / "toy.csv")


def rows_of(one, **options):
    with registered(one):
        return load_rows(api.plan("toy", **options))


def ids(table: pa.Table) -> list[str]:
    return table["id"].to_pylist()


@pytest.mark.parametrize("folds", [2, 3, 7])
def test_every_row_is_tested_once_and_never_by_a_network_that_saw_it(tiny, csv, folds):
    rows = rows_of(task(tiny, csv), folds=folds)
    assert len(rows.parts) == folds
    assert sorted(name for part in rows.parts for name in ids(part["test"])) == sorted(ids(rows.whole)) and len(rows.whole) == 160
    for part in rows.parts:
        assert not {*ids(part["train"]), *ids(part["validation"])} & {*ids(part["test"])}
        assert not {*ids(part["train"])} & {*ids(part["validation"])}
        assert len(part["train"]) + len(part["validation"]) + len(part["test"]) == 160
        share = Counter(part["test"]["target"].to_pylist())["up"] / len(part["test"])
        whole = Counter(rows.whole["target"].to_pylist())["up"] / 160
        assert share == pytest.approx(whole, abs=0.06), "stratified"
    assert rows.counts["test"] == 160


@pytest.mark.parametrize(("column", "options"), [("document", {"groups": "document"}), ("group", {})])
def test_a_group_never_crosses_a_fold(tiny, csv, column, options):
    roles = {"group": "document"} if column == "group" else {}
    one = task(tiny, csv, data=data.csv(str(csv), text="text", label="label", split=data.Random(), **roles))
    rows = rows_of(one, folds=4, **options)
    for part in rows.parts:
        seen = [set(part[name][column].to_pylist()) for name in ("train", "validation", "test")]
        assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])


def test_folds_do_not_depend_on_the_seed_and_have_a_fingerprint_of_their_own(tiny, csv):
    one = task(tiny, csv)
    plain, three, again, four = (rows_of(one, **options) for options in ({}, {"folds": 3}, {"folds": 3, "seed": 9}, {"folds": 4}))
    assert three.fingerprint == again.fingerprint
    assert len({plain.fingerprint, three.fingerprint, four.fingerprint}) == 3


def test_a_test_part_that_the_data_declare_stays_out_of_the_folds(tiny, csv, tmp_path):
    held = write(tmp_path / "held.csv", rows=24, seed=5)
    given = data.csv({"train": str(csv), "test": str(held)}, text="text", label="label")
    rows = rows_of(task(tiny, csv, data=given), folds=3)
    assert len(rows.whole) == rows.counts["test"] == 160 and len(rows.parts[0][GIVEN]) == 24
    outside = set(ids(rows.parts[0][GIVEN]))
    assert not any(outside & set(ids(part[name])) for part in rows.parts for name in ("train", "validation", "test"))


def test_past_and_future_are_not_mixed(tiny, csv):
    by_time = data.csv(str(csv), text="text", label="label", time="year", split=data.Temporal(cutoffs=(2001, 2002)))
    with pytest.raises(UsageError, match="split by time"):
        rows_of(task(tiny, csv, data=by_time), folds=3)


def test_limit_cuts_the_training_part_of_every_fold(tiny, csv):
    rows = rows_of(task(tiny, csv), folds=3, limit=20)
    assert [len(part["train"]) for part in rows.parts] == [20] * 3 and rows.counts["test"] == 160
    assert len(rows.whole) == 160, "labels are known from all rows"


def test_labels_are_those_of_all_rows(tiny, tmp_path):
    path = write(tmp_path / "toy.csv")
    path.write_text(path.read_text() + "the film,rare,r1,a,2000\nthe film,rare,r1,a,2000\n")
    one = task(tiny, path, data=data.csv(str(path), text="text", label="label", group="document", split=data.KFold(k=3)))
    rows = rows_of(one, folds=3)
    assert settle_labels(one, rows).head.labels == ("down", "rare", "up")
    assert any("rare" not in part["train"]["target"].to_pylist() for part in rows.parts)
    with registered(one):
        record = api.run("toy", folds=3, set={"epochs": 1})
    assert record["scores"]["test"]["accuracy"]["n"] == 162


def test_a_cross_validated_run_has_one_score_a_refit_and_baselines_on_the_same_rows(tiny, csv, tmp_path):
    with registered(task(tiny, csv)):
        record = api.run("toy", folds=3, output=tmp_path / "run")
        plain = api.run("toy", set={"epochs": 1})
        tables = {table["fingerprint"]: table for table in store.board("toy")}
    test = pq.read_table(tmp_path / "run" / "predictions.parquet").to_pandas().query("split == 'test'")
    assert len(test) == test["id"].nunique() == 160 and set(test["fold"]) == {0, 1, 2}
    score = record["scores"]["test"]["accuracy"]
    assert score["value"] == pytest.approx((test["prediction"] == test["target"]).mean())
    assert score["n"] == 160 and score["low"] < score["value"] < score["high"]
    folds = record["folds"]
    assert folds["count"] == 3 and folds["score"] == "pooled" and len(folds["each"]) == 3
    for one in folds["each"]:
        part = test[test["fold"] == one["fold"]]
        assert one["value"] == pytest.approx((part["prediction"] == part["target"]).mean()) and one["test"] == len(part)
    majority = pq.read_table(tmp_path / "run" / "baselines" / "majority.parquet").to_pandas().query("split == 'test'")
    assert dict(zip(majority["id"], majority["fold"], strict=True)) == dict(zip(test["id"], test["fold"], strict=True))
    assert majority.groupby("fold")["prediction"].nunique().eq(1).all(), "one answer a fold, fitted on its rest"
    epochs = sum(one["best_step"] / -(-one["train"] // 16) for one in folds["each"]) / 3
    assert folds["refit"]["epochs"] == pytest.approx(epochs) and folds["refit"]["train"] == 160
    assert folds["refit"]["steps"] == round(epochs * 10) == record["saved"]["step"]
    assert record["saved"]["member"] == "refit" and record["test_readings"] == 3
    assert json.loads((tmp_path / "run" / "adapter" / "adapter.json").read_text())["meta"]["recipe"]["epochs"] == pytest.approx(epochs)
    assert {"prediction", "scores"} == api.load(record["id"]).predict(["a good day"])[0].keys()
    assert tables.keys() == {record["data"]["fingerprint"], plain["data"]["fingerprint"]}, "a board of its own"
    assert not any(entry["problem"] for table in tables.values() for entry in table["entries"])


def test_folds_share_the_cached_prefix_and_give_what_they_give_without_it(tiny, csv, tmp_path, monkeypatch, capsys):
    options = {"folds": 3, "set": {"lora.layers": "last:1"}, "baseline": False, "quiet": False}
    with registered(task(tiny, csv)):
        cached = api.run("toy", output=tmp_path / "cached", **options)
        assert capsys.readouterr().err.count("frozen layers once for 160 examples") == 1
        monkeypatch.setenv("FMHUB_CACHE_LIMIT", "0")
        plain = api.run("toy", output=tmp_path / "plain", **options)
    left, right = (load_file(tmp_path / name / "adapter" / "adapter.safetensors") for name in ("cached", "plain"))
    assert max(float((left[name] - right[name]).abs().max()) for name in left) < 0.02
    assert cached["scores"]["test"]["accuracy"]["value"] == pytest.approx(plain["scores"]["test"]["accuracy"]["value"], abs=0.05)


def test_a_declared_test_part_is_scored_by_every_fold_and_a_limit_holds_for_the_refit_too(tiny, csv, tmp_path):
    held = write(tmp_path / "held.csv", rows=24, seed=5)
    given = data.csv({"train": str(csv), "test": str(held)}, text="text", label="label")
    with registered(task(tiny, csv, data=given)):
        record = api.run("toy", folds=3, limit=30, set={"epochs": 1})
    assert record["scores"][GIVEN]["accuracy"]["n"] == 24 and record["scores"]["test"]["accuracy"]["n"] == 160
    assert GIVEN in record["baselines"][0]["scores"]
    assert record["folds"]["refit"]["train"] == 30 == record["data"]["train"]


def test_an_interrupted_cross_validation_goes_on_at_its_fold(tiny, csv, tmp_path, monkeypatch):
    with registered(replace(task(tiny, csv), baselines=())):
        api.run("toy", folds=3, output=tmp_path / "whole")
        with monkeypatch.context() as patched:
            Trap(patched, 40, KeyboardInterrupt())
            with pytest.raises(Stopped):
                api.run("toy", folds=3, output=tmp_path / "cut")
        assert (tmp_path / "cut" / "checkpoints" / "seed-0-fold-0" / "result.json").is_file()
        monkeypatch.chdir("/")
        api.run("toy", resume=tmp_path / "cut")
        assert same_end(tmp_path / "whole", tmp_path / "cut")


def test_a_task_whose_rows_are_few_is_always_cross_validated(tiny, csv, tmp_path):
    one = task(tiny, csv, data=data.csv(str(csv), text="text", label="label", group="document", split=data.KFold(k=4, always=True)))
    by_hand, plain = (rows_of(one, **options) for options in ({"folds": 4}, {}))
    assert plain.fingerprint == by_hand.fingerprint and plain.counts["test"] == 160 and len(plain.parts) == 4
    assert len(rows_of(one, folds=2).parts) == 2 and len(rows_of(one, curve=(20, 40)).parts) == 1
    assert rows_of(one, groups="group").fingerprint == plain.fingerprint, "scores are shown by a column, the folds stay"
    with registered(one):
        record = api.run("toy", set={"epochs": 1}, baseline=False, output=tmp_path / "run")
        stored = json.loads((tmp_path / "run" / "plan.json").read_text())
        assert stored["folds"] == 4 and stored["options"]["folds"] is None, "the task as it is declared"
        with pytest.raises(UsageError, match="cross-validated"):
            again._rerun(tmp_path / "run", {"name": "toy"})
    assert record["folds"]["count"] == 4 and record["scores"]["test"]["accuracy"]["n"] == 160


def test_rows_that_nothing_is_learnt_from_are_the_same_ones_after_a_resume(tiny, csv, tmp_path, monkeypatch):
    monkeypatch.setattr(heads.Classification, "learnable", lambda head, encoded: encoded.lengths < 9, raising=False)
    options = {"folds": 3, "set": {"epochs": 2, "keep": "last"}, "baseline": False}
    with registered(task(tiny, csv)):
        whole = api.run("toy", output=tmp_path / "whole", **options)
        assert all(one["train"] < 90 for one in whole["folds"]["each"]), "some are left out"
        with monkeypatch.context() as patched:
            steps = sum(-(-one["train"] // 16) for one in whole["folds"]["each"]) * 2
            Trap(patched, steps + 1, KeyboardInterrupt())  # in the refit
            with pytest.raises(Stopped):
                api.run("toy", output=tmp_path / "cut", **options)
        cut = api.run("toy", resume=tmp_path / "cut")
    assert cut["folds"] == whole["folds"] and same_end(tmp_path / "whole", tmp_path / "cut")
