"""The VADER lexicon (Hutto & Gilbert, ICWSM 2014) as a baseline: rules and 7,500 rated words, nothing learnt from texts.

Its lexicon comes from the authors of the ratings that `sentiment` and `sentiment-score` use, and was checked on these
very texts: a strong opponent on its own ground.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmhub.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from fmhub.task import Setting


@dataclass(frozen=True)
class Vader:
    """The compound score, positive above a threshold that is tuned on validation; `scores` by a logistic slope fitted on train."""

    name: str = "vader"
    field: str = "text"

    def fit(self, setting: Setting) -> VaderLabels:
        """The positive label is the one whose training texts score higher. `DataError` unless there are two labels."""
        import numpy as np
        from sklearn.linear_model import LogisticRegression

        from fmhub.evaluation.baselines.simple import label_names

        labels = label_names(setting)
        if len(labels) != 2:
            raise DataError(f"VADER tells two labels apart, not {len(labels)}.")
        scores, second = compound(setting.train, self.field), truth(setting.train) == labels[1]
        sign = 1.0 if scores[second].mean() >= scores[~second].mean() else -1.0
        threshold = best_threshold(sign * compound(setting.validation, self.field), truth(setting.validation) == labels[1])
        distance = (sign * scores - threshold)[:, np.newaxis]
        slope = LogisticRegression(fit_intercept=False).fit(distance, second).coef_[0, 0]
        return VaderLabels(tuple(labels), self.field, sign, threshold, max(0.0, float(slope)))


@dataclass(frozen=True)
class VaderLabels:
    """Scores 1/2 at the threshold, so that the likelier label is the predicted one."""

    labels: tuple[str, ...]
    field: str
    sign: float
    threshold: float
    slope: float

    def predict(self, rows: pa.Table) -> dict[str, Any]:
        """`prediction`: labels; `scores`: (rows, 2) probabilities."""
        import numpy as np

        distance = self.sign * compound(rows, self.field) - self.threshold
        high = 1 / (1 + np.exp(-self.slope * distance))
        return {
            "prediction": [self.labels[int(value >= 0)] for value in distance],
            "scores": list(np.stack([1 - high, high], axis=1).astype(np.float32)),
        }


@dataclass(frozen=True)
class VaderScale:
    """The compound score, carried to the scale of the ratings by a straight line fitted on train."""

    name: str = "vader"
    field: str = "text"

    def fit(self, setting: Setting) -> VaderLine:
        import numpy as np

        slope, intercept = np.polyfit(compound(setting.train, self.field), truth(setting.train).astype(float), 1)
        return VaderLine(self.field, float(slope), float(intercept))


@dataclass(frozen=True)
class VaderLine:
    field: str
    slope: float
    intercept: float

    def predict(self, rows: pa.Table) -> dict[str, Any]:
        """`prediction`: ratings."""
        return {"prediction": compound(rows, self.field) * self.slope + self.intercept}


def compound(table: pa.Table, field: str) -> np.ndarray:
    """VADER's compound score of each text, -1 to 1."""
    import numpy as np
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    analyzer = SentimentIntensityAnalyzer()
    return np.array([analyzer.polarity_scores(text)["compound"] for text in table.column(field).to_pylist()], dtype=float)


def truth(table: pa.Table) -> np.ndarray:
    import numpy as np

    return np.array([str(value) for value in table.column("target").to_pylist()])


def best_threshold(scores: np.ndarray, positive: np.ndarray) -> float:
    """The cut between two neighbouring scores that tells most rows rightly, `scores >= cut` being positive; the lowest of equal ones."""
    import numpy as np

    values = np.unique(scores)
    cuts = np.concatenate([[values[0] - 1e-6], (values[1:] + values[:-1]) / 2, [values[-1] + 1e-6]])
    below = np.searchsorted(np.sort(scores[~positive]), cuts)
    above = positive.sum() - np.searchsorted(np.sort(scores[positive]), cuts)
    return float(cuts[int(np.argmax(below + above))])
