"""`--track`: what log.jsonl holds is in the tracker, too; one that is absent is named with its extra."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fmhub.errors import UsageError
from fmhub.training import trackers


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_holds_what_the_log_holds(tiny: Path, reviews: Path, home: Path):
    from fmhub import api

    options: dict[str, Any] = {"data": str(reviews), "columns": {"text": "review", "label": "stars"}, "baseline": False, "seeds": 2}
    record = api.run("text-classification", backbone=str(tiny), set={"epochs": 2, "batch": 16}, track="tensorboard", **options)
    folder = home / "runs" / record["id"]
    found = scalars(folder / "tensorboard")
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert {row["member"] for row in rows} == {"seed-0", "seed-1"}
    for row in rows:
        for name in ("loss", "validation", "lr"):
            if name in row:
                assert (row["step"], pytest.approx(row[name], rel=1e-5)) in found[f"{row['member']}/{name}"]
    for metric, score in record["scores"]["test"].items():
        assert found[f"test/{metric}"] == [(0, pytest.approx(score["value"], rel=1e-6))]
    assert "track" not in json.loads((folder / "plan.json").read_text())["options"]


@pytest.mark.parametrize("name", trackers.TRACKERS)
def test_an_absent_tracker_is_named_with_its_extra_before_anything_runs(name, tiny, reviews, home, monkeypatch):
    from fmhub import api

    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as error:
        api.run("text-classification", backbone=str(tiny), data=str(reviews), track=name)
    assert str(error.value) == f"--track {name} needs the package {name}, which is not installed: pip install 'fmhub[{name}]'"
    assert not home.exists()


def test_an_unknown_tracker_is_met_with_the_nearest():
    with pytest.raises(UsageError, match=r"unknown tracker. Did you mean tensorboard\? Known: mlflow, tensorboard, wandb"):
        trackers.check("tensorbord")
    trackers.check(None)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What a stand-in for the tracker of wandb or mlflow was told."""
    said: list[tuple[Any, ...]] = []

    def make(name: str, run: Any) -> SimpleNamespace:
        return SimpleNamespace(
            start=lambda: said.append(("start",)),
            store_init_configuration=lambda values: said.append(("settings", values)),
            log=lambda values, step: said.append(("log", values, step)),
            finish=lambda: said.append(("finish",)),
        )

    monkeypatch.setattr(trackers, "_make", make)
    monkeypatch.setattr(trackers, "find_spec", lambda name: object())
    for name in ("WANDB_MODE", "MLFLOW_TRACKING_URI", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "")
    return said


RUN: dict[str, Any] = {"id": "x-1", "task": {"name": "x"}, "recipe": {"lr": 0.1, "lora": {"rank": 8, "targets": ["all"]}}}


def test_steps_of_a_second_seed_are_not_lost(told, tmp_path):
    for name, step in (("mlflow", 3), ("wandb", None)):
        told.clear()
        tracker = trackers.Tracker(name, {**RUN, "folder": str(tmp_path)})
        tracker.log("seed-1", 3, {"loss": 0.5})
        tracker.scores("test", {"accuracy": {"value": 0.9, "low": 0.8, "high": 1.0, "n": 9}})
        tracker.close()
        extra = {} if step else {"seed-1/step": 3}
        assert told == [
            ("start",),
            ("settings", {"task": "x", "recipe.lr": 0.1, "recipe.lora.rank": 8, "recipe.lora.targets": "['all']"}),
            ("log", {"seed-1/loss": 0.5, **extra}, step),
            ("log", {"test/accuracy": 0.9}, 0 if step else None),
            ("finish",),
        ]


def test_a_resumed_run_tells_its_settings_once(told, tmp_path):
    (tmp_path / "log.jsonl").touch()
    trackers.Tracker("wandb", {**RUN, "folder": str(tmp_path)})
    assert told == [("start",)]


def test_mlflow_which_begins_another_run_is_told_the_settings_of_a_resumed_one(told, tmp_path):
    (tmp_path / "log.jsonl").touch()
    trackers.Tracker("mlflow", {**RUN, "folder": str(tmp_path)})
    assert [what for what, *_ in told] == ["start", "settings"]


def test_undefined_scores_are_left_out(told, tmp_path):
    tracker = trackers.Tracker("mlflow", {**RUN, "folder": str(tmp_path)})
    tracker.scores("test", {"auc": {"value": None, "low": None, "high": None, "n": 9}, "mae": {"value": 0.5}})
    assert told[-1] == ("log", {"test/mae": 0.5}, 0)


FAILURES = [ConnectionError("the server is gone\nand will not be back"), OSError(28, "No space left on device"), SystemExit(3)]


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", ["start", "store_init_configuration", "log", "finish"])
def test_a_tracker_that_fails_is_named_once_and_told_nothing_more(told, where, error, tmp_path, monkeypatch, caplog):
    make = trackers._make

    def fail(*arguments, **named):
        told.append(("failed",))
        raise error

    monkeypatch.setattr(trackers, "_make", lambda name, run: SimpleNamespace(**{**vars(make(name, run)), where: fail}))
    tracker = trackers.Tracker("wandb", {**RUN, "folder": str(tmp_path)})
    for step in (1, 2):
        tracker.log("seed-1", step, {"loss": 0.5})
    tracker.scores("test", {"accuracy": {"value": 0.9}})
    tracker.close()
    tracker.close()
    (line,) = caplog.messages
    assert line.startswith(f"--track wandb failed, the run goes on without it: {type(error).__name__}: ") and "\n" not in line
    assert told[-1] == ("failed",)


def test_a_tracker_that_cannot_be_made_is_named_and_ctrl_c_still_stops(told, tmp_path, monkeypatch, caplog):
    def make(name, run):
        raise ImportError("a broken installation")

    monkeypatch.setattr(trackers, "_make", make)
    trackers.Tracker("wandb", {**RUN, "folder": str(tmp_path)}).close()
    assert caplog.messages == ["--track wandb failed, the run goes on without it: ImportError: a broken installation"]

    def interrupt(values, step):
        raise KeyboardInterrupt

    monkeypatch.setattr(trackers, "_make", lambda name, run: SimpleNamespace(start=list, store_init_configuration=len, log=interrupt))
    with pytest.raises(KeyboardInterrupt):
        trackers.Tracker("wandb", {**RUN, "folder": str(tmp_path)}).log("seed-1", 1, {})


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("gone", [False, True])
def test_a_run_whose_scores_are_undefined_or_whose_tracker_fails_is_complete(tiny, home, tmp_path, monkeypatch, caplog, gone):
    from fmhub import api

    rows, test = tmp_path / "rows.csv", tmp_path / "test.csv"
    rows.write_text("text,target\n" + "".join(f"good film {number},{number % 5}\n" for number in range(40)))
    test.write_text("text,target\n" + "bad film,2\n" * 5)
    if gone:
        monkeypatch.setattr("accelerate.tracking.TensorBoardTracker.log", lambda *_, **__: 1 / 0)
    options: dict[str, Any] = {"data": str(rows), "test": str(test), "baseline": False, "set": {"epochs": 1, "batch": 16}}
    record = api.run("text-regression", backbone=str(tiny), track="tensorboard", **options)
    undefined = {metric for metric, score in record["scores"]["test"].items() if score["value"] is None}
    folder = home / "runs" / record["id"]
    assert undefined and (folder / "run.json").is_file()
    found = {tag for tag in scalars(folder / "tensorboard") if tag.startswith("test/")}
    assert found == (set() if gone else {f"test/{metric}" for metric in record["scores"]["test"].keys() - undefined})
    assert len([line for line in caplog.messages if line.startswith("--track tensorboard failed")]) == gone


def test_offline_nothing_leaves_the_machine(told, tmp_path, home, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://tracking.example")
    trackers.Tracker("mlflow", {**RUN, "folder": str(tmp_path)})
    assert os.environ["MLFLOW_TRACKING_URI"] == "https://tracking.example" and not os.environ["WANDB_MODE"]
    monkeypatch.setenv("FMHUB_OFFLINE", "1")
    trackers.Tracker("mlflow", {**RUN, "folder": str(tmp_path)})
    assert os.environ["MLFLOW_TRACKING_URI"] == f"sqlite:///{home / 'mlflow.db'}"
    assert os.environ["WANDB_MODE"] == "offline" and os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
