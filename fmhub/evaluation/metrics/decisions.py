"""What decisions from probabilities are worth, where one mistake costs more than the other. Light: a plugin names costs at import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fmhub.evaluation.metrics.base import Columns, Labels, Metric

if TYPE_CHECKING:
    import numpy as np

READS = ("scores", "target")


def cost(times: float) -> Metric:
    """Mean cost of a row, where to miss the second of two labels costs `times` as much as a false alarm, which costs 1.

    Decided as costs the least on average: the second label from a probability of 1 / (1 + times) on (Elkan 2001, IJCAI).
    NaN where there are not two labels.
    """

    def rows(columns: Columns, labels: Labels) -> np.ndarray:
        import numpy as np

        from fmhub.evaluation.metrics.columns import probabilities

        scores, truth = probabilities(columns, labels)
        if scores.shape[1] != 2:
            return np.full((len(truth), 2), np.nan)
        true, said = truth == 1, scores[:, 1] >= 1 / (1 + times)
        return np.stack([times * (true & ~said) + (~true & said), np.ones(len(true))], axis=1).astype(np.float64)

    def combine(sums: np.ndarray) -> np.ndarray:
        mean: np.ndarray = sums[..., 0] / sums[..., 1]
        return mean

    def score(columns: Columns, labels: Labels = None) -> float:
        """From 0, the cost of no mistake, to `times` (or 1, if that is more)."""
        return float(combine(rows(columns, labels).sum(0)))

    title = f"Cost of a decision, a missed one {times:g} and a false alarm 1"
    return Metric(
        f"cost_{times:g}", score, "min", 0, max(1.0, times), title=title, reads=READS, kind="label", statistics=rows, combine=combine
    )


def net_benefit(scores: np.ndarray, true: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """(thresholds,) of acting from each probability on: true positives less false ones at the threshold's odds, a row
    (Vickers & Elkin 2006, doi:10.1177/0272989X06295361). `scores` (rows,) are probabilities, `true` (rows,) bool."""
    import numpy as np

    acted = scores[None] >= thresholds[:, None]
    right, wrong = (acted & true).mean(1), (acted & ~true).mean(1)
    worth: np.ndarray = right - wrong * thresholds / np.maximum(1 - thresholds, 1e-9)
    return worth
