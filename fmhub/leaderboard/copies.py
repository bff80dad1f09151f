"""Near-copies: entries whose predictions agree beyond what two trainings of one recipe show."""

from __future__ import annotations

from typing import Any

import numpy as np

FEWEST = 20
"""Differences from the truth (or distinct predictions) below which agreement proves nothing."""
SHARED, EQUAL, CLOSE = 0.95, 0.98, 0.01
"""Share of common errors; share of equal predictions; distance in standard deviations. Two seeds of one recipe stay well
below: they share .4 to .8 of their errors, and their numbers lie .1 to .3 deviations apart."""


Columns = dict[str, np.ndarray]


def copied(ours: Columns, theirs: Columns) -> bool:
    """Whether two entries' test columns (`id`, `prediction`, `target`, in any order) are one's copy of the other.

    Labels: both make the same errors (being right together proves nothing). Numbers: the predictions lie closer than
    trainings do. Anything else: nearly all predictions are equal, and there are many of them.
    """
    return agree(aligned(ours), aligned(theirs))


def aligned(side: Columns) -> Columns:
    """Predictions and targets in the ids' order; what is neither label nor number as text."""
    order = np.argsort(_keys(side), kind="stable")
    prediction, target = side["prediction"][order], side["target"][order]
    if prediction.dtype.kind != "f" and not isinstance(target[0] if len(target) else None, str):
        prediction = np.array([repr(value) for value in prediction])
    return {"prediction": prediction, "target": target}


def agree(ours: Columns, theirs: Columns) -> bool:
    """`copied`, of aligned columns."""
    left, right, truth = ours["prediction"], theirs["prediction"], ours["target"]
    if left.shape != right.shape:
        return False
    if left.dtype.kind == "f" and right.dtype.kind == "f":
        if left.ndim != 1:
            return bool(np.array_equal(left, right))
        spread = min(left.std(), right.std())
        return bool(np.abs(left - right).mean() <= CLOSE * spread) if spread > 0 else bool(np.array_equal(left, right))
    if isinstance(truth[0] if len(truth) else None, str):
        wrong = (left != truth) | (right != truth)
        return bool(wrong.sum() >= FEWEST and ((left == right) & wrong).sum() >= SHARED * wrong.sum())
    return bool(len(set(left)) >= FEWEST and (left == right).mean() >= EQUAL)


def _keys(side: dict[str, Any]) -> np.ndarray:
    seeds = side["seed"] if "seed" in side else np.zeros(len(side["id"]))
    return np.array([f"{name}\0{seed}" for name, seed in zip(side["id"], seeds, strict=True)])
