"""What decisions from probabilities are worth, where one mistake costs more than the other. Light: a plugin names costs at import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fmhub.evaluation.metrics.base import Columns, Labels, Metric

if TYPE_CHECKING:
    import numpy as np

READS = ("scores", "target")


def cost(positive: str, times: float) -> Metric:
    """Mean cost of a row, where to miss a `positive` costs `times` as much as a false alarm, which costs 1.

    Decided as costs the least on average: positive from a probability of 1 / (1 + times) on (Elkan 2001, IJCAI).
    """

    def rows(columns: Columns, labels: Labels) -> np.ndarray:
        import numpy as np

        found, true = _positive(columns, labels, positive)
        said = found >= 1 / (1 + times)
        return np.stack([times * (true & ~said) + (~true & said), np.ones(len(true))], axis=1).astype(np.float64)

    def combine(sums: np.ndarray) -> np.ndarray:
        mean: np.ndarray = sums[..., 0] / sums[..., 1]
        return mean

    def score(columns: Columns, labels: Labels = None) -> float:
        """From 0, the cost of no mistake, to `times`."""
        return float(combine(rows(columns, labels).sum(0)))

    title = f"Cost of a decision (missed {positive} {times:g}, false alarm 1)"
    return Metric(f"cost_{times:g}", score, "min", 0, max(1.0, times), title=title, reads=READS, kind="label", statistics=rows,
                  combine=combine)  # fmt: skip


def net_benefit(scores: np.ndarray, true: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """(thresholds,) of acting from each probability on: true positives less false ones at the threshold's odds, a row
    (Vickers & Elkin 2006, doi:10.1177/0272989X06295361). `scores` (rows,) are probabilities, `true` (rows,) bool."""
    import numpy as np

    acted = scores[None] >= thresholds[:, None]
    right, wrong = (acted & true).mean(1), (acted & ~true).mean(1)
    worth: np.ndarray = right - wrong * thresholds / np.maximum(1 - thresholds, 1e-9)
    return worth


def _positive(columns: Columns, labels: Labels, positive: str) -> tuple[np.ndarray, np.ndarray]:
    """((rows,) probability of `positive`, (rows,) whether it is true). Raises `DataError` where the labels lack it."""
    from fmhub.errors import DataError
    from fmhub.evaluation.metrics.columns import probabilities

    scores, truth = probabilities(columns, labels)
    names = list(labels or ())
    if positive not in names:
        raise DataError(f"The cost is of label {positive!r}, which is none of {', '.join(names)}.")
    return scores[:, names.index(positive)], truth == names.index(positive)
