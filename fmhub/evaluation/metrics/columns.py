"""From a prediction table to checked numpy columns: what every metric starts with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fmhub.errors import DataError
from fmhub.evaluation.metrics.base import Columns, Labels


def columns(table: Any) -> dict[str, np.ndarray]:
    """Numpy columns of an Arrow table or a mapping: numbers as float64, texts as objects, equal-length lists as (n, k)."""
    if isinstance(table, Mapping):
        return {name: _array(list(values) if not isinstance(values, np.ndarray) else values) for name, values in table.items()}
    return {name: _array(_values(table.column(name))) for name in table.column_names}


def _values(column: Any) -> Any:
    import pyarrow.compute as pc
    import pyarrow.types as kinds

    if column.null_count == 0 and (kinds.is_floating(column.type) or kinds.is_integer(column.type)):
        return column.to_numpy()
    if column.null_count == 0 and kinds.is_list(column.type) and kinds.is_floating(column.type.value_type) and len(column):
        flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
        if len(set(pc.list_value_length(column).to_pylist())) == 1:
            return flat.reshape(len(column), -1)
    return column.to_pylist()


def _array(values: Any) -> np.ndarray:
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiub":
        return values
    filled = [value for value in values if value is not None]
    if len(filled) == len(values) and filled and all(isinstance(value, (int, float)) for value in filled):
        return np.asarray(values, dtype=np.float64)
    if len(filled) == len(values) and filled and all(_numbers(value) for value in filled) and len({len(value) for value in filled}) == 1:
        return np.asarray(list(values), dtype=np.float64)
    array = np.empty(len(values), dtype=object)
    for row, value in enumerate(values):  # at once, numpy would take rows that are lists of one length for a matrix
        array[row] = value
    return array


def _numbers(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple, np.ndarray)) and len(value) > 0 and all(isinstance(part, (int, float, np.number)) for part in value)
    )


def take(table: Columns, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The given rows (indices or a mask) of every column."""
    return {name: values[rows] for name, values in table.items()}


def numbers(table: Columns, name: str) -> np.ndarray:
    """(n,) float64 of a column; a `DataError` names the first row that is no finite number."""
    values = column(table, name)
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"Column {name!r} must hold numbers; row {_first(table, [not _is_number(v) for v in values])} does not.") from None
    if found.ndim != 1:
        raise DataError(f"Column {name!r} must hold one number a row.")
    if not np.isfinite(found).all():
        raise DataError(f"Column {name!r} holds NaN or infinity in row {_first(table, ~np.isfinite(found))}.")
    return found


def probabilities(table: Columns, labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    """((n, k) float64 rows that sum to 1 within float32, (n,) index of the true label). Raises `DataError` for anything else."""
    scores = column(table, "scores")
    if labels is None:
        raise DataError("A metric of probabilities needs the labels, in the order of the scores.")
    if scores.ndim != 2 or scores.shape[1] != len(labels):
        raise DataError(f"Every row of 'scores' must hold {len(labels)} numbers, one a label.")
    scores = scores.astype(np.float64)
    wrong = ~np.isfinite(scores).all(axis=1) | (scores < 0).any(axis=1) | (np.abs(scores.sum(axis=1) - 1) > 1e-3)
    if wrong.any():
        raise DataError(f"'scores' must be probabilities that sum to 1; row {_first(table, wrong)} is not.")
    place = {label: index for index, label in enumerate(labels)}
    truth = _labels(table, "target")
    unknown = np.array([label not in place for label in truth])
    if unknown.any():
        raise DataError(f"Row {_first(table, unknown)} has a target that is none of the labels {', '.join(labels)}.")
    return scores, np.array([place[label] for label in truth])


def several(table: Columns) -> bool:
    """Whether a row's target is a list of labels, of which none or several may apply."""
    first = next((value for value in column(table, "target") if value is not None), None)
    return isinstance(first, (list, tuple)) or (isinstance(first, np.ndarray) and first.dtype.kind in "OU")


def applicable(table: Columns, labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    """((n, k) float64 probabilities, each for itself, (n, k) bool: whether the label applies). Raises `DataError` for anything else."""
    scores = column(table, "scores")
    if labels is None or scores.ndim != 2 or scores.shape[1] != len(labels):
        raise DataError(f"Every row of 'scores' must hold {len(labels or ())} numbers, one a label.")
    scores = scores.astype(np.float64)
    wrong = ~np.isfinite(scores).all(axis=1) | (scores < 0).any(axis=1) | (scores > 1).any(axis=1)
    if wrong.any():
        raise DataError(f"'scores' must be probabilities; row {_first(table, wrong)} is not.")
    place = {label: index for index, label in enumerate(labels)}
    applies = np.zeros(scores.shape, dtype=bool)
    for row, named in enumerate(column(table, "target")):
        for label in map(str, named):
            if label not in place:
                raise DataError(f"Row {row} has the label {label!r}, which is none of {', '.join(labels)}.")
            applies[row, place[label]] = True
    return scores, applies


def codes(table: Columns, labels: Labels) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(target, prediction, names): indices into names, which are `labels` and after them any other label that occurs."""
    target, prediction = _labels(table, "target"), _labels(table, "prediction")
    known = list(labels or ())
    known += sorted({*target, *prediction} - set(known))
    place = {label: index for index, label in enumerate(known)}
    return np.array([place[label] for label in target]), np.array([place[label] for label in prediction]), known


def _labels(table: Columns, name: str) -> list[str]:
    values = column(table, name)
    missing = [value is None or value != value for value in values]
    if any(missing):
        raise DataError(f"Column {name!r} has no label in row {_first(table, missing)}.")
    return [str(value) for value in values]


def column(table: Columns, name: str) -> np.ndarray:
    if name not in table:
        raise DataError(f"The prediction table has no column {name!r}.")
    values: np.ndarray = np.asarray(table[name])
    if len(values) == 0:
        raise DataError("There is no row to score.")
    return values


def truth(target: Any) -> str:
    """A target as text that is equal for equal targets; numbers to float32, which is what some heads keep."""
    return repr(float(np.float32(target))) if isinstance(target, (float, np.floating)) else repr(target)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number))


def _first(table: Columns, wrong: Any) -> str:
    row = int(np.flatnonzero(np.asarray(wrong))[0])
    return f"{row} (id {table['id'][row]})" if "id" in table else str(row)
