"""How many lesions are found at a bearable number of false alarms: a point of the free-response ROC curve.

Light: a plugin names it at import.
Rows are pieces of slices. Beside `scores` and `target` they say in `whole` which slice they are of and in `lesion` which lesion
they show, if any. A row of the first of two labels whose score reaches the threshold is a false positive; a lesion is found where
one of its rows does (Bunch et al. 1978, doi:10.1117/12.955926).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fmhub.evaluation.metrics.base import Columns, Labels, Metric

if TYPE_CHECKING:
    import numpy as np

READS = ("scores", "target")
"""What an entry predicts and what is true; `whole` and `lesion` belong to the rows, whoever predicts them."""


def sensitivity(rate: float) -> Metric:
    """Share of lesions found at the lowest threshold that gives at most `rate` false positives a slice, 0 to 1.

    NaN where rows do not say their slice and lesion, or no row shows a lesion.
    """

    def prepare(columns: Columns, labels: Labels) -> Callable[[np.ndarray], np.ndarray]:
        import numpy as np

        if labels is None or len(labels) != 2 or not {"whole", "lesion"} <= columns.keys():
            return lambda counts: np.full(len(counts), np.nan)
        scores = np.asarray(columns["scores"], np.float64)[:, 1]
        healthy = np.array([str(target) == labels[0] for target in columns["target"]])
        slices, lesions = _members(columns["whole"]), _members(columns["lesion"])
        order = np.flatnonzero(healthy)[np.argsort(-scores[healthy], kind="stable")]
        best = np.array([scores[rows].max() for rows in lesions])

        def weighted(counts: np.ndarray) -> np.ndarray:
            if not lesions:
                return np.full(len(counts), np.nan)
            shown = np.stack([counts[:, rows].mean(1) for rows in slices], axis=1).sum(1)
            weights = np.stack([counts[:, rows].mean(1) for rows in lesions], axis=1)
            alarms = np.cumsum(counts[:, order], axis=1) > rate * shown[:, None]
            # the best score that must stay out; where none must, everything is found
            limits = np.where(alarms.any(1), scores[order][alarms.argmax(1)], -np.inf) if len(order) else np.full(len(counts), -np.inf)
            found = (weights * (best[None] > limits[:, None])).sum(1)
            total = weights.sum(1)
            share: np.ndarray = np.divide(found, total, out=np.full(len(counts), np.nan), where=total > 0)
            return share

        return weighted

    def score(columns: Columns, labels: Labels = None) -> float:
        """0 to 1."""
        import numpy as np

        return float(prepare(columns, labels)(np.ones((1, len(columns["target"]))))[0])

    title = f"Lesions found at {rate:g} false positive{'' if rate == 1 else 's'} a slice"
    return Metric(f"sensitivity_{rate:g}_a_slice", score, "max", 0, 1, title=title, reads=READS, kind="label", resample=prepare)


def _members(names: np.ndarray) -> list[np.ndarray]:
    """The rows of each name, without those that have none."""
    import numpy as np

    found: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        if name is not None and name == name and name != "":
            found.setdefault(str(name), []).append(row)
    return [np.array(rows) for rows in found.values()]
