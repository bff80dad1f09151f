"""Linear models and gradient boosting on fixed numbers of a row: what tabular and series baselines share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmhub.errors import DataError
from fmhub.evaluation.baselines.simple import label_names

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from fmhub.task import Setting

Features = Callable[["pa.Table"], "np.ndarray"]
"""From rows to (rows, numbers)."""
PENALTIES = (0.003, 0.01, 0.03, 0.1, 1.0)


@dataclass
class Fitted:
    """A scikit-learn model on `features`; with `labels`, its probabilities in their order (0 for one that training lacked)."""

    features: Features
    model: Any
    labels: Sequence[str] = ()

    def predict(self, rows: pa.Table) -> dict[str, Any]:
        """`prediction` and, for labels, `scores`."""
        import numpy as np

        found = self.features(rows)
        if not self.labels:
            return {"prediction": np.asarray(self.model.predict(found), np.float64)}
        scores = np.zeros((len(rows), len(self.labels)))
        scores[:, [self.labels.index(label) for label in self.model.classes_]] = self.model.predict_proba(found)
        return {"prediction": [self.labels[best] for best in scores.argmax(1)], "scores": scores.tolist()}


def linear(features: Features, setting: Setting) -> Fitted:
    """Logistic regression, its penalty the one with the least validation log loss, where the head has labels, else least squares."""
    from sklearn.linear_model import LinearRegression, LogisticRegression

    if not hasattr(setting.head, "labels"):
        return Fitted(features, LinearRegression().fit(features(setting.train), _numbers(setting.train)))
    seen, target = features(setting.train), _labels(setting.train)
    if len(set(target)) < 2:
        raise DataError("The training part holds one label only: a classifier needs two.")
    models = [LogisticRegression(C=penalty, max_iter=2000).fit(seen, target) for penalty in PENALTIES]
    return _best(features, setting, models)


def boosted(features: Features, setting: Setting) -> Fitted:
    """Gradient boosting (Friedman 2001, doi:10.1214/aos/1013203451) by histograms, its number of trees the validation part's best."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    shape = {"learning_rate": 0.05, "max_leaf_nodes": 8, "l2_regularization": 1.0, "early_stopping": False, "random_state": setting.seed}
    seen, counts = features(setting.train), (30, 60, 120)
    if hasattr(setting.head, "labels"):
        target = _labels(setting.train)
        return _best(features, setting, [HistGradientBoostingClassifier(max_iter=count, **shape).fit(seen, target) for count in counts])
    truth, held = _numbers(setting.validation), features(setting.validation)
    models = [HistGradientBoostingRegressor(max_iter=count, **shape).fit(seen, _numbers(setting.train)) for count in counts]
    return Fitted(features, min(models, key=lambda model: float(((model.predict(held) - truth) ** 2).sum())))


def _best(features: Features, setting: Setting, models: Sequence[Any]) -> Fitted:
    import numpy as np

    labels = label_names(setting)
    truth = [labels.index(label) for label in _labels(setting.validation)]
    found = [Fitted(features, model, labels) for model in models]

    def loss(one: Fitted) -> float:
        scores = np.array(one.predict(setting.validation)["scores"])
        return float(-np.log(np.maximum(scores[np.arange(len(truth)), truth], 1e-12)).sum())

    return min(found, key=loss)


def _numbers(rows: pa.Table) -> np.ndarray:
    import numpy as np

    return np.array([float(value) for value in rows["target"].to_pylist()])


def _labels(rows: pa.Table) -> list[str]:
    return [str(value) for value in rows["target"].to_pylist()]
