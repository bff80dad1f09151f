"""What each rule does with the rows: no group crosses a split, and no training row is identical to one held out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fmhub.data.fingerprint import fingerprint
from fmhub.data.parts import divide, keys, part_of
from fmhub.data.rules import Given, KFold, Random, Temporal
from fmhub.data.tables import some
from fmhub.errors import DataError, UsageError
from fmhub.task import Splits

Tables = dict[str, pa.Table]
Result = tuple[Tables, list[str]]


def given(rule: Given, parts: Mapping[str, pa.Table], fields: Sequence[str]) -> Result:
    """Keep the declared parts; drop from train (and validation) what is identical to an example held out."""
    if absent := [name for name in ("train", "test") if name not in parts]:
        raise DataError(f"The data declares {some(sorted(parts))}, but no {' and no '.join(absent)} split.")
    check_groups(parts)
    tables, notes = without_leaks(dict(parts), fields)
    if "validation" not in tables:
        shares = {"train": 1 - rule.validation, "validation": rule.validation}
        made = divide(tables["train"], shares, fields, stratify=True, seed=rule.seed)
        cut, more = without_leaks(made, fields)
        tables.update(cut)
        notes += more
    return tables, notes


def random(rule: Random, parts: Mapping[str, pa.Table], fields: Sequence[str]) -> Result:
    """Shares of all rows."""
    table = grouped(together(parts), rule.group)
    shares = {"train": 1 - rule.test - rule.validation, "validation": rule.validation, "test": rule.test}
    return without_leaks(divide(table, shares, fields, stratify=rule.stratify, seed=rule.seed), fields)


def temporal(rule: Temporal, parts: Mapping[str, pa.Table], fields: Sequence[str]) -> Result:
    """Cut by time; identical examples are no leak here, since only the past is known."""
    table = together(parts)
    times, (first, second), embargo = _times(table, rule)
    if not first < second:
        raise UsageError(f"Temporal: the first cutoff {rule.cutoffs[0]} must be before the second, {rule.cutoffs[1]}.")
    where = {
        "train": times < first - embargo,
        "validation": (times >= first) & (times < second - embargo),
        "test": times >= second,
    }
    tables = {name: table.filter(pa.array(mask)) for name, mask in where.items()}
    left = len(table) - sum(map(len, tables.values()))
    return tables, [f"{left} rows within the embargo of {rule.embargo:g} before a cutoff were left out"] if left else []


def _times(table: pa.Table, rule: Temporal) -> tuple[np.ndarray, list[Any], Any]:
    if "time" not in table.column_names:
        raise DataError("A split by time needs a time column: name it with time=COLUMN.")
    column = table["time"]
    if column.null_count:
        raise DataError(f"Row {column.is_null().to_pylist().index(True) + 1} has no time.")
    try:
        if pa.types.is_temporal(column.type) or pa.types.is_string(column.type):
            times = column.cast(pa.timestamp("us")).to_numpy().astype("datetime64[us]")
            embargo = np.timedelta64(round(rule.embargo * 86_400_000_000), "us")
            return times, [np.datetime64(str(cutoff), "us") for cutoff in rule.cutoffs], embargo
        return column.cast(pa.float64()).to_numpy(), [float(cutoff) for cutoff in rule.cutoffs], rule.embargo
    except (ValueError, pa.ArrowException) as error:
        raise DataError(f"The time column or a cutoff is neither a number nor an ISO date ({str(error)[:100]}).") from None


def first_fold(rule: KFold, parts: Mapping[str, pa.Table], fields: Sequence[str]) -> Result:
    """The first fold is test."""
    table = grouped(together(parts), rule.group)
    return _fold(table, assign(table, rule, fields), 0, rule, fields)


def folds(splits: Splits, rule: KFold, fields: Sequence[str] = ()) -> Iterator[Splits]:
    """`rule.k` times the same rows (train, validation and test together; shifts stay as they are), each row tested once."""
    table = grouped(together({name: splits.tables[name] for name in ("train", "validation", "test") if name in splits.tables}), rule.group)
    shifts = {name: part for name, part in splits.tables.items() if name.startswith("shift:")}
    numbers = assign(table, rule, fields)
    for fold in range(rule.k):
        tables, notes = _fold(table, numbers, fold, rule, fields)
        tables |= shifts
        yield Splits(tables=tables, fingerprint=fingerprint(tables), notes=(*splits.notes, *notes))


def assign(table: pa.Table, rule: KFold, fields: Sequence[str] = ()) -> np.ndarray:
    """The fold (0 to k-1) that tests each row, int64."""
    shares = {str(fold): 1 / rule.k for fold in range(rule.k)}
    return part_of(table, shares, fields, stratify=rule.stratify, seed=rule.seed)


def _fold(table: pa.Table, numbers: np.ndarray, fold: int, rule: KFold, fields: Sequence[str]) -> Result:
    rest = table.filter(pa.array(numbers != fold))
    made = divide(rest, {"train": 1 - rule.validation, "validation": rule.validation}, fields, stratify=rule.stratify, seed=rule.seed)
    return without_leaks({**made, "test": table.filter(pa.array(numbers == fold))}, fields)


def together(parts: Mapping[str, pa.Table]) -> pa.Table:
    """All parts but shifts in one table."""
    return pa.concat_tables([part for name, part in parts.items() if not name.startswith("shift:")], promote_options="permissive")


def grouped(table: pa.Table, group: str | None) -> pa.Table:
    """`table` with the named column as its `group`."""
    if group is None or group == "group":
        return table
    if group not in table.column_names:
        raise DataError(f"No column {group!r} to group by. Columns: {some(table.column_names)}.")
    kept = table.drop_columns(["group"]) if "group" in table.column_names else table
    return kept.append_column("group", table[group].cast(pa.string()))


def without_leaks(parts: Tables, fields: Sequence[str]) -> Result:
    """Drop from train what is identical to an example of any other split, and from validation what is in a test split."""
    notes = []
    later: set[object] = set()
    tables = dict(parts)
    for name in sorted(parts, key=lambda name: {"train": 2, "validation": 1}.get(name, 0)):
        own = keys(parts[name], fields)
        if name in ("train", "validation") and later:
            keep = [key not in later for key in own]
            if dropped := keep.count(False):
                tables[name] = parts[name].filter(pa.array(keep))
                notes.append(f"{dropped} row{'s' * (dropped > 1)} of {name}, identical to examples held out, dropped")
        later.update(own)
    return tables, notes


def check_groups(parts: Mapping[str, pa.Table]) -> None:
    """`DataError` where a group that is learnt from, or chosen by, is in another split too; parts held out may share theirs."""
    seen: dict[str, str] = {}
    for name in sorted(parts, key=lambda name: {"train": 0, "validation": 1}.get(name, 2)):
        if "group" in parts[name].column_names:
            for value in pc.unique(parts[name]["group"]).drop_null().to_pylist():
                if value in seen:
                    raise DataError(f"Group {value!r} is both in {seen[value]} and in {name}; a group must not cross a split.")
                if name in ("train", "validation"):
                    seen[value] = name
