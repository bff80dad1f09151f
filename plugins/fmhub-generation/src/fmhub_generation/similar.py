"""What a chooser without a model does: the answer whose words are most like the question's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from fmhub.task import Setting

VECTORS: dict[str, dict[str, Any]] = {
    "words": {"sublinear_tf": True},
    "characters": {"analyzer": "char_wb", "ngram_range": (2, 4), "sublinear_tf": True},
}


@dataclass(frozen=True)
class TfidfSimilarity:
    """Cosine of TF-IDF vectors; of words or of characters, whichever is better on validation (mean reciprocal rank)."""

    name: str = "tfidf-similarity"

    def fit(self, setting: Setting) -> FittedSimilarity:
        """Document frequencies of the training part's questions and answers."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        from fmhub.evaluation.metrics import get
        from fmhub.evaluation.metrics.columns import columns

        texts = [*setting.train["question"].to_pylist(), *(text for row in setting.train["candidates"].to_pylist() for text in set(row))]
        found = [FittedSimilarity(TfidfVectorizer(**kind).fit(texts)) for kind in VECTORS.values()]
        held = setting.validation
        truth = {"target": held["target"].to_pylist()}
        return max(found, key=lambda one: get("mrr").score(columns({**one.predict(held), **truth}), None))


@dataclass
class FittedSimilarity:
    """Texts as vectors of length 1."""

    vectoriser: Any

    def predict(self, rows: pa.Table) -> dict[str, Any]:
        """`prediction`: the numbers of the candidates, most alike first; `similarity` in the same order."""
        import numpy as np

        ranked, alike = [], []
        for question, offered in zip(rows["question"].to_pylist(), rows["candidates"].to_pylist(), strict=True):
            found = (self.vectoriser.transform(offered) @ self.vectoriser.transform([question]).T).toarray()[:, 0]
            order = np.argsort(-found, kind="stable")
            ranked.append([str(place) for place in order])
            alike.append(found[order].tolist())
        return {"prediction": ranked, "similarity": alike}
