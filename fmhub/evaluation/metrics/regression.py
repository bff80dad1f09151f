"""Metrics of a predicted number.

A correlation is 0 where the predictions are constant (they order nothing) and NaN where the targets are.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fmhub.evaluation.metrics.base import Columns, Labels, Metric
from fmhub.evaluation.metrics.columns import numbers


def _pair(columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    return numbers(columns, "target"), numbers(columns, "prediction")


def mae(columns: Columns, labels: Labels = None) -> float:
    """Mean absolute error, in the target's unit."""
    return float(_mae_rows(columns, labels)[:, 0].mean())


def _mae_rows(columns: Columns, labels: Labels) -> np.ndarray:
    target, prediction = _pair(columns)
    return np.stack([np.abs(target - prediction), np.ones(len(target))], axis=1)


def rmse(columns: Columns, labels: Labels = None) -> float:
    """Root of the mean squared error, in the target's unit."""
    return float(np.sqrt(_square_rows(columns, labels)[:, 0].mean()))


def _square_rows(columns: Columns, labels: Labels) -> np.ndarray:
    target, prediction = _pair(columns)
    return np.stack([(target - prediction) ** 2, np.ones(len(target))], axis=1)


def _mean(sums: np.ndarray) -> np.ndarray:
    mean: np.ndarray = sums[..., 0] / sums[..., 1]
    return mean


def _root_mean(sums: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt(_mean(sums)))


def r2(columns: Columns, labels: Labels = None) -> float:
    """Share of the target's variance that is explained, at most 1; NaN where the target is constant."""
    from sklearn.metrics import r2_score

    target, prediction = _pair(columns)
    return float(r2_score(target, prediction)) if np.ptp(target) > 0 else float("nan")


def _moment_rows(columns: Columns, labels: Labels) -> np.ndarray:
    """(n, 6): 1, y, p, yy, pp, yp with y and p centred and scaled, so that the sums lose no digits."""
    return _moments(*(_standard(values) for values in _pair(columns)))


def _standard(values: np.ndarray) -> np.ndarray:
    centred: np.ndarray = values - values.mean()
    return centred / float(np.abs(centred).max() or 1.0)


def _moments(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    return np.stack([np.ones_like(y), y, p, y * y, p * p, y * p], axis=-1)


def _correlation(sums: np.ndarray) -> np.ndarray:
    """Pearson's r from the sums of `_moments`; a spread below 1e-12 of the scale is none."""
    n, y, p, yy, pp, yp = np.moveaxis(sums, -1, 0)
    spread_y, spread_p, shared = yy - y * y / n, pp - p * p / n, yp - y * p / n
    constant_y, constant_p = spread_y <= 1e-12 * n, spread_p <= 1e-12 * n
    below = np.sqrt(np.where(constant_y | constant_p, 1.0, spread_y * spread_p))
    value = np.clip(np.where(constant_p, 0.0, shared / below), -1, 1)
    return np.where(constant_y, np.nan, value)


def _r2_rows(columns: Columns, labels: Labels) -> np.ndarray:
    """(n, 4): 1, y, yy and the squared error, in units of the target's own spread."""
    target, prediction = _pair(columns)
    y, scale = _standard(target), np.abs(target - target.mean()).max() or 1.0
    return np.stack([np.ones_like(y), y, y * y, ((target - prediction) / scale) ** 2], axis=1)


def _r2_sums(sums: np.ndarray) -> np.ndarray:
    n, y, yy, error = np.moveaxis(sums, -1, 0)
    spread = yy - y * y / n
    constant = spread <= 1e-12 * n
    return np.where(constant, np.nan, 1 - error / np.where(constant, 1.0, spread))


def pearson(columns: Columns, labels: Labels = None) -> float:
    """Pearson's correlation, -1 to 1."""
    return float(_correlation(_moment_rows(columns, labels).sum(0)))


def spearman(columns: Columns, labels: Labels = None) -> float:
    """Spearman's rank correlation with mean ranks for ties, -1 to 1."""
    from scipy.stats import rankdata

    ranks = [_standard(rankdata(values)) for values in _pair(columns)]
    return float(_correlation(_moments(*ranks).sum(0)))


def _spearman_resample(columns: Columns, labels: Labels) -> Callable[[np.ndarray], np.ndarray]:
    rank_y, rank_p = (_ranker(values) for values in _pair(columns))

    def weighted(counts: np.ndarray) -> np.ndarray:
        y, p, total = rank_y(counts), rank_p(counts), counts.sum(1)
        sums = [total] + [(counts * part).sum(1) for part in (y, p, y * y, p * p, y * p)]
        return _correlation(np.stack(sums, axis=-1))

    return weighted


def _ranker(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """(b, n) counts -> (b, n) centred mean ranks of the resample, scaled to -.5 to .5, from one sort."""
    distinct, place = np.unique(values, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(len(distinct)))

    def ranks(counts: np.ndarray) -> np.ndarray:
        held = np.add.reduceat(counts[:, order], starts, axis=1)
        upto = np.cumsum(held, axis=1)
        middle: np.ndarray = ((upto - held / 2) / upto[:, -1:] - 0.5)[:, place]
        return middle

    return ranks


METRICS = {
    metric.name: metric
    for metric in (
        Metric("mae", mae, "min", 0, title="Mean absolute error", kind="number", statistics=_mae_rows, combine=_mean),
        Metric("pearson", pearson, "max", -1, 1, title="Pearson correlation", kind="number", statistics=_moment_rows, combine=_correlation),
        Metric("r2", r2, "max", high=1, title="R²", kind="number", statistics=_r2_rows, combine=_r2_sums),
        Metric("rmse", rmse, "min", 0, title="Root mean squared error", kind="number", statistics=_square_rows, combine=_root_mean),
        Metric("spearman", spearman, "max", -1, 1, title="Spearman correlation", kind="number", resample=_spearman_resample),
    )
}
