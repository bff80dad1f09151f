"""What entries predict, apart from what is true: targets are kept once for a table, and where a licence forbids copies not at all.

Predictions are named by a hash of their values, so that the same ones have the same name whatever else a run's file held.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sqlalchemy as sa

from fmhub.data import hidden as hidden_split
from fmhub.errors import DataError, FmhubError, UntrustedFile
from fmhub.evaluation.metrics.columns import truth
from fmhub.leaderboard.schema import TARGETS
from fmhub.runs import folder as run_folder
from fmhub.training.tables import with_target
from fmhub.training.targets import with_targets

PREDICTED = ("id", "split", "fold", "seed", "prediction", "scores")
"""The columns that are an entry's own; all others belong to the rows that it predicts."""
ORDER = ("split", "seed", "fold", "id")
MARK = b"fmhub 1\n"
HIDDEN = hidden_split.NAME
"""The split whose targets the board's keeper alone has."""


def predicted(table: pa.Table, also: Iterable[str] = ()) -> pa.Table:
    """An entry's own columns (`also` those that its metrics read), in an order that depends on nothing but them."""
    names = [name for name in dict.fromkeys((*PREDICTED, *also)) if name in table.column_names and name not in ("target", "group")]
    return table.select(names).sort_by([(name, "ascending") for name in ORDER if name in names])


def truths(table: pa.Table) -> dict[str, tuple[str, pa.Table]]:
    """{split: (hash of its ids and targets, its rows' own columns)} of the splits whose targets are known."""
    drop = [name for name in (*PREDICTED, "input") if name != "id" and name in table.column_names]
    found = {}
    for split in table["split"].unique().to_pylist():
        part = of_split(table, split)
        if not part["target"].null_count:
            found[split] = truth_of(part), _distinct(part.drop_columns(drop))
    return found


def _distinct(part: pa.Table) -> pa.Table:
    """One row an id, in the ids' order: several seeds predict the same rows."""
    numbered = part.append_column("", pa.array(range(len(part))))
    first = numbered.group_by("id").aggregate([("", "min")])["_min"]
    return part.take(first).sort_by("id")


def truth_of(part: pa.Table) -> str:
    """Hash of one split's ids and targets: entries are compared only where it is the same."""
    pairs = zip(part["id"].to_pylist(), part["target"].to_pylist(), strict=True)
    return hashlib.sha256(
        json.dumps(sorted({(str(name), truth(target)) for name, target in pairs}), ensure_ascii=False).encode()
    ).hexdigest()  # fmt: skip


def columns_of(table: pa.Table) -> dict[str, list[Any]]:
    """The values as plain data; a float that is none is null."""
    return {name: _finite(table[name].to_pylist()) if _floats(table.schema.field(name).type) else table[name].to_pylist()
            for name in table.column_names}  # fmt: skip


def name_of(columns: Mapping[str, list[Any]]) -> str:
    """The hash that predictions are known by."""
    return hashlib.sha256(json.dumps(columns, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).hexdigest()


def named(content: bytes, sha256: str) -> bool:
    """Whether these are the predictions of that name; boards of before kept whole tables, by the hash of the file."""
    if not content.startswith(MARK):
        return hashlib.sha256(content).hexdigest() == sha256
    return name_of(columns_of(unpack(content))) == sha256


def _floats(kind: pa.DataType) -> bool:
    return "float" in str(kind) or "double" in str(kind)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return {key: _finite(one) for key, one in value.items()} if isinstance(value, dict) else value


def pack(table: pa.Table) -> bytes:
    """A table as parquet after the hash of its bytes."""
    file = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(None), file, compression="zstd")
    return MARK + hashlib.sha256(file.getvalue()).digest() + file.getvalue()


def unpack(content: bytes) -> pa.Table:
    """What `pack` made, or the bare parquet of boards of before. Raises `UntrustedFile` where a byte of it is another."""
    if content.startswith(MARK):
        found, content = content[len(MARK) : len(MARK) + 32], content[len(MARK) + 32 :]
        if hashlib.sha256(content).digest() != found:
            raise UntrustedFile("What the board stored was changed.")
    try:
        return pq.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError) as error:
        raise UntrustedFile(f"What the board stored cannot be read: {str(error).splitlines()[0]}.") from None


def of_split(table: pa.Table, split: str) -> pa.Table:
    """The rows of one split."""
    return table.filter(pc.equal(table["split"], split))


def joined(own: pa.Table, found: Mapping[str, tuple[str, pa.Table]], row: Mapping[str, Any]) -> pa.Table:
    """Predictions beside the targets of the splits that there are any `found` for: {split: (hash, rows)}.

    Raises `DataError` for an id that is no example of its split, `UntrustedFile` where the targets do not fit their hash.
    """
    parts = []
    for split, (name, known) in sorted(found.items()):
        part = of_split(own, split)
        places = pc.index_in(part["id"], known["id"].combine_chunks())
        if places.null_count:
            raise DataError(f"{part['id'][places.is_null().to_pylist().index(True)].as_py()!r} is no example of {split}")
        # what a metric reads of an entry is its own, whatever the first entry of its table said
        for column in [name for name in known.column_names if name not in part.column_names]:
            part = part.append_column(column, known[column].take(places))
        if "target" not in part.column_names:
            part = _rebuilt(part, row)
        if len(part) and truth_of(part) != name:
            raise UntrustedFile(f"its targets of {split} are not those that it was scored with")
        parts.append(part)
    return pa.concat_tables(parts, promote_options="permissive") if parts else own.slice(0, 0).append_column("target", pa.nulls(0))


def keep(connection: sa.Connection, row: Mapping[str, Any], found: Mapping[str, tuple[str, pa.Table]], *, copied: bool) -> None:
    """Store the targets of a table's splits inside a writing transaction, where they are not there.

    Only ids and groups are stored where targets may not be `copied`.
    """
    for split, (name, part) in found.items():
        if connection.scalar(sa.select(TARGETS.c.truth).where(TARGETS.c.truth == name)) is None:
            kept = part if copied else part.select([column for column in ("id", "group") if column in part.column_names])
            where = {key: row[key] for key in ("task", "version", "fingerprint")}
            connection.execute(TARGETS.insert().values(truth=name, split=split, content=pack(kept), **where))


class Targets:
    """The board's targets by their hash, each read once."""

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection
        self.held: dict[str, pa.Table] = {}

    def of(self, name: str) -> pa.Table:
        """The rows of one split. Raises `UntrustedFile` where they are gone."""
        if name not in self.held:
            content = self.connection.scalar(sa.select(TARGETS.c.content).where(TARGETS.c.truth == name))
            if content is None:
                raise UntrustedFile("its targets were removed")
            self.held[name] = unpack(content)
        return self.held[name]

    def whole(self, content: bytes, row: Mapping[str, Any]) -> pa.Table:
        """An entry's stored predictions beside their targets: see `joined`. Boards of before kept both in one table."""
        own = unpack(content)
        if "target" in own.column_names:
            return own
        return joined(own, {split: (name, self.of(name)) for split, name in (row["truths"] or {}).items()}, row)


def unseen_file(path: Path) -> Path:
    """Where the hidden part's predictions lie that belong to a file of predictions."""
    return path.with_name(f"{path.stem}.{HIDDEN}.parquet")


def read(file: Path) -> pa.Table:
    """The user's own targets: id as text, target, and group where there is one. Raises `DataError`."""
    from fmhub.data.read import csv, jsonl, parquet

    readers: dict[str, Callable[[Path], pa.Table]] = {".csv": partial(csv, columns={}), ".jsonl": jsonl, ".parquet": parquet}
    if file.suffix not in readers:
        raise DataError(f"{file} is neither {', '.join(readers)}.")
    table = readers[file.suffix](file)
    if missing := {"id", "target"} - set(table.column_names):
        raise DataError(f"{file} has no column {missing.pop()!r}: hidden targets have id and target.")
    table = table.select([name for name in ("id", "group", "target") if name in table.column_names])
    table = table.set_column(table.schema.get_field_index("id"), "id", table["id"].cast(pa.string()))
    if table["id"].null_count or table["target"].null_count or len(table["id"].unique()) < len(table) or not len(table):
        raise DataError(f"{file}: every id stands once, with a target.")
    return table.sort_by("id")


def visible(content: bytes, *, hidden: bool) -> dict[str, list[Any]]:
    """The columns of stored predictions that may be shown: those of the hidden part to their submitter alone."""
    table = unpack(content)
    own = table.select([name for name in table.column_names if name in PREDICTED])
    return columns_of(own if hidden else own.filter(pc.not_equal(own["split"], HIDDEN)))


def hidden(board: Targets, row: Mapping[str, Any]) -> tuple[str, pa.Table] | None:
    """The hash and the rows of the hidden targets of an entry's table, where this board has any."""
    wanted = [TARGETS.c[key] == row[key] for key in ("task", "version", "fingerprint")]
    name = board.connection.scalar(sa.select(TARGETS.c.truth).where(TARGETS.c.split == HIDDEN, *wanted))
    return None if name is None else (name, board.of(name))


def _rebuilt(part: pa.Table, row: Mapping[str, Any]) -> pa.Table:
    """One split with the targets that a licence keeps out of the board: from the task's own data, or from the run's."""
    try:
        fingerprint, tables = _data(row["task"])
        return with_target(part, tables) if fingerprint == row["fingerprint"] else with_targets(run_folder.find(row["run"]), part)
    except FmhubError as error:
        raise UntrustedFile(f"its targets may not be copied, and the data are not here: {error}") from None


@lru_cache(maxsize=8)
def _data(task: str) -> tuple[str, list[pa.Table]]:
    """(fingerprint, tables) of an installed task's own data."""
    from fmhub import hub

    splits = hidden_split.seen(hub.task(task)[0].data.load())
    return splits.fingerprint, list(splits.tables.values())
