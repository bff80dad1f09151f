"""What a prediction table is worth: metrics, intervals, paired differences and classical baselines.

Everything here reads the table that is written to `predictions.parquet` (id, split, fold, seed, group, prediction,
scores, target) and nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fmhub.evaluation.metrics import Metric

if TYPE_CHECKING:
    from fmhub.evaluation import baselines
    from fmhub.evaluation.scoring import better, difference, evaluate, slices

__all__ = ["Metric", "baselines", "better", "difference", "evaluate", "slices"]


def __getattr__(name: str) -> Any:
    """The functions load numpy when they are first named, so that a plugin may import this room lightly."""
    if name == "baselines":
        return importlib.import_module("fmhub.evaluation.baselines")
    if name in ("better", "difference", "evaluate", "slices"):
        return getattr(importlib.import_module("fmhub.evaluation.scoring"), name)
    raise AttributeError(f"module 'fmhub.evaluation' has no attribute {name!r}")
