"""Logistic regression over fixed features: what a head alone could learn, and how every adapter should be judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmhub.errors import DataError, UsageError
from fmhub.evaluation.baselines.simple import label_names

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from fmhub.task import Setting

GRID = (0.003, 0.03, 0.3, 3.0)


@dataclass(frozen=True)
class FrozenLogistic:
    """A linear probe (Alain & Bengio 2016, arXiv:1610.01644) on the run's untouched backbone: its first token beside the mean of all."""

    grid: Sequence[float] = GRID
    name: str = "frozen-logistic"

    def fit(self, setting: Setting) -> FittedLogistic | FittedEach:
        """Raises `DataError` for one label only."""
        if setting.features is None:
            raise UsageError("A frozen probe needs a backbone: the setting has no features.")
        return fit_logistic(setting.features, setting, self.grid)


def fit_logistic(features: Callable[[pa.Table], np.ndarray], setting: Setting, grid: Sequence[float]) -> FittedLogistic | FittedEach:
    """Logistic regression on standardised `features(rows)`; its C is the smallest of those in `grid` with the best validation accuracy."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    if isinstance(setting.train["target"][0].as_py(), list):
        return _each(features, setting, grid)
    target, truth = ([str(value) for value in rows["target"].to_pylist()] for rows in (setting.train, setting.validation))
    if len(set(target)) < 2:
        raise DataError("The training part holds one label only: a classifier needs two.")
    scale = StandardScaler().fit(raw := features(setting.train))
    seen, held = scale.transform(raw), scale.transform(features(setting.validation))
    models = [LogisticRegression(C=c, max_iter=300, tol=1e-3).fit(seen, target) for c in grid]
    best = max(models, key=lambda model: sum(model.predict(held) == truth))
    return FittedLogistic(features, scale, best, label_names(setting))


def _each(features: Callable[[pa.Table], np.ndarray], setting: Setting, grid: Sequence[float]) -> FittedEach:
    """One model a label, where a row may have several; their one C has the best validation log loss."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    labels = label_names(setting)
    target, truth = (
        np.array([[label in map(str, named) for label in labels] for named in rows["target"].to_pylist()])
        for rows in (setting.train, setting.validation)
    )
    scale = StandardScaler().fit(raw := features(setting.train))
    seen, held = scale.transform(raw), scale.transform(features(setting.validation))

    def one(c: float, label: int) -> Any:
        share = float(target[:, label].mean())
        return LogisticRegression(C=c, max_iter=300, tol=1e-3).fit(seen, target[:, label]) if 0 < share < 1 else share

    tried = [FittedEach(features, scale, [one(c, label) for label in range(len(labels))], labels) for c in grid]
    likely = [np.where(truth, scores := one.scores(held), 1 - scores).clip(1e-9) for one in tried]
    return tried[int(np.argmax([np.log(values).mean() for values in likely]))]


@dataclass
class FittedEach:
    """Probabilities of labels that exclude none; a model is a number where every training row, or none, had its label."""

    features: Callable[[pa.Table], np.ndarray]
    scale: Any
    models: list[Any]
    labels: list[str]

    def scores(self, standardised: np.ndarray) -> np.ndarray:
        """(rows, labels)."""
        import numpy as np

        said = [
            np.full(len(standardised), model) if isinstance(model, float) else model.predict_proba(standardised)[:, 1]
            for model in self.models
        ]
        return np.stack(said, axis=1)

    def predict(self, rows: pa.Table) -> dict[str, Any]:
        """`prediction`: lists of labels; `scores`: (rows, labels) probabilities."""
        scores = self.scores(self.scale.transform(self.features(rows)))
        named = [[label for label, score in zip(self.labels, row, strict=True) if score >= 0.5] for row in scores]
        return {"prediction": named, "scores": scores.tolist()}


@dataclass
class FittedLogistic:
    """Probabilities of all labels; one that the training rows lacked gets 0."""

    features: Callable[[pa.Table], np.ndarray]
    scale: Any
    model: Any
    labels: list[str]

    def predict(self, rows: pa.Table) -> dict[str, Any]:
        """`prediction`: labels; `scores`: (rows, labels) probabilities."""
        import numpy as np

        scores = np.zeros((len(rows), len(self.labels)))
        places = [self.labels.index(label) for label in self.model.classes_]
        scores[:, places] = self.model.predict_proba(self.scale.transform(self.features(rows)))
        return {"prediction": [self.labels[place] for place in scores.argmax(1)], "scores": scores.tolist()}
