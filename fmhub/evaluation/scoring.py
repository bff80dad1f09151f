"""Scores of a prediction table: what stands in the record, the report and on the board is all computed here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fmhub.errors import DataError
from fmhub.evaluation import intervals, metrics
from fmhub.evaluation.metrics.columns import columns, take

if TYPE_CHECKING:
    import pyarrow as pa


def evaluate(table: pa.Table, wanted: Sequence[str | metrics.Metric], labels: Sequence[str] | None = None, *,
             folds: intervals.Folds = "pooled", resamples: int = intervals.RESAMPLES) -> dict[str, dict[str, Any]]:  # fmt: skip
    """{metric: {value, low, high, n}} of one split's rows of a prediction table (an Arrow table or a mapping of columns).

    `n` counts examples (distinct ids). `value` is None where the metric is undefined, `low` and `high` where no
    interval can be given; a `note` then says why. Raises `DataError` for rows that cannot be scored.
    """
    found = [metrics.get(metric) for metric in wanted]
    read = _one_split(columns(table))
    rows = intervals.estimates(found, read, labels, folds=folds, resamples=resamples)
    n = _examples(read)
    return {metric.name: {**row, "n": n} for metric, row in zip(found, rows, strict=True)}


def difference(ours: pa.Table, theirs: pa.Table, metric: str | metrics.Metric, labels: Sequence[str] | None = None, *,
               folds: intervals.Folds = "pooled", resamples: int = intervals.RESAMPLES,
               level: float = intervals.LEVEL) -> dict[str, Any]:  # fmt: skip
    """{value, low, high} of ours minus theirs, paired on the same resamples of the same examples.

    The sign is the plain one: for a metric with direction `min` (an error) ours is better where it is below 0;
    `better` says it for any metric.
    """
    read = (_one_split(columns(ours)), _one_split(columns(theirs)))
    return dict(intervals.paired(metrics.get(metric), *read, labels, folds=folds, resamples=resamples, level=level))


def better(found: dict[str, Any], metric: str | metrics.Metric) -> bool | None:
    """True where a `difference` shows ours to be better, False for theirs, None where its interval cannot tell."""
    low, high = found["low"], found["high"]
    if low is None or high is None or low <= 0 <= high:
        return None
    return metrics.get(metric).better(low)


def slices(table: pa.Table, by: str, wanted: Sequence[str | metrics.Metric], labels: Sequence[str] | None = None, *,
           folds: intervals.Folds = "pooled", resamples: int = intervals.RESAMPLES) -> dict[str, dict[str, dict[str, Any]]]:  # fmt: skip
    """{value of column `by`: scores of its rows}, in sorted order; rows without a value are left out."""
    read = columns(table)
    if by not in read:
        raise DataError(f"The prediction table has no column {by!r} to slice by.")
    values = np.array(["" if value is None else str(value) for value in read[by]], dtype=object)
    return {
        value: evaluate(take(read, values == value), wanted, labels, folds=folds, resamples=resamples) for value in sorted({*values} - {""})
    }


def _one_split(read: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if "split" in read and len(set(read["split"])) > 1:
        raise DataError(f"Score one split at a time: the table holds {', '.join(sorted(map(str, set(read['split']))))}.")
    if "target" in read and any(value is None for value in read["target"]):
        raise DataError("The prediction table has rows without a target; `fmhub runs targets RUN` puts them back.")
    return read


def _examples(read: dict[str, np.ndarray]) -> int:
    return len(set(read["id"])) if "id" in read else len(read["target"])
