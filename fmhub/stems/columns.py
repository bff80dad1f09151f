"""Columns of a table as numbers or categories: how they are read, and what the training rows teach about each."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from fmhub.errors import DataError, nearest

BINS = 4
"""Quantile bins of a number's piecewise-linear code."""
FEATURES = BINS + 2
"""Of a number: the standardised value, its code, and whether it is missing."""
FAR = 4.0
"""Deviations from the mean at which a number stops counting."""
MOST_LEVELS = 200

Number = tuple[str, float, float, tuple[float, ...]]
"""(name, mean, deviation, edges of the bins)."""
Category = tuple[str, tuple[str, ...]]
"""(name, its values in the training rows)."""


def values(table: pa.Table, name: str) -> list[Any]:
    """A column's values, blanks as None. Raises `DataError` where it is not there."""
    if name not in table.column_names:
        raise DataError(f"No column {name!r}.{nearest(name, table.column_names)}")
    found: list[Any] = table[name].to_pylist()
    return [None if value is None or value != value or (isinstance(value, str) and not value.strip()) else value for value in found]


def numbers(table: pa.Table, name: str) -> np.ndarray:
    """(rows,) float64 with NaN where a value is missing. Raises `DataError` naming the row of what is no finite number."""
    found = np.full(len(table), np.nan)
    for row, value in enumerate(values(table, name)):
        if value is not None:
            found[row] = _float(value)
            if not math.isfinite(found[row]):
                where = table["id"][row].as_py()
                raise DataError(f"Row {where}: column {name!r} holds numbers, not {value!r}. Leave a cell empty where it is not known.")
    return found


def typed(name: str, value: Any, *, number: bool) -> float | str | None:
    """One cell as somebody gave it, a number as a float; None for a blank. Raises `DataError` for text in a column of numbers."""
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        return None
    if number and not math.isfinite(_float(value)):
        raise DataError(f"Column {name!r} holds numbers, not {value!r}. Leave it out where it is not known.")
    return _float(value) if number else _text(value)


def texts(table: pa.Table, name: str, *, rounded: bool = False) -> list[str | None]:
    """A column's values as text; with `rounded`, those of a column of numbers to six digits."""
    if rounded:
        return [None if np.isnan(value) else f"{value:.6g}" for value in numbers(table, name)]
    return [None if value is None else _text(value) for value in values(table, name)]


def fit(train: pa.Table, name: str) -> Number | Category | None:
    """What the training rows say of a column; None for one that is the same in all of them. Raises `DataError` for one of no kind."""
    kind = train.schema.field(name).type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        raise DataError(f"Column {name!r} holds {kind}: a table has one number or one short text a cell.")
    found = values(train, name)
    if len({_text(value) for value in found}) < 2:
        return None
    told = [value for value in found if value is not None]
    readable = sum(math.isfinite(_float(value)) for value in told)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or (len(told) >= 10 and readable >= 0.9 * len(told)):
        return _number(name, numbers(train, name))
    return _category(name, [_text(value) for value in told])


def code(column: Number, raw: np.ndarray) -> np.ndarray:
    """(rows, FEATURES) float64: standardised, in quantile bins (Gorishniy et al. 2022, arXiv:2203.05556), and missing or not."""
    _, mean, deviation, edges = column
    missing = np.isnan(raw)
    value = np.where(missing, mean, raw)
    coded = np.zeros((len(raw), FEATURES))
    coded[:, 0] = np.clip((value - mean) / deviation, -FAR, FAR)
    for bin_, (low, high) in enumerate(itertools.pairwise(edges)):
        coded[:, 1 + bin_] = np.clip((value - low) / (high - low), 0, 1)
    coded[:, -1] = missing
    return coded


def _number(name: str, raw: np.ndarray) -> Number:
    told = raw[~np.isnan(raw)]
    edges = np.unique(np.quantile(told, np.linspace(0, 1, BINS + 1)))
    return name, float(told.mean()), float(told.std()) or 1.0, tuple(edges.tolist())


def _category(name: str, told: list[str]) -> Category:
    counts = Counter(told)
    if len(counts) > min(MOST_LEVELS, max(20, len(told) // 2)):
        raise DataError(
            f"Column {name!r} holds {len(counts)} different texts in {len(told)} rows: that is no category. "
            f"Leave the column out, or name it as the id: --columns id={name}."
        )
    return name, tuple(sorted(counts))


def _float(value: Any) -> float:
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return math.nan


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).strip()
