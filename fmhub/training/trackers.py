"""`--track`: the values of a run in the tracker that its user looks at, through Accelerate; `log.jsonl` is written in any case."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fmhub.errors import UsageError, nearest
from fmhub.home import home, offline

TRACKERS = ("mlflow", "tensorboard", "wandb")
PROJECT = "fmhub"


def check(name: str | None) -> None:
    """Raise `UsageError` where `name` is no tracker, or its package (an extra of fmhub) is not installed."""
    if name is None:
        return
    if name not in TRACKERS:
        raise UsageError(f"--track {name}: unknown tracker.{nearest(name, TRACKERS)} Known: {', '.join(TRACKERS)}.")
    if find_spec(name) is None:
        raise UsageError(f"--track {name} needs the package {name}, which is not installed: pip install 'fmhub[{name}]'")


class Tracker:
    """One run in one tracker. TensorBoard's files lie in the run's folder, the others where they are set up to keep theirs.

    One that fails never harms a run: what it raises is logged as one line, and it is told nothing more.
    """

    def __init__(self, name: str, run: Mapping[str, Any]) -> None:
        """Begin the run `run["id"]`, or go on with it: MLflow, which numbers runs itself, begins another one of that name.

        No socket is opened where `FMHUB_OFFLINE` is set. Raises `UsageError`, see `check`.
        """
        check(name)
        self.name = name
        self._tracker: Any = None
        self._failed = False
        self._safely(lambda: self._begin(run))

    def log(self, title: str, step: int, values: Mapping[str, float]) -> None:
        """Values of one training, each under its name."""
        named = {f"{title}/{key}": float(value) for key, value in values.items()}
        if self.name == "wandb":  # its steps never go back, those of a second seed would be lost
            self._safely(lambda: self._tracker.log({**named, f"{title}/step": step}, step=None))
        else:
            self._safely(lambda: self._tracker.log(named, step=step))

    def scores(self, split: str, scores: Mapping[str, Any]) -> None:
        """The final scores of a split, those that are undefined left out."""
        values = {f"{split}/{metric}": float(score["value"]) for metric, score in scores.items() if score["value"] is not None}
        self._safely(lambda: self._tracker.log(values, step=None if self.name == "wandb" else 0))

    def close(self) -> None:
        self._safely(lambda: self._tracker.finish())

    def _begin(self, run: Mapping[str, Any]) -> None:
        _stay_local(self.name)
        self._tracker = _make(self.name, run)
        self._tracker.start()
        if self.name == "mlflow" or not (Path(run["folder"]) / "log.jsonl").exists():  # a run that goes on has told its settings
            self._tracker.store_init_configuration({"task": run["task"]["name"], **_flat(run["recipe"], "recipe.")})

    def _safely(self, tell: Callable[[], object]) -> None:
        if self._failed:
            return
        try:
            tell()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._failed = True
            why = " ".join(f"{type(error).__name__}: {error}".split())
            logging.getLogger("fmhub").warning("--track %s failed, the run goes on without it: %s", self.name, why[:300])


def _make(name: str, run: Mapping[str, Any]) -> Any:
    from accelerate.tracking import MLflowTracker, TensorBoardTracker, WandBTracker

    if name == "tensorboard":
        return TensorBoardTracker("tensorboard", run["folder"])
    if name == "mlflow":
        return MLflowTracker(PROJECT, run_name=run["id"])
    return WandBTracker(PROJECT, id=run["id"], name=run["id"], resume="allow", dir=run["folder"])


def _stay_local(name: str) -> None:
    if name == "mlflow" and (offline() or not os.environ.get("MLFLOW_TRACKING_URI")):
        home().mkdir(parents=True, exist_ok=True)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{home() / 'mlflow.db'}"
    if offline():
        os.environ.update({"WANDB_MODE": "offline", "MLFLOW_DISABLE_TELEMETRY": "true"})


def _flat(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Nested settings under dotted names, as text, numbers and truths."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value if isinstance(value, bool | int | float | str) else str(value)
    return found
