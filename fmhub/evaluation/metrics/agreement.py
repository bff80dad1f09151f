"""Agreement with human grades, which are whole numbers: Cohen's kappa with quadratic weights (Cohen 1968, doi:10.1037/h0026256)."""

from __future__ import annotations

import numpy as np

from fmhub.evaluation.metrics.base import Columns, Labels, Metric
from fmhub.evaluation.metrics.columns import numbers


def grades(columns: Columns, name: str) -> np.ndarray:
    """(n,) whole numbers as float64; what lies half way is rounded up."""
    return np.floor(numbers(columns, name) + 0.5)


def kappa_quadratic(columns: Columns, labels: Labels = None) -> float:
    """1 - (mean squared difference) / (that of grades dealt out by chance), at most 1; NaN where both graders always give one grade."""
    return float(_kappa(_rows(columns, labels).sum(0)))


def _rows(columns: Columns, labels: Labels) -> np.ndarray:
    """(n, 6): 1, y, p, yy, pp and (y - p)^2, from the first true grade on."""
    y, p = grades(columns, "target"), grades(columns, "prediction")
    y, p = y - y[0], p - y[0]
    return np.stack([np.ones_like(y), y, p, y * y, p * p, (y - p) ** 2], axis=1)


def _kappa(sums: np.ndarray) -> np.ndarray:
    n, y, p, yy, pp, apart = np.moveaxis(sums, -1, 0)
    chance = yy + pp - 2 * y * p / n
    none = chance <= 1e-9 * n
    return np.where(none, np.nan, 1 - apart / np.where(none, 1.0, chance))


METRICS = {
    "kappa_quadratic": Metric(
        "kappa_quadratic",
        kappa_quadratic,
        "max",
        -1,
        1,
        title="Quadratic weighted kappa of whole grades",
        kind="number",
        statistics=_rows,
        combine=_kappa,
    )
}
