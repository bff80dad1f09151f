"""Scores for each value of a column of the data: who is served well, and who is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fmhub.evaluation import slices
from fmhub.task import Task
from fmhub.training.baselines import labels_of
from fmhub.training.tables import of_split

MOST = 50
"""Values that are scored, the most frequent first: a column with more is no grouping to look at."""


def by_group(task: Task, predictions: pa.Table, columns: Sequence[str]) -> dict[str, Any] | None:
    """{column: {values: {value: {metric: {value, low, high, n}}}, left_out}} of the test split, or None where no column was asked for."""
    return {column: _by(task, predictions, column) for column in columns} or None


def _by(task: Task, predictions: pa.Table, column: str) -> dict[str, Any]:
    table = of_split(predictions, "test")
    counts = Counter(value for value in table.column(column).to_pylist() if value not in (None, ""))
    kept = [value for value, _ in counts.most_common(MOST)]
    table = table.filter(pc.is_in(table.column(column), pa.array(kept, pa.string())))
    if "group" in table.column_names and table.column("group").to_pylist() == table.column(column).to_pylist():
        table = table.drop_columns(["group"])  # within a value that is one group, examples are all there is to resample
    return {"values": slices(table, column, task.metrics, labels_of(task)), "left_out": len(counts) - len(kept)}
