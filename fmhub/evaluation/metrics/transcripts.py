"""Metrics of texts that were written down: errors among words and characters (Levenshtein 1966), counted by jiwer.

`fold-1` is how texts are folded before most of them: compatibility forms taken apart (NFKD), accents and other marks dropped,
case folded, apostrophes dropped, everything else that is neither letter nor digit turned into a space, spaces folded.
`wer_exact` compares what was written, case, accents and punctuation included, with spaces folded. `wer_english` folds as Whisper's
authors do for English (`whisper-english`: numbers as digits, contractions spelled out; Radford et al. 2022, appendix C).
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fmhub.errors import DataError, FmhubError
from fmhub.evaluation.metrics.base import Columns, Labels, Metric
from fmhub.evaluation.metrics.columns import column

FOLDING = "fold-1"
"""The name of `folded`; another way of folding is another name and another metric."""


def folded(text: str) -> str:
    """Lower-case letters and digits of `text` with single spaces between words; see `fold-1` above."""
    apart = (letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter) and letter not in "'’ʼ")
    return " ".join("".join(letter if letter.isalnum() else " " for letter in "".join(apart).casefold()).split())


def exact(text: str) -> str:
    """`text` with white space folded."""
    return " ".join(text.split())


def english(text: str) -> str:
    """`text` as transformers' EnglishTextNormalizer leaves it, without its list of British spellings and the points that stand alone."""
    return " ".join(word for word in str(_normaliser()(text)).split() if word != ".")  # three at the end of a text leave one


@functools.cache
def _normaliser() -> Any:
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    return EnglishTextNormalizer({})  # type: ignore[no-untyped-call]


def errors(columns: Columns, labels: Labels, *, fold: Callable[[str], str], unit: str) -> np.ndarray:
    """(n, 2) float64: insertions, deletions and substitutions; words or characters (`unit`) of the target."""
    try:
        import jiwer
    except ImportError:
        raise FmhubError("Word error rates need jiwer: pip install 'fmhub[audio]'.") from None
    count = getattr(jiwer, f"process_{unit}")
    rows = []
    written = _texts(columns, "prediction")
    for true, said in zip(_texts(columns, "target"), written, strict=True):
        true, said = fold(true), fold(said)
        if not true:  # which jiwer refuses
            rows.append((len(said.split() if unit == "words" else said), 0))
            continue
        found = count(true, said)
        rows.append((found.substitutions + found.deletions + found.insertions, found.hits + found.substitutions + found.deletions))
    return np.array(rows, np.float64)


def rate(columns: Columns, labels: Labels = None, *, rows: Callable[[Columns, Labels], np.ndarray]) -> float:
    """Errors a unit of all targets together, 0 and more."""
    return float(_ratio(rows(columns, labels).sum(0)))


def _ratio(sums: np.ndarray) -> np.ndarray:
    return np.asarray(sums[..., 0] / np.maximum(sums[..., 1], 1))


def _texts(columns: Columns, name: str) -> list[str]:
    values: list[Any] = ["" if value is None else value for value in column(columns, name)]
    if not all(isinstance(value, str) for value in values):
        raise DataError(f"Column {name!r} must hold texts to count errors in.")
    return values


def _metric(name: str, title: str, told: str, fold: Callable[[str], str], unit: str = "words") -> Metric:
    rows = partial(errors, fold=fold, unit=unit)
    return Metric(name, partial(rate, rows=rows), "min", 0.0, unit=told, title=title, statistics=rows, combine=_ratio)


METRICS = {
    metric.name: metric
    for metric in (
        _metric("wer", "Word error rate", f"errors a word, texts folded by {FOLDING}", folded),
        _metric("cer", "Character error rate", f"errors a character, texts folded by {FOLDING}", folded, "characters"),
        _metric("wer_english", "Word error rate, numbers as digits", "errors a word, texts folded by whisper-english", english),
        _metric("wer_exact", "Word error rate with case and punctuation", "errors a word, texts as written", exact),
    )
}
