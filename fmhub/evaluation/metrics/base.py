"""What a metric is. Standard library only: a plugin may build a `Metric` at import time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np

Columns: TypeAlias = Mapping[str, Any]
"""Columns of a prediction table as numpy arrays, all of n rows: `prediction`, `target` and, where there are any, `scores` (n, labels)."""
Labels: TypeAlias = Sequence[str] | None


@dataclass(frozen=True)
class Metric:
    """A pure function of predictions and targets, with what is needed to compare and to resample it.

    Only `name` and `score` are required. Without `statistics` or `resample` every bootstrap resample calls `score` once.
    """

    name: str
    score: Callable[[Columns, Labels], float]
    """The value over n >= 1 rows; NaN where it is undefined (AUC of one class). Raises `DataError` for unusable rows."""
    direction: Literal["max", "min"] = "max"
    low: float = float("-inf")
    high: float = float("inf")
    unit: str = ""
    title: str = ""
    reads: tuple[str, ...] = ("prediction", "target")
    kind: Literal["label", "number", "other"] = "other"
    """What `prediction` and `target` hold: label strings, floats, or something of the plugin's own."""
    statistics: Callable[[Columns, Labels], np.ndarray] | None = None
    """(n, k) float64, one row an example, whose sums decide the value."""
    combine: Callable[[np.ndarray], np.ndarray] | None = None
    """(..., k) sums of `statistics` over any multiset of rows -> (...) values."""
    resample: Callable[[Columns, Labels], Callable[[np.ndarray], np.ndarray]] | None = None
    """For a metric that does not decompose: prepares once, then (b, n) counts of rows -> (b,) values."""

    def better(self, difference: float) -> bool:
        """Whether `ours - theirs` of this size means that ours is better."""
        return difference > 0 if self.direction == "max" else difference < 0
