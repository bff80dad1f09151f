"""Metrics: pure functions over the columns of a prediction table, found by name."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

from fmhub.errors import UsageError, nearest
from fmhub.evaluation.metrics.base import Columns, Labels, Metric

__all__ = ["Columns", "Labels", "Metric", "as_evaluate", "get", "names"]

_ROOMS = {
    "answers": ("answer_f1", "exact_match"),
    "agreement": ("kappa_quadratic",),
    "detection": ("ap50", "ap75", "map"),
    "classification": ("accuracy", "balanced_accuracy", "f1", "f1_macro", "mcc"),
    "likelihood": ("bits_per_byte", "next_token", "perplexity"),
    "probability": ("auc", "brier", "ece", "log_loss", "top3_accuracy", "top5_accuracy"),
    "ranking": ("coverage", "hr_1", "hr_10", "hr_5", "mrr", "ndcg_10"),
    "transcripts": ("cer", "wer", "wer_english", "wer_exact"),
    "translations": ("bleu", "bleu_zh", "chrf", "marks_kept"),
    "regression": ("mae", "pearson", "r2", "rmse", "spearman"),
}
"""Which module of this room holds which metrics, so that a name is checked without importing numpy."""


def names() -> tuple[str, ...]:
    """The names of fmhub's own metrics."""
    return tuple(sorted(name for room in _ROOMS.values() for name in room))


def get(metric: str | Metric) -> Metric:
    """The metric of that name, or the `Metric` itself; a `UsageError` says the nearest names."""
    if isinstance(metric, Metric):
        return metric
    for room, held in _ROOMS.items():
        if metric in held:
            found: Metric = importlib.import_module(f"{__name__}.{room}").METRICS[metric]
            return found
    raise UsageError(f"Unknown metric {metric!r}.{nearest(str(metric), names())} Known: {', '.join(names())}.")


def as_evaluate(metric: str | Metric, labels: Iterable[str] | None = None) -> Any:
    """The metric as an `evaluate.Metric` for other tools; importing `evaluate` takes seconds, the network is never asked.

    `compute(predictions=..., references=...)` takes what the metric reads: labels, floats, or for a metric of
    probabilities one row of scores an example in the order of `labels`, which such a metric needs.
    """
    from fmhub.evaluation.metrics.ecosystem import wrap

    return wrap(get(metric), None if labels is None else tuple(labels))
