"""Metrics of a ranking: `prediction` is a list of item ids, best first; `target` is the one item that came next.

A target that the list lacks counts as not found, so a list must reach as far down as the metric looks. `labels` are all
items that could have been ranked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from fmhub.errors import DataError
from fmhub.evaluation.metrics.base import Columns, Labels, Metric
from fmhub.evaluation.metrics.columns import column

TOP = 10


def places(columns: Columns) -> np.ndarray:
    """(n,) float64: the target's place in its row's ranking, from 0; infinity where it is absent. Raises `DataError`."""
    rankings, targets = column(columns, "prediction"), column(columns, "target")
    found = np.empty(len(targets))
    for row, (ranking, target) in enumerate(zip(rankings, targets, strict=True)):
        if isinstance(ranking, str) or not hasattr(ranking, "__len__") or len(set(ranking)) != len(ranking):
            raise DataError(f"Row {row}: the prediction is not a list of different items.")
        found[row] = next((place for place, item in enumerate(ranking) if item == target), np.inf)
    return found


def _hit(top: int, found: np.ndarray) -> np.ndarray:
    return np.asarray(found < top, dtype=np.float64)


def _gain(top: int, found: np.ndarray) -> np.ndarray:
    """1 / log2(place + 2) within the first `top`: of one relevant item the ideal gain is 1 (Järvelin & Kekäläinen 2002)."""
    return np.where(found < top, 1 / np.log2(np.minimum(found, top) + 2), 0.0)


def _reciprocal(found: np.ndarray) -> np.ndarray:
    return 1 / (found + 1)


def _rows(gain: Callable[[np.ndarray], np.ndarray], columns: Columns, labels: Labels = None) -> np.ndarray:
    """(n, 2): a row's gain, and 1."""
    gains = gain(places(columns))
    return np.stack([gains, np.ones(len(gains))], axis=1)


def _mean(sums: np.ndarray) -> np.ndarray:
    return np.asarray(sums[..., 0] / sums[..., 1])


def _score(gain: Callable[[np.ndarray], np.ndarray], columns: Columns, labels: Labels = None) -> float:
    return float(_mean(_rows(gain, columns).sum(0)))


def _metric(name: str, title: str, gain: Callable[[np.ndarray], np.ndarray]) -> Metric:
    return Metric(name, partial(_score, gain), "max", 0, 1, title=title, statistics=partial(_rows, gain), combine=_mean)


def coverage(columns: Columns, labels: Labels = None) -> float:
    """Share of all items that stand among anybody's first ten, 0 to 1."""
    return float(_shown(columns, labels).any(0).sum() / _catalogue_size(columns, labels))


def _shown(columns: Columns, labels: Labels) -> np.ndarray:
    """(n, items) bool: which items each row shows in its first ten."""
    tops = [list(ranking)[:TOP] for ranking in column(columns, "prediction")]
    place = {item: index for index, item in enumerate(sorted({item for top in tops for item in top}))}
    shown = np.zeros((len(tops), len(place)), dtype=bool)
    for row, top in enumerate(tops):
        shown[row, [place[item] for item in top]] = True
    return shown


def _catalogue_size(columns: Columns, labels: Labels) -> int:
    if labels is None:
        raise DataError("Coverage needs the catalogue: all items that could have been ranked.")
    return len(labels)


def _coverage_resample(columns: Columns, labels: Labels) -> Callable[[np.ndarray], np.ndarray]:
    shown, size = _shown(columns, labels).astype(np.float32), _catalogue_size(columns, labels)
    return lambda counts: np.asarray(((counts > 0).astype(np.float32) @ shown > 0).sum(1) / size, dtype=np.float64)


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "coverage",
            coverage,
            "max",
            0,
            1,
            title="Coverage of the catalogue (first 10)",
            reads=("prediction",),
            resample=_coverage_resample,
        ),
        *(_metric(f"hr_{top}", f"HR@{top}", partial(_hit, top)) for top in (1, 5, 10)),
        _metric("mrr", "Mean reciprocal rank", _reciprocal),
        _metric("ndcg_10", "NDCG@10", partial(_gain, TOP)),
    )
}
