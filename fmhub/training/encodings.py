"""What the stem makes of a run's rows, made once: seeds, folds and the points of a curve read the same rows again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fmhub.task import Encoded, StemSpec

if TYPE_CHECKING:
    from fmhub.backbones.load import Backbone
    from fmhub.recipe import Recipe

UNREAD = {"target", "group"}
"""Columns that no stem reads."""
COMPARED = 1024
"""Rows that are compared at a time."""


@dataclass
class Taken(Encoded):
    """Some of the examples that were encoded together: example i is number `rows[i]` of `whole`, which is what the stem understands."""

    whole: Encoded = field(kw_only=True)
    rows: np.ndarray = field(kw_only=True)


def take(whole: Encoded, rows: np.ndarray) -> Encoded:
    """Some of its examples, in this order; nothing is copied but lengths and marks."""
    whole, rows = within(whole, rows)
    cut, strange = (None if marks is None else marks[rows] for marks in (whole.cut, whole.strange))
    return Taken(whole.lengths[rows], [whole.values, rows], cut, strange, whole.alike, whole=whole, rows=rows)


def within(encoded: Encoded, rows: np.ndarray) -> tuple[Encoded, np.ndarray]:
    """What the stem made, and where some of the examples stand in it."""
    return (encoded.whole, encoded.rows[rows]) if isinstance(encoded, Taken) else (encoded, rows)


class Encodings:
    """Of one fitted stem and length at a time: when another asks, what is held is forgotten, and memory holds a run's rows once.

    A table whose rows all stand in one that was encoded before is taken from there. `pool`, of whose rows the folds are made, is
    encoded whole when some of them are first asked for.
    """

    def __init__(self, pool: pa.Table | None = None) -> None:
        self._pool = pool
        self._made_by: tuple[Any, ...] = ()
        self._held: list[tuple[pa.Table, Encoded]] = []

    def __call__(self, stem: StemSpec, table: pa.Table, backbone: Backbone, recipe: Recipe) -> Encoded:
        """What `stem.encode` makes of `table`. Raises what that raises."""
        made_by = (stem, recipe.length, backbone.sha256, repr(backbone.options), backbone.max_length)
        if not _same(made_by, self._made_by):
            self._made_by, self._held = made_by, []
        for known, encoded in self._held:
            if (rows := places(table, known)) is not None:
                return encoded if _everything(rows, known) else take(encoded, rows)
        rows = None if self._pool is None else places(table, self._pool)
        known = table if rows is None else self._pool
        encoded = stem.encode(known, backbone, recipe)
        self._held.append((known, encoded))
        return encoded if rows is None or _everything(rows, known) else take(encoded, rows)


def places(table: pa.Table, known: pa.Table) -> np.ndarray | None:
    """Where each row of `table` stands in `known`, alike in all that a stem may read; None where one does not."""
    if table is known:
        return np.arange(len(table))
    names = [name for name in table.column_names if name not in UNREAD]
    if {*names} != {*known.column_names} - UNREAD or any(table.schema.field(name).type != known.schema.field(name).type for name in names):
        return None
    found = pc.index_in(table.column("id"), known.column("id").combine_chunks())
    if found.null_count:
        return None
    rows: np.ndarray = found.to_numpy()
    table, known = table.select(names), known.select(names)
    pieces = range(0, len(rows), COMPARED)
    alike = all(known.take(pa.array(rows[at : at + COMPARED])).equals(table.slice(at, COMPARED)) for at in pieces)
    return rows if alike else None


def _everything(rows: np.ndarray, known: pa.Table) -> bool:
    return len(rows) == len(known) and bool((rows == np.arange(len(rows))).all())


def _same(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except ValueError:  # a stem that holds arrays does not say whether it is another
        return False
