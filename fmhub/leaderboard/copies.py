"""Near-copies: entries whose predictions agree beyond what two trainings of one recipe show."""

from __future__ import annotations

from typing import Any

import numpy as np

FEWEST = 20
"""Differences from the truth (or distinct predictions) below which agreement proves nothing."""
SHARED, EQUAL, CLOSE = 0.95, 0.98, 0.01
"""Share of common errors; share of equal predictions; distance in standard deviations. Two seeds of one recipe stay well
below: they share .4 to .8 of their errors, and their numbers lie .1 to .3 deviations apart."""
SCORED, SURE = 0.003, 1e-4
"""Distance of log probabilities, in standard deviations; the probability below which they are no more told apart. On a
logarithm's scale two seeds of a sure classifier differ, too: of the reference runs no pair lies closer than .006."""


Columns = dict[str, np.ndarray]


def copied(ours: Columns, theirs: Columns, *, scored: bool = False) -> bool:
    """Whether two entries' test columns (`id`, `prediction`, `target`, `scores` if any, in any order) are one's copy of the other.

    Labels: both make the same errors (being right together proves nothing). Numbers: the predictions lie closer than
    trainings do. Anything else: nearly all predictions are equal, and there are many of them. Where errors or predictions
    are too few to tell, nearly all are equal and the scores lie closer than trainings' do. Where entries are ranked by
    their scores (`scored`), these alone decide: models that are unlike may all say the most frequent label.
    """
    return agree(aligned(ours), aligned(theirs), scored=scored)


def aligned(side: Columns) -> Columns:
    """Predictions, targets and, where there are any, scores in the ids' order; what is neither label nor number as text."""
    order = np.argsort(_keys(side), kind="stable")
    prediction, target = side["prediction"][order], side["target"][order]
    if prediction.dtype.kind != "f" and not isinstance(target[0] if len(target) else None, str):
        prediction = np.array([repr(value) for value in prediction])
    scores = {"scores": side["scores"][order]} if "scores" in side and side["scores"].dtype.kind == "f" else {}
    return {"prediction": prediction, "target": target, **scores}


def agree(ours: Columns, theirs: Columns, *, scored: bool = False) -> bool:
    """`copied`, of aligned columns."""
    left, right, truth = ours["prediction"], theirs["prediction"], ours["target"]
    if left.shape != right.shape:
        return False
    if scored and "scores" in ours and "scores" in theirs:
        return _close(ours["scores"], theirs["scores"])
    if left.dtype.kind == "f" and right.dtype.kind == "f":
        if left.ndim != 1:
            return bool(np.array_equal(left, right))
        spread = min(left.std(), right.std())
        return bool(np.abs(left - right).mean() <= CLOSE * spread) if spread > 0 else bool(np.array_equal(left, right))
    if isinstance(truth[0] if len(truth) else None, str):
        wrong = (left != truth) | (right != truth)
        if wrong.sum() >= FEWEST:
            return bool(((left == right) & wrong).sum() >= SHARED * wrong.sum())
    elif len(set(left)) >= FEWEST:
        return bool((left == right).mean() >= EQUAL)
    return bool((left == right).mean() >= EQUAL) and _close(ours.get("scores"), theirs.get("scores"))


def _close(ours: np.ndarray | None, theirs: np.ndarray | None) -> bool:
    """Whether two tables of scores, (n, k), are nearer to each other than two trainings bring them."""
    if ours is None or theirs is None or ours.shape != theirs.shape:
        return False
    probable = all(side.min(initial=0) >= 0 and side.max(initial=0) <= 1 for side in (ours, theirs))
    left, right = (np.log(np.clip(side, SURE, 1)) if probable else side for side in (ours, theirs))
    return bool(np.abs(left - right).mean() <= SCORED * min(left.std(), right.std()))


def _keys(side: dict[str, Any]) -> np.ndarray:
    seeds = side["seed"] if "seed" in side else np.zeros(len(side["id"]))
    return np.array([f"{name}\0{seed}" for name, seed in zip(side["id"], seeds, strict=True)])
