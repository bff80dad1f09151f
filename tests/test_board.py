"""The board recomputes, never doubles, keeps unlike data apart and ranks by what a paired bootstrap can tell."""

from __future__ import annotations

import copy
import json
import multiprocessing
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmhub.cli import main
from fmhub.errors import FmhubError, UntrustedFile, UsageError
from fmhub.leaderboard import store
from fmhub.leaderboard.statistics import ranks
from fmhub.runs import folder as run_folder

pytestmark = pytest.mark.usefixtures("unshipped")

LABELS = ["neg", "pos"]
COST = {
    "train_seconds": 61.5, "total_seconds": 80.0, "samples_per_second": 210.4, "peak_memory_bytes": 900 << 20,
    "trainable_parameters": 148_610, "total_parameters": 22_861_826, "adapter_bytes": 600_000, "cpu_seconds": 120.0, "latency_ms": 9.5,
}  # fmt: skip


def predictions(accuracy, *, n=400, seed=0, truth=5):
    """A prediction table whose test part has one truth; right with the given probability."""
    random = np.random.default_rng(seed)
    target = np.random.default_rng(truth).integers(0, 2, n)
    guess = np.where(random.random(n) < accuracy, target, 1 - target)
    return pa.table(
        {
            "id": [f"r{row}" for row in range(n)], "split": ["test"] * n, "fold": pa.array([0] * n, pa.int32()), "seed": [0] * n,
            "group": pa.nulls(n, pa.string()), "prediction": [LABELS[value] for value in guess],
            "scores": [[0.1, 0.9] if value else [0.9, 0.1] for value in guess], "target": [LABELS[value] for value in target],
            "domain": ["tweets" if row % 2 else "news" for row in range(n)], "input": [f"text <b>{row}</b>" for row in range(n)],
        }
    )  # fmt: skip


def make_run(folder: Path, table, *, run="sentiment-1", baselines=None, claimed=0.999, status="done", **changes) -> Path:
    """A run's folder as `fmhub run` leaves it; its record claims a score that is not so."""
    task = {"name": "sentiment", "version": "1", "plugin": "fmhub-text", "plugin_version": "0.1.0", "family": "text"}
    plan = {
        "id": run, "started": "2026-11-24T01:00:00Z", "task": task, "backbone": {"name": "minilm-l6", "sha256": "ab" * 32},
        "data": {"fingerprint": "f" * 64, "train": 2048, "validation": 100, "test": 400}, "recipe": {"epochs": 3.0, "lr": 0.003, "seed": 0},
        "stem": {"kind": "fmhub.stems:Text"}, "head": {"kind": "fmhub.heads:Classification", "labels": LABELS},
        "metrics": ["f1_macro", "accuracy", "auc"], "baselines": list(baselines or ()), "options": {"seeds": 1, "folds": 0},
    }  # fmt: skip
    for key, value in changes.items():
        plan[key] = {**plan[key], **value} if isinstance(value, dict) else value
    score = {"value": claimed, "low": claimed, "high": claimed, "n": 400}
    record = {
        **{key: plan[key] for key in ("id", "started", "task", "backbone", "data", "recipe")}, "status": status, "seed": 0, "seeds": 1,
        "scores": {"test": {"f1_macro": score, "accuracy": score, "auc": score}}, "primary": "f1_macro", "normalised": None,
        "baselines": [{"name": name, "scores": {"test": {"f1_macro": score}}, "difference": None} for name in baselines or ()],
        "folds": None, "groups": None, "privacy": None, "cost": COST, "environment": {"python": "3.11"}, "test_readings": 1, "notes": [],
    }  # fmt: skip
    run_folder.write_json(folder / "plan.json", plan)
    if status == "done":
        run_folder.write_json(folder / "run.json", record)
    else:
        run_folder.write_status(folder, status)
    if table is not None:
        run_folder.write_table(folder / "predictions.parquet", table)
    for name, rows in (baselines or {}).items():
        run_folder.write_table(run_folder.baseline_file(folder, name), rows)
    return folder


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "one", predictions(0.9), baselines={"majority": predictions(0.5, seed=3)})


def test_a_claimed_score_is_never_taken(run):
    store.add(run)
    ours, baseline = store.board()[0]["entries"]
    assert ours["score"]["value"] == pytest.approx(0.9, abs=0.04)
    assert baseline["score"]["value"] == pytest.approx(0.5, abs=0.06)
    for entry in (ours, baseline):
        for score in entry["scores"]["test"].values():
            assert score["low"] <= score["value"] <= score["high"]
            assert score["n"] == 400


def test_an_entry_says_what_it_is_and_cost(run):
    store.add(run)
    table = store.board()[0]
    assert (table["task"], table["version"], table["metric"], table["direction"]) == ("fmhub-text:sentiment", "1", "f1_macro", "max")
    ours, baseline = table["entries"]
    assert (ours["rank"], ours["kind"], ours["name"], ours["backbone"]) == (1, "run", "sentiment-1", "minilm-l6")
    assert ours["cost"] == COST
    assert set(ours["hashes"]) == {"plan.json", "predictions.parquet"}
    assert (baseline["rank"], baseline["kind"], baseline["name"], baseline["cost"]) == (2, "baseline", "majority", None)


def test_adding_again_changes_nothing(run):
    first = store.add(run)
    before = store.board()
    assert store.add(run) == first
    assert store.board() == before


def test_a_baseline_that_predicts_the_same_is_one_entry(tmp_path):
    same = predictions(0.5, seed=3)
    for name in ("a", "b"):
        store.add(make_run(tmp_path / name, predictions(0.9), run=name, baselines={"majority": same}))
    store.add(make_run(tmp_path / "c", predictions(0.9), run="c", baselines={"majority": predictions(0.6, seed=4)}))
    assert sorted(entry["name"] for entry in store.board()[0]["entries"]) == ["a", "b", "c", "majority", "majority"]


def test_the_folder_may_go_and_the_entry_stays(run, tmp_path):
    import shutil

    store.add(run)
    shutil.rmtree(run)
    store.add(make_run(tmp_path / "two", predictions(0.6, seed=9), run="two"))
    assert [entry["name"] for entry in store.board()[0]["entries"]] == ["sentiment-1", "two", "majority"]


@pytest.mark.parametrize("change", [{"task": {"version": "2"}}, {"data": {"fingerprint": "e" * 64}}])
def test_other_versions_and_data_never_share_a_table(run, tmp_path, change):
    store.add(run)
    store.add(make_run(tmp_path / "two", predictions(0.9), run="two", **change))
    assert [[entry["name"] for entry in table["entries"]] for table in store.board()] in (
        [["sentiment-1", "majority"], ["two"]],
        [["two"], ["sentiment-1", "majority"]],
    )


def test_entries_that_cannot_be_told_apart_share_a_rank(tmp_path):
    for name, accuracy, seed in (("best", 0.92, 1), ("twin", 0.92, 2), ("weak", 0.7, 2), ("weaker", 0.69, 3)):
        store.add(make_run(tmp_path / name, predictions(accuracy, seed=seed), run=name))
    entries = store.board()[0]["entries"]
    assert {entry["name"]: entry["rank"] for entry in entries} == {"best": 1, "twin": 1, "weak": 3, "weaker": 3}
    values = [entry["score"]["value"] for entry in entries]
    assert values == sorted(values, reverse=True)


def test_of_an_error_the_lowest_ranks_first(tmp_path):
    random = np.random.default_rng(0)
    target = random.normal(size=400)
    for name, noise in (("far", 1.0), ("near", 0.1)):
        table = predictions(0.5).drop_columns(["scores", "prediction", "target"])
        table = table.append_column("prediction", pa.array(target + noise * random.normal(size=400))).append_column(
            "target", pa.array(target)
        )
        store.add(make_run(tmp_path / name, table, run=name, metrics=["mae"], head={"labels": None}))
    table = store.board()[0]
    assert table["direction"] == "min"
    assert [(entry["rank"], entry["name"]) for entry in table["entries"]] == [(1, "near"), (2, "far")]


@pytest.mark.parametrize(
    ("table", "options", "reason"),
    [
        (predictions(0.99, n=300), {}, "300 of 400"),
        (predictions(0.99), {"status": "failed"}, "the run is failed"),
        (None, {"status": "stopped"}, "the run is stopped"),
        (predictions(0.99, truth=6), {}, "not those of this table"),
        (predictions(0.99), {"metrics": ["own"]}, "not known here"),
        (predictions(0.99), {"metrics": ["accuracy"]}, "ranked by accuracy"),
    ],
)
def test_what_cannot_be_ranked_is_shown_with_the_reason(run, tmp_path, table, options, reason):
    store.add(run)
    store.add(make_run(tmp_path / "odd", table, run="odd", **options))
    entries = store.board()[0]["entries"]
    assert [entry["rank"] for entry in entries] == [1, 2, None]
    assert entries[-1]["name"] == "odd"
    assert reason in entries[-1]["problem"]


def test_scores_that_are_not_numbers_do_not_rank(run, tmp_path):
    store.add(run)
    table = predictions(0.9)
    broken = table.set_column(table.schema.get_field_index("scores"), "scores", pa.array([[float("nan"), 1.0]] * 400))
    store.add(make_run(tmp_path / "nan", broken, run="nan"))
    entry = store.board()[0]["entries"][-1]
    assert entry["rank"] is None
    assert "r0" in entry["problem"]


def test_an_undefined_score_does_not_rank(tmp_path):
    table = predictions(0.9)
    one = table.set_column(table.schema.get_field_index("target"), "target", pa.array(["pos"] * 400))
    store.add(make_run(tmp_path / "one", one, metrics=["auc"]))
    assert "undefined" in store.board()[0]["entries"][0]["problem"]


def test_a_folder_that_is_no_run_is_refused(tmp_path, run):
    with pytest.raises(UntrustedFile, match="missing"):
        store.add(tmp_path / "nowhere")
    run_folder.write_table(run / "predictions.parquet", pa.table({"id": ["a"]}))
    with pytest.raises(UntrustedFile, match="no prediction table"):
        store.add(run)
    (run / "predictions.parquet").write_bytes(b"PAR1 nonsense PAR1")
    with pytest.raises(UntrustedFile, match="cannot be read"):
        store.add(run)


def test_a_table_of_one_task_by_full_or_bare_name(run):
    store.add(run)
    assert store.board("sentiment") == store.board("fmhub-text:sentiment") == store.board()
    with pytest.raises(UsageError, match="Did you mean sentiment"):
        store.board("sentimnt")


def test_the_board_needs_no_torch():
    code = (
        "import sys; from fmhub.leaderboard import store; store.board(); print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_an_empty_board_is_an_empty_list():
    assert store.board() == []


def test_the_database_is_durable_and_a_broken_one_is_named(run, home):
    store.add(run)
    with sqlite3.connect(home / "board.sqlite") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    for file in home.glob("board.sqlite*"):
        file.write_bytes(b"not a database, but long enough to look like a header " * 100)
    with pytest.raises(FmhubError, match="database refused"):
        store.board()


def test_another_database_by_url(run, tmp_path, monkeypatch):
    monkeypatch.setenv("FMHUB_DATABASE", f"sqlite:///{tmp_path / 'other.db'}")
    store.add(run)
    assert (tmp_path / "other.db").is_file()
    monkeypatch.setenv("FMHUB_DATABASE", "nonsense://")
    with pytest.raises(FmhubError, match="FMHUB_DATABASE"):
        store.board()


def _add(folder: str) -> None:
    store.add(folder)


def test_several_processes_add_at_once_and_nothing_is_lost_or_doubled(tmp_path):
    shared = predictions(0.5, seed=3, n=400)
    folders = [str(make_run(tmp_path / f"r{i}", predictions(0.9, seed=i), run=f"r{i}", baselines={"majority": shared})) for i in range(6)]
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        pool.map(_add, folders * 2)
    assert sorted(entry["name"] for entry in store.board()[0]["entries"]) == ["majority", *(f"r{i}" for i in range(6))]


@given(values=st.lists(st.integers(0, 30), max_size=20), gap=st.integers(0, 5))
def test_ranks_are_positions_of_group_leaders(values, gap):
    ordered = sorted(values, reverse=True)
    found = ranks(ordered, lambda best, other: best - other > gap)
    assert len(found) == len(ordered)
    assert found == sorted(found)
    for place, (value, rank) in enumerate(zip(ordered, found, strict=True), start=1):
        assert rank <= place
        assert ordered[rank - 1] - value <= gap
        assert rank == place or found[rank - 1] == rank


def test_the_command_prints_a_table_or_json_alone(run, tmp_path, capsys):
    assert main(["leaderboard"]) == 0
    assert "empty" in capsys.readouterr().out
    store.add(run)
    store.add(make_run(tmp_path / "cut", predictions(0.9, n=10), run="cut"))
    assert main(["leaderboard", "sentiment"]) == 0
    shown = capsys.readouterr().out
    assert "f1_macro, higher is better" in shown
    assert "148,610" in shown
    assert "baseline" in shown
    assert "not ranked: cut: it predicts 10 of 400 test examples" in shown
    assert main(["leaderboard", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == store.board()
    assert main(["leaderboard", "sentimint"]) == 2
    assert "Did you mean" in capsys.readouterr().err


def test_the_record_is_not_changed(run):
    before = copy.deepcopy(run_folder.read_record(run))
    store.add(run)
    assert run_folder.read_record(run) == before
