"""A task whose last test part has no targets here: a board's keeper has them (`fmhub leaderboard hide`)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fmhub.errors import DataError
from fmhub.task import DataSpec, Splits, StemSpec

if TYPE_CHECKING:
    from fmhub.data import Data

NAME = "hidden"


@dataclass(frozen=True)
class Hidden:
    """`known` with a part more, `hidden`: `rows` with an id and the fields, and no target.

    A run neither trains nor chooses on it; its predictions are made when it is submitted.
    """

    known: DataSpec
    rows: Data

    def load(self) -> Splits:
        """The known parts and the hidden one. Raises `DataError` where that has targets, or no ids."""
        import pyarrow as pa

        from fmhub.data.fingerprint import fingerprint
        from fmhub.data.read import read

        splits, (table, *more) = self.known.load(), list(read(self.rows).values())
        roles = {column: role for role, column in self.rows.columns}
        table = table.rename_columns([roles.get(name, name) for name in table.column_names])
        if more or {"target", "label"} & set(table.column_names) or "id" not in table.column_names:
            raise DataError("A hidden part is one table with an id and without a target: whoever has the task would have them.")
        table = table.set_column(table.column_names.index("id"), "id", table["id"].cast(pa.string()))
        both = f"{splits.fingerprint}\n{fingerprint({NAME: table})}"
        return replace(splits, tables={**splits.tables, NAME: table}, fingerprint=hashlib.sha256(both.encode()).hexdigest())

    def opened(self, reference: str, columns: Mapping[str, str], test: str | None, stem: StemSpec | None) -> Any:
        """The user's own rows, which hide nothing."""
        return self.known.opened(reference, columns, test, stem)


def seen(splits: Splits) -> Splits:
    """What a run reads: all parts but the hidden one."""
    return replace(splits, tables={name: table for name, table in splits.tables.items() if name != NAME})
