"""Linear models over TF-IDF of word and character n-grams: hard to beat on few or long texts (Wang & Manning 2012).

Features, candidates and weights come from the training rows alone; the validation rows only choose among candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmhub.errors import DataError
from fmhub.evaluation.baselines.simple import label_names

if TYPE_CHECKING:
    import pyarrow as pa

    from fmhub.task import Setting


@dataclass(frozen=True)
class TfidfLogistic:
    """Logistic regression on the texts of column `field`; its C is the one of `grid` with the best validation accuracy."""

    field: str = "text"
    grid: Sequence[float] = (0.3, 1.0, 3.0, 10.0, 30.0)
    name: str = "tfidf-logistic"

    def fit(self, setting: Setting) -> FittedLogistic:
        """Of equally good C the smallest is taken. Raises `DataError` for one label only or texts without a word."""
        from sklearn.linear_model import LogisticRegression

        target = [str(value) for value in setting.train["target"].to_pylist()]
        if len(set(target)) < 2:
            raise DataError("The training part holds one label only: a classifier needs two.")
        vectoriser, features = _vectorise(setting.train, self.field)
        held, truth = (
            vectoriser.transform(_texts(setting.validation, self.field)),
            [str(value) for value in setting.validation["target"].to_pylist()],
        )
        models = [LogisticRegression(C=c, max_iter=20_000).fit(features, target) for c in self.grid]
        best = max(models, key=lambda model: sum(model.predict(held) == truth))
        return FittedLogistic(self.field, vectoriser, best, label_names(setting))


@dataclass
class FittedLogistic:
    """Probabilities of all labels; one that the training rows lacked gets 0."""

    field: str
    vectoriser: Any
    model: Any
    labels: list[str]

    def predict(self, rows: pa.Table) -> dict[str, Any]:
        """`prediction`: labels; `scores`: (rows, labels) probabilities."""
        import numpy as np

        scores = np.zeros((len(rows), len(self.labels)))
        places = [self.labels.index(label) for label in self.model.classes_]
        scores[:, places] = self.model.predict_proba(self.vectoriser.transform(_texts(rows, self.field)))
        return {"prediction": [self.labels[place] for place in scores.argmax(1)], "scores": scores.tolist()}


@dataclass(frozen=True)
class TfidfRidge:
    """Ridge regression on the texts of column `field`; its alpha is the one of `grid` with the least squared validation error."""

    field: str = "text"
    grid: Sequence[float] = (0.3, 1.0, 3.0, 10.0)
    name: str = "tfidf-ridge"

    def fit(self, setting: Setting) -> FittedRidge:
        """Of equally good alpha the smallest is taken. Raises `DataError` for texts without a word."""
        import numpy as np
        from sklearn.linear_model import Ridge

        target, truth = (np.array([float(value) for value in part["target"].to_pylist()]) for part in (setting.train, setting.validation))
        vectoriser, features = _vectorise(setting.train, self.field)
        held = vectoriser.transform(_texts(setting.validation, self.field))
        models = [Ridge(alpha=alpha, solver="sparse_cg", tol=1e-5).fit(features, target) for alpha in self.grid]
        best = min(models, key=lambda model: float(np.square(model.predict(held) - truth).sum()))
        return FittedRidge(self.field, vectoriser, best, (float(target.min()), float(target.max())))


@dataclass
class FittedRidge:
    """Values within the range of the training targets."""

    field: str
    vectoriser: Any
    model: Any
    span: tuple[float, float]

    def predict(self, rows: pa.Table) -> dict[str, Any]:
        """`prediction`: floats in the target's unit."""
        values = self.model.predict(self.vectoriser.transform(_texts(rows, self.field)))
        return {"prediction": values.clip(*self.span).tolist()}


def _vectorise(train: pa.Table, field: str) -> tuple[Any, Any]:
    """(fitted vectoriser, features): words and marks of 1-2, characters of 2-5 within words, sublinear counts, each part of length 1."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import FeatureUnion

    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\w+|[^\w\s]", sublinear_tf=True)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    vectoriser = FeatureUnion([("words", words), ("characters", characters)])
    try:
        return vectoriser, vectoriser.fit_transform(_texts(train, field))
    except ValueError as error:
        raise DataError(f"No features can be made from column {field!r}: {error}.") from None


def _texts(table: pa.Table, field: str) -> list[str]:
    if field not in table.column_names:
        raise DataError(f"The baseline reads column {field!r}, which the rows lack; there are {', '.join(table.column_names)}.")
    return [str(text or "") for text in table[field].to_pylist()]
