"""Metrics of answers found in passages, as for SQuAD (Rajpurkar et al. 2016, arXiv:1606.05250): the best of the answers that count.

Texts are compared in lower case, without punctuation and the articles a, an, the, with white space folded.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fmhub.errors import DataError
from fmhub.evaluation.metrics.base import Columns, Labels, Metric
from fmhub.evaluation.metrics.columns import column

_MARKS = str.maketrans("", "", string.punctuation)


def folded(text: str) -> str:
    """A text as it is compared."""
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(_MARKS)).split())


def exact(said: str, true: str) -> float:
    """1 where both are the same, else 0."""
    return float(folded(said) == folded(true))


def overlap(said: str, true: str) -> float:
    """F1 of the words of both, each as often as it stands; of two texts without a word 1."""
    ours, theirs = folded(said).split(), folded(true).split()
    shared = (Counter(ours) & Counter(theirs)).total()
    if not ours or not theirs:
        return float(ours == theirs)
    return 2 * shared / (len(ours) + len(theirs))


def _rows(compare: Callable[[str, str], float], columns: Columns, labels: Labels = None) -> np.ndarray:
    """(n, 2): the best agreement with one of a row's answers, and 1. Raises `DataError` naming a row without a text or answers."""
    rows = []
    for row, (said, answers) in enumerate(zip(column(columns, "prediction"), column(columns, "target"), strict=True)):
        said, answers = _texts(said)[:1], _texts(answers)
        if not said or not answers:
            raise DataError(f"Row {row}: a text and a list of at least one right answer are needed.")
        rows.append((max(compare(said[0], answer) for answer in answers), 1.0))
    return np.array(rows, np.float64)


def _texts(value: Any) -> list[str]:
    values = [value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple | np.ndarray) else []
    return values if all(isinstance(one, str) for one in values) else []


def _mean(sums: np.ndarray) -> np.ndarray:
    return np.asarray(sums[..., 0] / sums[..., 1])


def _score(compare: Callable[[str, str], float], columns: Columns, labels: Labels = None) -> float:
    return float(_mean(_rows(compare, columns).sum(0)))


def _metric(name: str, title: str, compare: Callable[[str, str], float]) -> Metric:
    return Metric(name, partial(_score, compare), "max", 0, 1, title=title, statistics=partial(_rows, compare), combine=_mean)


METRICS = {
    metric.name: metric
    for metric in (
        _metric("answer_f1", "F1 of the answer's words", overlap),
        _metric("exact_match", "Answers that are exactly right", exact),
    )
}
