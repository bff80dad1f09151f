"""From a spec to `Splits`: read, name the columns, split, check, fingerprint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from fmhub.data import splitting
from fmhub.data.fingerprint import fingerprint
from fmhub.data.read import read
from fmhub.data.rules import Given, Random
from fmhub.data.tables import ALIASES, ROLES, some, with_roles
from fmhub.errors import DataError
from fmhub.task import Splits

if TYPE_CHECKING:
    from fmhub.data import Data


def load(spec: Data) -> Splits:
    """Read, split and check what `spec` names; see `Data.load`."""
    columns = dict(spec.columns)
    raw = {ALIASES.get(name, name): table for name, table in read(spec).items()}
    where = spec.files[0][1] if spec.files else f"{getattr(spec.function, '__name__', 'rows')}()"
    tables = {name: with_roles(table, columns, where, prefix=f"{name}-" if name else "") for name, table in raw.items()}
    notes = _tell_apart(tables)
    given = _by_column(tables[""], where) if list(tables) == [""] else tables
    fields = spec.fields or tuple(role for role in columns if role not in ROLES)
    rule = spec.split or (Random() if list(given) == [""] else Given())
    try:
        parts, more = rule.split(given, fields)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    _check(parts, where, classes="label" in columns or any("label" in table.column_names for table in raw.values()))
    splitting.check_groups(parts)
    return Splits(tables=parts, fingerprint=fingerprint(parts), notes=(*notes, *more), rule=type(rule).__name__)


def _tell_apart(tables: dict[str, pa.Table]) -> list[str]:
    """Start ids with their split's name where files that came apart use the same ones."""
    ids = [name for table in tables.values() for name in pc.unique(table["id"]).to_pylist()]
    if len(set(ids)) == len(ids):
        return []
    for name, table in tables.items():
        named = pc.binary_join_element_wise(name, table["id"], "-")
        tables[name] = table.set_column(table.column_names.index("id"), "id", named)
    return ["the parts use the same ids, which now start with the part's name"]


def _by_column(table: pa.Table, where: str) -> dict[str, pa.Table]:
    """The parts that a `split` column names, or all rows under an empty name."""
    if "split" not in table.column_names:
        return {"": table}
    named = pc.utf8_lower(pc.utf8_trim_whitespace(table["split"].cast(pa.string())))
    names = [ALIASES.get(name, name) for name in named.to_pylist()]
    if None in names or "" in names:
        row = next(row for row, name in enumerate(names, 1) if not name)
        raise DataError(f"{where}: row {row} has no split.")
    table = table.drop_columns(["split"])
    return {name: table.filter(pa.array([name == other for other in names])) for name in dict.fromkeys(names)}


def _check(parts: Mapping[str, pa.Table], where: str, *, classes: bool) -> None:
    """Every split has rows, ids are unique, train has something to tell apart, and has seen every class of the others."""
    for name in ("train", "validation", "test"):
        if name not in parts or not len(parts[name]):
            raise DataError(f"{where}: the {name} split has no rows.")
    ids = pa.chunked_array([chunk for table in parts.values() for chunk in table["id"].chunks], pa.string())
    counts = pc.value_counts(ids)
    if len(twice := counts.filter(pc.greater(counts.field("counts"), 1))):
        raise DataError(f"{where}: id {twice.field('values')[0].as_py()!r} is given to {twice.field('counts')[0].as_py()} rows.")
    kind = parts["train"]["target"].type
    scalar = not (pa.types.is_nested(kind) or pa.types.is_binary(kind))
    if scalar and len(distinct := pc.unique(parts["train"]["target"])) < 2:
        raise DataError(f"{where}: every training row has the target {distinct[0].as_py()!r}; at least two are needed.")
    if classes and (pa.types.is_string(kind) or pa.types.is_boolean(kind)):
        check_labels(parts, where)


def check_labels(parts: Mapping[str, pa.Table], where: str = "data") -> None:
    """`DataError` where a split has a label that train lacks."""
    known = pc.unique(parts["train"]["target"].combine_chunks())
    for name, table in parts.items():
        if not pc.all(pc.is_in(table["target"], known)).as_py():
            strange = table["target"].filter(pc.invert(pc.is_in(table["target"], known)))
            label = strange[0].as_py()
            count = pc.sum(pc.equal(strange, strange[0])).as_py()
            raise DataError(
                f"{where}: label {label!r} is in {count} row{'s' * (count > 1)} of {name} (first: id {_first(table, label)}) "
                f"but in none of train; train has {some([repr(value) for value in known.to_pylist()])}."
            )


def _first(table: pa.Table, label: object) -> str:
    return str(table["id"][table["target"].to_pylist().index(label)].as_py())
