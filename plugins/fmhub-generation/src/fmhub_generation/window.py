"""What a reader without a model does: the sentence that is most like the question, without the question's own words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmhub.data.near import SMALL

if TYPE_CHECKING:
    import pyarrow as pa

    from fmhub.task import Setting


@dataclass(frozen=True)
class Window:
    """Overlap of words weighted by their rarity in the training passages (after the baseline of Richardson et al. 2013, D13-1020).

    Of the best sentence the answer is the run of words, as long as training answers mostly are, that the question shares least with.
    """

    name: str = "word-overlap"

    def fit(self, setting: Setting) -> FittedWindow:
        """Document frequencies, and how many words an answer has (the median)."""
        import math
        from collections import Counter

        passages = setting.train["passage"].to_pylist()
        counts = Counter(word for passage in passages for word in set(_words(passage)))
        lengths = sorted(len(answers[0].split()) for answers in setting.train["target"].to_pylist())
        weights = {word: math.log(1 + len(passages) / count) for word, count in counts.items()}
        return FittedWindow(weights, math.log(1 + len(passages)), max(1, lengths[len(lengths) // 2]))


@dataclass
class FittedWindow:
    """Weights of words; `unknown` is that of one that training lacks, `size` the words of an answer."""

    weights: dict[str, float]
    unknown: float
    size: int

    def predict(self, rows: pa.Table) -> dict[str, Any]:
        """`prediction`: a part of each passage."""
        return {
            "prediction": [self._answer(*pair) for pair in zip(*(rows[name].to_pylist() for name in ("question", "passage")), strict=True)]
        }

    def _answer(self, question: str, passage: str) -> str:
        asked = set(_words(question))
        sentences = [part for part in re.split(r"(?<=[.!?])\s+", passage) if part.strip()] or [passage]
        best = max(sentences, key=lambda part: sum(self._weight(word) for word in set(_words(part)) & asked))
        places = [(found.start(), found.end()) for found in re.finditer(r"\w+(?:[-'.,]\w+)*", best)] or [(0, len(best))]
        runs = [(at, min(at + self.size, len(places)) - 1) for at in range(max(1, len(places) - self.size + 1))]
        start, end = max(runs, key=lambda run: self._fresh([best[slice(*place)] for place in places[run[0] : run[1] + 1]], asked))
        return best[places[start][0] : places[end][1]]

    def _fresh(self, words: list[str], asked: set[str]) -> float:
        return sum(self._weight(word) for text in words for word in _words(text) if word not in asked and word not in SMALL)

    def _weight(self, word: str) -> float:
        return self.weights.get(word, self.unknown)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())
