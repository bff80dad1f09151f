"""What a translator without a model does: look the source up, or leave it as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from fmhub.task import Setting


@dataclass(frozen=True)
class Copy:
    """The source as it is: right for names and placeholders."""

    name: str = "copy"

    def fit(self, setting: Setting) -> Copy:
        """Nothing to learn."""
        return self

    def predict(self, rows: pa.Table) -> dict[str, Any]:
        """`prediction`: the sources."""
        return {"prediction": rows["source"].to_pylist()}


@dataclass(frozen=True)
class Memory:
    """Translation memory: the translation of the most similar training source, by TF-IDF of characters within words.

    The n-grams' longest length is the one of `grid` whose answers are best on validation (chrF).
    """

    grid: tuple[int, ...] = (3, 5)
    name: str = "memory"

    def fit(self, setting: Setting) -> FittedMemory:
        """Raises `FmhubError` where sacrebleu is not installed."""
        import numpy as np

        from fmhub.evaluation import metrics

        found = [FittedMemory.of(setting.train, longest) for longest in self.grid]
        held, truth = setting.validation, np.array(setting.validation["target"].to_pylist(), dtype=object)
        chrf = metrics.get("chrf")
        return max(
            found, key=lambda one: chrf.score({"prediction": np.array(one.predict(held)["prediction"], object), "target": truth}, None)
        )


@dataclass
class FittedMemory:
    """Training sources as vectors, and their translations."""

    vectoriser: Any
    sources: Any
    targets: list[str]

    @classmethod
    def of(cls, train: pa.Table, longest: int) -> FittedMemory:
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectoriser = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, longest), sublinear_tf=True)
        return cls(vectoriser, vectoriser.fit_transform(train["source"].to_pylist()), train["target"].to_pylist())

    def predict(self, rows: pa.Table) -> dict[str, Any]:
        """`prediction`: translations of other sources."""
        alike = self.vectoriser.transform(rows["source"].to_pylist()) @ self.sources.T
        return {"prediction": [self.targets[place] for place in alike.argmax(1).A1.tolist()]}
