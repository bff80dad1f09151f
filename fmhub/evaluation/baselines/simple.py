"""Baselines that look at no example: the floor of every task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from fmhub.task import Setting


def label_names(setting: Setting) -> list[str]:
    """The labels in the order of the scores: the head's, or the sorted ones of the training rows."""
    named = getattr(setting.head, "labels", None)
    return [str(label) for label in named or sorted({str(value) for value in setting.train["target"].to_pylist()})]


@dataclass(frozen=True)
class Majority:
    """Always the most frequent training label; its scores are the training frequencies."""

    name: str = "majority"

    def fit(self, setting: Setting) -> Always:
        """Of labels that are equally frequent the first of the head's order is taken."""
        seen = [str(value) for value in setting.train["target"].to_pylist()]
        labels = label_names(setting)
        shares = [seen.count(label) / len(seen) for label in labels]
        return Always(labels[shares.index(max(shares))], tuple(shares))


@dataclass(frozen=True)
class Mean:
    """Always the mean of the training targets."""

    name: str = "mean"

    def fit(self, setting: Setting) -> Always:
        """Raises ValueError where a target is no number."""
        values = [float(value) for value in setting.train["target"].to_pylist()]
        return Always(sum(values) / len(values))


@dataclass(frozen=True)
class Always:
    """One answer for every row."""

    answer: str | float
    scores: tuple[float, ...] = ()

    def predict(self, rows: pa.Table) -> dict[str, Any]:
        """`prediction` and, for labels, `scores`."""
        columns: dict[str, Any] = {"prediction": [self.answer] * len(rows)}
        return {**columns, "scores": [list(self.scores)] * len(rows)} if self.scores else columns
