"""What a score is worth: the same predictions in other orders, and the answer that looks at no example."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fmhub.errors import FmhubError
from fmhub.evaluation import baselines, metrics
from fmhub.evaluation.intervals import paired
from fmhub.evaluation.metrics.columns import columns as columns_of
from fmhub.evaluation.metrics.columns import take
from fmhub.runs.folder import read_table
from fmhub.task import Setting
from fmhub.testing.subject import Subject
from fmhub.training.tables import of_split, with_target

ORDERS = 200


@dataclass(frozen=True)
class Chance:
    """A test score, higher is better here, beside `orders`: scores of the same predictions dealt out at random (a permutation test)."""

    value: float
    orders: np.ndarray
    constant: float
    """The score of the best answer that looks at no example; minus infinity where there is none."""
    sign: float

    @property
    def floor(self) -> float:
        """The better of both, in the metric's own direction."""
        return self.sign * max(self.constant, float(np.mean(self.orders)))

    @property
    def deviations(self) -> float:
        """How far above chance the score is, in standard deviations."""
        spread = float(np.std(self.orders))
        above = self.sign * self.value - float(np.mean(self.orders))
        return above / spread if spread > 1e-12 else (0.0 if above < 1e-12 else float("inf"))

    @property
    def beaten(self) -> bool:
        """Better than the floor, and than 95 % of the orders."""
        ours = self.sign * self.value
        return bool(ours > self.sign * self.floor and np.mean(self.orders >= ours) < 0.05)

    def __str__(self) -> str:
        return f"{self.sign * np.mean(self.orders):.3f} +- {np.std(self.orders):.3f}"

    @classmethod
    def of(cls, it: Subject, folder: Path) -> Chance:
        """Of the primary metric on the test part of a run."""
        metric = metrics.get(it.task.metrics[0])
        labels = getattr(it.task.head, "labels", None)
        table = test_columns(it, folder)
        sign = 1.0 if metric.direction == "max" else -1.0
        random = np.random.default_rng(0)
        if it.is_likelihood:  # no order changes it: the network before any training is the floor, and who of both told a row is dealt out
            before = _untrained(it, table)
            ways = [random.integers(0, 2, len(table["id"])).astype(bool) for _ in range(ORDERS)]
            mixed = [{name: np.where(way, table[name], before[name]) for name in metric.reads} for way in ways]
            orders = [sign * metric.score(one, labels) for one in mixed]
            return cls(metric.score(table, labels), np.array(orders), sign * metric.score(before, labels), sign)
        orders = [sign * metric.score(dealt(it, table, random.permutation(len(table["id"]))), labels) for _ in range(ORDERS)]
        return cls(metric.score(table, labels), np.array(orders), sign * _constant(it, metric, labels, table), sign)


def gain(it: Subject, folder: Path, before: Path) -> tuple[float, float]:
    """The 95 % interval of what one run's test score is above another's on the same rows, in the metric's own good direction."""
    metric = metrics.get(it.task.metrics[0])
    found: dict[str, Any] = paired(metric, test_columns(it, folder), test_columns(it, before), getattr(it.task.head, "labels", None))
    ends = [found["low"], found["high"]] if found["low"] is not None else [found["value"]] * 2
    low, high = sorted(float(end) * (1 if metric.direction == "max" else -1) for end in ends)
    return low, high


def _untrained(it: Subject, table: dict[str, Any]) -> dict[str, Any]:
    """What the task's own network says of the same rows before it is trained."""
    rows = it.splits.tables["test"]
    found = columns_of(it.predictions(it.network(), rows))
    place = {name: row for row, name in enumerate(rows["id"].to_pylist())}
    return take(found, np.array([place[name] for name in table["id"]]))


def test_columns(it: Subject, folder: Path) -> dict[str, Any]:
    """The columns of a run's test predictions, with their targets."""
    table = read_table(folder / "predictions.parquet")
    return dict(columns_of(of_split(with_target(table, it.splits.tables.values()), "test")))


def dealt(it: Subject, table: dict[str, Any], order: np.ndarray) -> dict[str, Any]:
    """The predictions of other rows beside each row's target and what else the data say of it (of which slice it is)."""
    own = {"id", "split", "fold", "seed", "group", "target", *it.splits.tables["test"].column_names} - {"prediction", "scores"}
    moved = [name for name in table if name not in own]
    return {**table, **take({name: table[name] for name in moved}, order)}


def _constant(it: Subject, metric: metrics.Metric, labels: Any, table: dict[str, Any]) -> float:
    """The score of the most frequent label or the mean, where targets are such."""
    spec: Any = {"label": baselines.Majority(), "number": baselines.Mean()}.get(metric.kind)
    worst = -np.inf if metric.direction == "max" else np.inf
    if spec is None:
        return float(worst)
    parts = it.splits.tables
    try:
        answers = spec.fit(Setting(train=parts["train"], validation=parts["validation"], head=it.task.head)).predict(parts["test"])
        value = metric.score({**table, **columns_of(answers)}, labels)
    except (FmhubError, ValueError):
        return float(worst)
    return float(value) if np.isfinite(value) else float(worst)
