"""Metrics of predicted probabilities, which stand in `scores` in the order of `labels`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fmhub.evaluation.metrics.base import Columns, Labels, Metric
from fmhub.evaluation.metrics.columns import applicable, probabilities, several

BINS = 15
"""Equal-width bins of confidence in the calibration error."""


def auc(columns: Columns, labels: Labels = None) -> float:
    """Area under the ROC curve, 0 to 1: of the second of two labels, or the mean of one-against-rest over more.

    Where a row may have several labels it is the mean over all of them. A label that no row or every row has is left out of
    the mean; NaN where none is left.
    """
    rows = len(next(iter(columns.values())))
    return float(_auc_resample(columns, labels)(np.ones((1, rows)))[0])


def _judged(columns: Columns, labels: Labels) -> list[tuple[np.ndarray, np.ndarray]]:
    """(scores, whether it is true) of the labels whose ranking is judged: those with rows for and against."""
    if several(columns):
        scores, applies = applicable(columns, labels)
        chosen = range(scores.shape[1])
    else:
        scores, truth = probabilities(columns, labels)
        applies = truth[:, None] == np.arange(scores.shape[1])
        chosen = range(1, 2) if scores.shape[1] == 2 else range(scores.shape[1])
    return [(scores[:, label], applies[:, label]) for label in chosen if 0 < applies[:, label].sum() < len(applies)]


def _auc_resample(columns: Columns, labels: Labels) -> Callable[[np.ndarray], np.ndarray]:
    ranked = [_auc_of(scores, truth) for scores, truth in _judged(columns, labels)]

    def weighted(counts: np.ndarray) -> np.ndarray:
        if not ranked:
            return np.full(len(counts), np.nan)
        values = np.stack([one(counts) for one in ranked])
        defined = ~np.isnan(values)
        total = np.where(defined, values, 0).sum(0)
        return _ratio(total, defined.sum(0))

    return weighted


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, and NaN where below is 0."""
    return np.asarray(np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0))


def _auc_of(scores: np.ndarray, positive: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Sorted once: a resample is then one cumulative sum over the negatives, ties counting half."""
    order = np.argsort(scores, kind="stable")
    negatives, positives = order[~positive[order]], order[positive[order]]
    below = np.searchsorted(scores[negatives], scores[positives], side="left")
    upto = np.searchsorted(scores[negatives], scores[positives], side="right")

    def weighted(counts: np.ndarray) -> np.ndarray:
        against, for_it = counts[:, negatives], counts[:, positives]
        steps = np.concatenate([np.zeros((len(counts), 1)), np.cumsum(against, axis=1, dtype=np.float64)], axis=1)
        won = (for_it * (steps[:, below] + steps[:, upto])).sum(1) / 2
        pairs = steps[:, -1] * for_it.sum(1)
        return _ratio(won, pairs)

    return weighted


def log_loss(columns: Columns, labels: Labels = None) -> float:
    """Mean negative log-likelihood of the true label, in nats; a probability of 0 counts as the smallest float64 step (36 nats)."""
    return float(_log_loss_rows(columns, labels)[:, 0].mean())


def _log_loss_rows(columns: Columns, labels: Labels) -> np.ndarray:
    scores, truth = probabilities(columns, labels)
    smallest = np.finfo(np.float64).eps
    likelihood = np.clip(scores[np.arange(len(truth)), truth] / scores.sum(1), smallest, 1 - smallest)
    return np.stack([-np.log(likelihood), np.ones(len(truth))], axis=1)


def brier(columns: Columns, labels: Labels = None) -> float:
    """Half the mean squared distance of the probabilities from the truth, 0 to 1: for two labels Brier's (1950) score."""
    return float(_brier_rows(columns, labels)[:, 0].mean())


def _brier_rows(columns: Columns, labels: Labels) -> np.ndarray:
    scores, truth = probabilities(columns, labels)
    distance = ((scores - np.eye(scores.shape[1])[truth]) ** 2).sum(1) / 2
    return np.stack([distance, np.ones(len(truth))], axis=1)


def _mean(sums: np.ndarray) -> np.ndarray:
    mean: np.ndarray = sums[..., 0] / sums[..., 1]
    return mean


def ece(columns: Columns, labels: Labels = None) -> float:
    """Expected calibration error over 15 equal bins of the top probability, 0 to 1 (Guo et al. 2017, arXiv:1706.04599).

    Noise only ever adds to it, so that its interval lies high on few rows.
    """
    return float(_ece_sums(_ece_rows(columns, labels).sum(0)))


def _ece_rows(columns: Columns, labels: Labels) -> np.ndarray:
    """(n, BINS + 1): hit minus confidence in the row's bin, and a count."""
    scores, truth = probabilities(columns, labels)
    confidence, rows = scores.max(1), np.arange(len(truth))
    gaps = np.zeros((len(truth), BINS + 1))
    gaps[rows, np.minimum((confidence * BINS).astype(int), BINS - 1)] = (scores.argmax(1) == truth) - confidence
    gaps[:, BINS] = 1
    return gaps


def _ece_sums(sums: np.ndarray) -> np.ndarray:
    error: np.ndarray = np.abs(sums[..., :BINS]).sum(-1) / sums[..., BINS]
    return error


def _top_rows(k: int) -> Callable[[Columns, Labels], np.ndarray]:
    def rows(columns: Columns, labels: Labels) -> np.ndarray:
        scores, truth = probabilities(columns, labels)
        best = np.argsort(scores, axis=1, kind="stable")[:, ::-1][:, :k]  # of equal scores the later label, as scikit-learn has it
        return np.stack([(best == truth[:, None]).any(1), np.ones(len(truth))], axis=1).astype(np.float64)

    return rows


def _top(k: int) -> Metric:
    rows = _top_rows(k)

    def score(columns: Columns, labels: Labels = None) -> float:
        """Share of rows whose true label is among the k most probable, 0 to 1."""
        return float(_mean(rows(columns, labels).sum(0)))

    title = f"Top-{k} accuracy"
    return Metric(f"top{k}_accuracy", score, "max", 0, 1, title=title, reads=_READS, kind="label", statistics=rows, combine=_mean)


_READS = ("scores", "target")
METRICS = {
    metric.name: metric
    for metric in (
        Metric("auc", auc, "max", 0, 1, title="ROC AUC", reads=_READS, kind="label", resample=_auc_resample),
        Metric("brier", brier, "min", 0, 1, title="Brier score", reads=_READS, kind="label", statistics=_brier_rows, combine=_mean),
        Metric("ece", ece, "min", 0, 1, title="Calibration error", reads=_READS, kind="label", statistics=_ece_rows, combine=_ece_sums),
        Metric("log_loss", log_loss, "min", 0, unit="nats", title="Log loss", reads=_READS, kind="label",
               statistics=_log_loss_rows, combine=_mean),
        _top(3),
        _top(5),
    )
}  # fmt: skip
