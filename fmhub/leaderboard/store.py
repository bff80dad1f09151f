"""The board's entries: add a run's folder, read ranked tables."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from fmhub import hub
from fmhub.errors import UsageError, nearest
from fmhub.leaderboard import again, entries, log, tables, targets, unseen
from fmhub.leaderboard.pairs import KEPT
from fmhub.leaderboard.schema import CHECKS, ENTRIES, LOG, PREDICTIONS, TARGETS, database, writing
from fmhub.runs import folder as run_folder


def add(folder: Path | str, contamination: str = "") -> list[str]:
    """Put a run and its baselines on the board and return their entries' ids; adding again changes nothing.

    Raises `UntrustedFile` for a folder that is no run, `FmhubError` where the database refuses.
    """
    with database() as engine:
        with engine.connect() as connection:
            secret = partial(targets.hidden, targets.Targets(connection))
            if secret(entries.table_of(run_folder.read_plan(Path(folder)))):
                unseen.prepare(Path(folder))
            scored = list(entries.from_folder(Path(folder), contamination, secret))
        with writing(engine) as connection:
            for one in scored:
                insert(connection, one)
    return [one.row["id"] for one in scored]


def insert(connection: sa.Connection, one: entries.Scored, *, signer: str = "", signature: str = "") -> bool:
    """Store and log an entry inside a writing transaction; False where it stands already: its id is its content's hash."""
    row = one.row
    if connection.scalar(sa.select(ENTRIES.c.id).where(ENTRIES.c.id == row["id"])) is not None:
        return False
    sha256 = row["predictions"]
    if one.own is not None and connection.scalar(sa.select(PREDICTIONS.c.sha256).where(PREDICTIONS.c.sha256 == sha256)) is None:
        connection.execute(PREDICTIONS.insert().values(sha256=sha256, content=targets.pack(one.own)))
    targets.keep(connection, row, one.truths, copied=one.copied)
    (number,) = connection.execute(ENTRIES.insert().values(row)).inserted_primary_key or (None,)
    log.append(connection, {**row, "number": number}, signer=signer, signature=signature)
    return True


def hide(task: str, file: Path) -> int:
    """Store the hidden targets (columns id, target and, if you like, group) of a task's newest table; returns how many.

    Raises `UsageError` for a task without a table or with hidden targets already, `DataError` for a file that is none.
    """
    table = targets.read(file)
    with database() as engine, writing(engine) as connection:
        rows = [row for row in _rows(connection, task) if not row["submitter"]]
        where = {key: rows[-1][key] for key in ("task", "version", "fingerprint")} if rows else {}
        if not rows or targets.hidden(targets.Targets(connection), where):
            raise UsageError(f"Task {task} has hidden targets already: a new version of the task may have others.")
        name = targets.truth_of(table)
        targets.keep(connection, where, {targets.HIDDEN: (name, table)}, copied=True)
    return len(table)


def receipt() -> dict[str, Any] | None:
    """The sealed head of the log, {count, hash, keeper, seal}, or None for an empty board."""
    with database() as engine, engine.connect() as connection:
        return log.receipt(connection)


def runs() -> set[str]:
    """The ids of the runs that entries came from."""
    with database() as engine, engine.connect() as connection:
        return set(connection.scalars(sa.select(ENTRIES.c.run).distinct()))


def head() -> str:
    """What changes whenever an entry comes or is done again, or targets are hidden."""
    with database() as engine, engine.connect() as connection:
        link = connection.scalar(sa.select(LOG.c.hash).order_by(LOG.c.number.desc()).limit(1))
        counts = (connection.scalar(sa.select(sa.func.count()).select_from(table)) for table in (CHECKS, TARGETS))
        return " ".join(map(str, (link, *counts)))


def board(task: str | None = None, also: Sequence[dict[str, Any]] = ()) -> list[dict[str, Any]]:
    """One ranked table for each task, version and fingerprint, or those of `task` (full or bare name) alone: see `tables.table`.

    `also` are rows that are shown beside those of the database and stand nowhere. Raises `UsageError` for a task without
    entries, with the nearest names.
    """
    with database() as engine, engine.connect() as connection:
        rows = _rows(connection, task, also)
        last = {check["entry"]: check["agrees"] for check, sealed in again.checks(connection) if sealed}
        rerun = {entry for entry, agrees in last.items() if agrees}
        found = [tables.table(list(group), connection, rerun) for _, group in groupby(sorted(rows, key=_key), key=_key)]
    KEPT.write()
    return found


def _rows(connection: sa.Connection, task: str | None, also: Sequence[dict[str, Any]] = ()) -> list[dict[str, Any]]:
    rows = [dict(row) for row in connection.execute(sa.select(ENTRIES).order_by(ENTRIES.c.number)).mappings()]
    rows += [{**row, "number": number} for number, row in enumerate(also, start=(rows[-1]["number"] if rows else 0) + 1)]
    names = {row["task"] for row in rows}
    if task is not None:
        wanted = {name for name in names if task in (name, name.partition(":")[2])}
        if not wanted:
            raise UsageError(f"The board has no entry of task {task!r}.{_instead(task, names)}")
        rows = [row for row in rows if row["task"] in wanted]
    return rows


def _instead(task: str, names: set[str]) -> str:
    """What may have been meant: an installed task, of which there is no entry yet, or a name that is much like it."""
    installed = {f"{plugin.name}:{one.name}" for one, plugin in hub.tasks()}
    bare = {name.partition(":")[2] for name in names | installed}
    if task in installed | bare:
        return f" `fmhub run {task}` makes one."
    return nearest(task, names | bare) or " `fmhub leaderboard` shows those that there are."


def _key(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["task"], row["version"], row["fingerprint"]
