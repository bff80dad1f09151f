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


@dataclass(frozen=True)
class Phrases:
    """Phrase-based translation (Koehn et al. 2003, N03-1017): phrases of the training pairs put together, no network.

    Both sides are read as byte pairs of their own, at most `size` of each.
    """

    size: int = 8000
    name: str = "phrases"

    def fit(self, setting: Setting) -> FittedPhrases:
        """Aligns the pairs word by word."""
        import numpy as np

        from fmhub.heads.alignment import aligned, begins
        from fmhub.heads.drafter import Drafter
        from fmhub.heads.phrasebook import Phrase, Phrasebook
        from fmhub.heads.pieces import FIRST, SLOTS, Pieces, learn
        from fmhub.stems.marks import marks, replaced

        sources, targets = (setting.train[name].to_pylist() for name in ("source", "target"))
        known = [marks(source) for source in sources]
        sides = [[replaced(text, own, list(SLOTS)) for text, own in zip(texts, known, strict=True)] for texts in (sources, targets)]
        left, right = (Pieces(learn(texts, self.size)) for texts in sides)
        read = [[np.array(row) for row in pieces.read(texts)] for pieces, texts in zip((left, right), sides, strict=True)]
        alike = [begins(pieces.names()) for pieces in (left, right)]
        links = aligned(*([same[row] for row in rows] for same, rows in zip(alike, read, strict=True)))
        names = left.names()

        def spelt(token: int) -> Phrase:
            return tuple(right.read([names[token].strip("▁")])[0])

        fixed = {slot: (slot,) for slot in range(FIRST - len(SLOTS), FIRST)}
        return FittedPhrases(left, right, Drafter(Phrasebook(*read, links, range(len(links))), fixed, spelt))


@dataclass
class FittedPhrases:
    """The pieces of both sides and what was learnt of them."""

    left: Any
    right: Any
    drafter: Any

    def predict(self, rows: pa.Table) -> dict[str, Any]:
        """`prediction`: translations."""
        from fmhub.heads.pieces import SLOTS
        from fmhub.stems.marks import marks, replaced

        sources = rows["source"].to_pylist()
        read = self.left.read([replaced(source, marks(source), list(SLOTS)) for source in sources])
        return {"prediction": [self.right.write(self.drafter.draft(row), marks(source)) for row, source in zip(read, sources, strict=True)]}
