"""Prediction tables: one row an example, the only thing that scores are ever computed from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from fmhub.task import StemSpec

PREVIEW = 240
"""Characters of an input that travel with its prediction, so that a report can show mistakes."""


def prediction_table(rows: pa.Table, columns: dict[str, Any], *, split: str, fold: int = 0, seed: int = 0, stem: StemSpec) -> pa.Table:
    """`columns` of a head or a baseline beside id, split, fold, seed, group, target, the rows' own extra columns and a preview."""
    count = len(rows)
    table: dict[str, Any] = {
        "id": rows.column("id").combine_chunks(),
        "split": pa.array([split] * count),
        "fold": pa.array([fold] * count, pa.int32()),
        "seed": pa.array([seed] * count, pa.int64()),
        "group": rows.column("group").combine_chunks().cast(pa.string()) if "group" in rows.column_names else pa.nulls(count, pa.string()),
    }
    for name, values in columns.items():
        table[name] = _array(values)
    table["target"] = _like(rows.column("target").combine_chunks(), table["prediction"])
    taken = {*table, *stem.fields, "time"}
    for name in rows.column_names:
        if name not in taken and pa.types.is_string(rows.column(name).type):
            table[name] = rows.column(name).combine_chunks()
    texts = [name for name in stem.fields if name in rows.column_names and pa.types.is_string(rows.column(name).type)]
    if texts:
        values = zip(*(rows.column(name).to_pylist() for name in texts), strict=True)
        table["input"] = pa.array([" | ".join(value)[:PREVIEW] for value in values])
    return pa.table(table)


def _array(values: Any) -> pa.Array:
    if len(values) and isinstance(values[0], np.ndarray):
        return pa.array([value.tolist() for value in values], pa.list_(pa.from_numpy_dtype(values[0].dtype)))
    return pa.array(values)


def _like(target: pa.Array, prediction: pa.Array) -> pa.Array:
    """Targets in the predictions' type, so that `1` and `"1"` are one label."""
    return target if target.type.equals(prediction.type) or pa.types.is_nested(target.type) else target.cast(prediction.type)
