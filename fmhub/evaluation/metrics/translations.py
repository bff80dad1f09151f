"""Metrics of translations, by sacrebleu (Post 2018, W18-6319): scores of a whole set, whose counts add up over its rows.

chrF: Popović 2015, W15-3049; BLEU: Papineni et al. 2002, P02-1040. `SIGNATURES` says exactly which; each metric's title has its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

from fmhub.errors import DataError, FmhubError
from fmhub.evaluation.metrics.base import Columns, Labels, Metric
from fmhub.evaluation.metrics.columns import column

SIGNATURES = {
    "chrf": "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no",
    "bleu": "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp",
    "bleu_zh": "nrefs:1|case:mixed|eff:no|tok:zh|smooth:exp",
}
"""In sacrebleu's own words, without its version."""


@cache
def scorer(name: str) -> Any:
    """sacrebleu's object for a metric of `SIGNATURES`. Raises `FmhubError` where sacrebleu is not installed."""
    try:
        from sacrebleu.metrics import BLEU, CHRF
    except ImportError:
        raise FmhubError("chrF and BLEU need sacrebleu: pip install 'fmhub[translation]'.") from None
    if name == "chrf":
        return CHRF()
    return BLEU(tokenize="zh" if name == "bleu_zh" else "13a", force=True)


def counts(name: str, columns: Columns, labels: Labels = None) -> np.ndarray:
    """(n, k) float64: what sacrebleu counts in each row, of n-grams said, true and in both, or of lengths and matches."""
    said, true = texts(columns, "prediction"), texts(columns, "target")
    return np.array(scorer(name)._extract_corpus_statistics(said, [true]), dtype=np.float64)


def combined(name: str, sums: np.ndarray) -> np.ndarray:
    """(..., k) sums of counts -> (...) scores, 0 to 100."""
    made = scorer(name)
    flat = [made._compute_score_from_stats(row.round().astype(int).tolist()).score for row in sums.reshape(-1, sums.shape[-1])]
    return np.array(flat).reshape(sums.shape[:-1])


def _score(name: str, columns: Columns, labels: Labels = None) -> float:
    return float(combined(name, counts(name, columns).sum(0)))


def texts(columns: Columns, name: str) -> list[str]:
    """A column of texts. Raises `DataError` naming the first row that is none."""
    values: list[Any] = column(columns, name).tolist()
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise DataError(f"Row {row}: the {name} is {value!r}, not a text.")
    return values


def _kept(columns: Columns, labels: Labels = None) -> np.ndarray:
    """(n, 2): whether a row's marks stand in its prediction, each as often, and whether it has any."""
    from fmhub.stems.marks import MARK

    pairs = zip(texts(columns, "prediction"), texts(columns, "target"), strict=True)
    rows = [
        (sorted(MARK.findall(said)) == sorted(wanted), True) if (wanted := MARK.findall(true)) else (False, False) for said, true in pairs
    ]
    return np.array(rows, dtype=np.float64)


def _share(sums: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums[..., 0] / sums[..., 1])


def marks_kept(columns: Columns, labels: Labels = None) -> float:
    """Share of the rows with marks (placeholders, tags) in whose prediction exactly those stand; NaN where no row has any."""
    return float(_share(_kept(columns).sum(0)))


def _metric(name: str, title: str) -> Metric:
    statistics: Callable[[Columns, Labels], np.ndarray] = partial(counts, name)
    title = f"{title} ({SIGNATURES[name]})"
    unit = f"0 to 100, sacrebleu {SIGNATURES[name]}"  # units stand in every record
    return Metric(name, partial(_score, name), "max", 0, 100, unit, title, statistics=statistics, combine=partial(combined, name))


METRICS = {
    metric.name: metric
    for metric in (
        _metric("chrf", "chrF2"),
        _metric("bleu", "BLEU"),
        _metric("bleu_zh", "BLEU of Chinese"),
        Metric("marks_kept", marks_kept, "max", 0, 1, title="Placeholders kept exactly", statistics=_kept, combine=_share),
    )
}
