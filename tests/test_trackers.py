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


def test_offline_nothing_leaves_the_machine(told, tmp_path, home, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://tracking.example")
    trackers.Tracker("mlflow", {**RUN, "folder": str(tmp_path)})
    assert os.environ["MLFLOW_TRACKING_URI"] == "https://tracking.example" and not os.environ["WANDB_MODE"]
    monkeypatch.setenv("FMHUB_OFFLINE", "1")
    trackers.Tracker("mlflow", {**RUN, "folder": str(tmp_path)})
    assert os.environ["MLFLOW_TRACKING_URI"] == f"sqlite:///{home / 'mlflow.db'}"
    assert os.environ["WANDB_MODE"] == "offline" and os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
