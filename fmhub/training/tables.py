"""Prediction tables: one row an example, the only thing that scores are ever computed from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fmhub.errors import DataError
from fmhub.task import StemSpec

PREVIEW = 240
"""Characters of an input that travel with its prediction, so that a report can show mistakes."""
FREE = ("id", "split", "fold", "seed", "group", "prediction", "scores", "train", "name")
"""Columns that hold nothing of the data itself: all that is stored where a licence forbids copies."""


def prediction_table(
    rows: pa.Table, columns: dict[str, Any], *, split: str, fold: int = 0, seed: int = 0, stem: StemSpec, slices: Sequence[str] = ()
) -> pa.Table:
    """`columns` of a head or a baseline beside id, split, fold, seed, group, target, the rows' own extra columns and a preview.

    `slices` names columns of any scalar type that are kept as text.
    """
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
    taken = {*table, *({*stem.fields, "time"} - {*slices})}
    for name in rows.column_names:
        if name not in taken and (name in slices or pa.types.is_string(rows.column(name).type)):
            table[name] = rows.column(name).combine_chunks().cast(pa.string())
    texts = [name for name in stem.fields if name in rows.column_names and pa.types.is_string(rows.column(name).type)]
    if texts:
        values = zip(*(rows.column(name).to_pylist() for name in texts), strict=True)
        table["input"] = pa.array([" | ".join(part for part in value if part)[:PREVIEW] for value in values])
    return pa.table(table)


def of_split(table: pa.Table, split: str) -> pa.Table:
    """The rows of one split."""
    return table.filter(pc.equal(table.column("split"), split))


def join(tables: Sequence[pa.Table]) -> pa.Table:
    """Prediction tables one after another, whatever extra columns each has."""
    return pa.concat_tables(tables, promote_options="permissive")


def storable(table: pa.Table, redistribute: bool) -> pa.Table:
    """The table as it may be written into a run's folder: without target, input and the data's columns where the licence forbids copies."""
    return table if redistribute else table.select([name for name in table.column_names if name in FREE])


def with_target(table: pa.Table, rows: Iterable[pa.Table]) -> pa.Table:
    """`table` with the target of every id, taken from the data's `rows`, where it has none. Raises `DataError` for an unknown id."""
    if "target" in table.column_names:
        return table
    truth = pa.concat_tables([part.select(["id", "target"]) for part in rows], promote_options="permissive")
    places = pc.index_in(table.column("id"), truth.column("id").combine_chunks())
    if places.null_count:
        raise DataError(f"The data no longer have example {table.column('id')[places.is_null().to_pylist().index(True)].as_py()!r}.")
    target = truth.column("target").combine_chunks().take(places.combine_chunks())
    return table.append_column("target", _like(target, table.column("prediction").combine_chunks()))


def _array(values: Any) -> pa.Array:
    if len(values) and isinstance(values[0], np.ndarray):
        return pa.array([value.tolist() for value in values], pa.list_(pa.from_numpy_dtype(values[0].dtype)))
    return pa.array(values)


def _like(target: pa.Array, prediction: pa.Array) -> pa.Array:
    """Targets in the predictions' type, so that `1` and `"1"` are one label."""
    nested = pa.types.is_nested(target.type) or pa.types.is_nested(prediction.type)
    return target if nested or target.type.equals(prediction.type) else target.cast(prediction.type)
