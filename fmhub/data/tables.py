"""Give a raw table its roles: string `id`, `target`, `group`, `time`, `split` and the fields; refuse what cannot be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from fmhub.errors import DataError, UsageError, nearest

ALIASES = {"training": "train", "dev": "validation", "val": "validation", "valid": "validation", "testing": "test"}
"""Other names of the parts."""
ROLES = ("id", "target", "label", "group", "time", "split")
TEXT_ROLES = ("id", "group", "split")


def some(values: Sequence[object], most: int = 8) -> str:
    """`a, b, c` or `a, b, ... and 12 more`."""
    shown = ", ".join(str(value) for value in values[:most])
    return shown + (f" and {len(values) - most} more" if len(values) > most else "")


def with_roles(raw: pa.Table, columns: Mapping[str, str], where: str, prefix: str = "") -> pa.Table:
    """`raw` with its columns renamed by role and checked; rows keep their order. `prefix` starts a made-up id."""
    names = raw.column_names
    if len(set(names)) != len(names):
        raise DataError(f"{where}: the column {next(name for name in names if names.count(name) > 1)!r} is there twice.")
    if not len(raw):
        raise DataError(f"{where} has no rows.")
    for role, column in columns.items():
        if column not in names:
            raise DataError(f"{where}: no column {column!r} (for {role}).{nearest(column, names)} Columns: {some(names)}.")
    if {"label", "target"} <= columns.keys():
        raise UsageError("`label` and `target` are two words for the same role: name one of them.")
    mapped = {role: column for role, column in columns.items() if role != "label"}
    target = columns.get("label") or columns.get("target") or next((name for name in ("target", "label") if name in names), None)
    if target is None:
        raise DataError(f"{where}: which column is the target? Name it with --columns label=NAME. Columns: {some(names)}.")
    mapped["target"] = target
    kept = [name for name in names if name not in mapped.values() and name not in mapped]
    table = pa.table({**{name: _plain(raw[name]) for name in kept}, **{role: _plain(raw[column]) for role, column in mapped.items()}})
    for role in TEXT_ROLES:
        if role in table.column_names:
            text = table[role].cast(pa.string())
            if role == "group":  # a blank is no group of its own
                text = pc.if_else(pc.equal(pc.fill_null(text, ""), ""), pa.scalar(None, pa.string()), text)
            table = _set(table, role, text)
    if "id" in table.column_names:
        _complete(table["id"], where, "id")
    else:
        table = _set(table, "id", pa.array([f"{prefix}{row}" for row in range(len(table))], pa.string()))
    table = _finite(table, where)
    _complete(table["target"], where, "label" if "label" in (target, *columns) else "target")
    first = [name for name in ("id", *mapped) if name in table.column_names]
    return table.select(list(dict.fromkeys([*first, *table.column_names])))


def _set(table: pa.Table, name: str, column: pa.ChunkedArray | pa.Array) -> pa.Table:
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, column)
    return table.append_column(name, column)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Without dictionaries, views and wide offsets, so that readers meet one type of text."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_large_string(kind) or str(kind) == "string_view":
        return column.cast(pa.string())
    if pa.types.is_float16(kind) or pa.types.is_decimal(kind):
        return column.cast(pa.float64())
    return column


def _complete(column: pa.ChunkedArray, where: str, what: str) -> None:
    """No nulls, and for text no blanks."""
    absent = pc.is_null(column, nan_is_null=True)
    if pa.types.is_string(column.type):
        absent = pc.or_(absent, pc.equal(pc.utf8_trim_whitespace(pc.fill_null(column, "")), ""))
    _refuse(absent, where, f"no {'label or target' if what == 'target' else what}")


def _finite(table: pa.Table, where: str) -> pa.Table:
    """NaN in a field means missing; in a target, and infinity anywhere, it is an error."""
    for name in table.column_names:
        column = table[name]
        if pa.types.is_floating(column.type):
            _refuse(pc.fill_null(pc.is_inf(column), False), where, f"an infinite {name}")
            if name != "target":
                table = _set(table, name, pc.if_else(pc.fill_null(pc.is_nan(column), False), pa.scalar(None, column.type), column))
    return table


def _refuse(bad: pa.ChunkedArray, where: str, what: str) -> None:
    if rows := [row for row, value in enumerate(bad.to_pylist(), 1) if value]:
        raise DataError(f"{where}: row{'s' * (len(rows) > 1)} {some(rows, 5)} of {len(bad)} {'have' if len(rows) > 1 else 'has'} {what}.")
