"""The local board: add a run's folder, read ranked tables.

Entries share a table only where task, version and data fingerprint are the same; an entry whose run is not done, whose
test part is cut or whose targets are not the table's is shown unranked, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from fmhub.errors import UsageError, nearest
from fmhub.evaluation import better, difference, metrics
from fmhub.evaluation.declared import declared
from fmhub.leaderboard import entries, log
from fmhub.leaderboard.schema import ENTRIES, PREDICTIONS, database, writing
from fmhub.leaderboard.statistics import ranks


def add(folder: Path | str, contamination: str = "") -> list[str]:
    """Put a run and its baselines on the board and return their entries' ids; adding again changes nothing.

    Raises `UntrustedFile` for a folder that is no run, `FmhubError` where the database refuses.
    """
    scored = list(entries.from_folder(Path(folder), contamination))
    with database() as engine, writing(engine) as connection:
        for one in scored:
            insert(connection, one.row, one.content)
    return [one.row["id"] for one in scored]


def insert(connection: sa.Connection, row: dict[str, Any], content: bytes | None, *, signer: str = "", signature: str = "") -> bool:
    """Store and log an entry inside a writing transaction; False where it stands already: its id is its content's hash."""
    if connection.scalar(sa.select(ENTRIES.c.id).where(ENTRIES.c.id == row["id"])) is not None:
        return False
    sha256 = row["predictions"]
    if content is not None and connection.scalar(sa.select(PREDICTIONS.c.sha256).where(PREDICTIONS.c.sha256 == sha256)) is None:
        connection.execute(PREDICTIONS.insert().values(sha256=sha256, content=content))
    (number,) = connection.execute(ENTRIES.insert().values(row)).inserted_primary_key or (None,)
    log.append(connection, {**row, "number": number}, signer=signer, signature=signature)
    return True


def receipt() -> dict[str, Any] | None:
    """The sealed head of the log, {count, hash, keeper, seal}, or None for an empty board."""
    with database() as engine, engine.connect() as connection:
        return log.receipt(connection)


def board(task: str | None = None) -> list[dict[str, Any]]:
    """One ranked table for each task, version and fingerprint, or those of `task` (full or bare name) alone.

    A table is {task, version, fingerprint, family, metric, direction, unit, entries}; an entry {rank, kind, name, run, id,
    score, scores, normalised, cost, train, backbone, problem, ...}, best first, unranked ones (rank null) last.
    Raises `UsageError` for a task without entries, with the nearest names.
    """
    with database() as engine:
        rows = _rows(engine, task)
        return [_table(list(group), engine) for _, group in groupby(sorted(rows, key=_key), key=_key)]


def _rows(engine: sa.Engine, task: str | None) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        rows = [dict(row) for row in connection.execute(sa.select(ENTRIES).order_by(ENTRIES.c.number)).mappings()]
    names = {row["task"] for row in rows}
    if task is not None:
        wanted = {name for name in names if task in (name, name.partition(":")[2])}
        if not wanted:
            bare = names | {name.partition(":")[2] for name in names}
            raise UsageError(f"The board has no entry of task {task!r}.{nearest(task, bare)} `fmhub run {task}` makes one.")
        rows = [row for row in rows if row["task"] in wanted]
    return rows


def _key(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["task"], row["version"], row["fingerprint"]


def _table(rows: list[dict[str, Any]], engine: sa.Engine) -> dict[str, Any]:
    first = next((row for row in rows if not row["problem"]), rows[0])
    name = first["metric"]
    for row in rows:
        row["problem"] = row["problem"] or _stranger(row, first)
    plugin, _, task = first["task"].partition(":")
    metric = next(iter(declared({"metrics": [name], "task": {"plugin": plugin, "name": task}})), None)
    ranked = [row for row in rows if not row["problem"]]
    unranked = [row for row in rows if row["problem"]]
    if metric is not None:
        ranked.sort(key=lambda row: _score(row, name)["value"], reverse=metric.direction == "max")
        places: Iterable[int | None] = ranks(ranked, _Pairs(engine, ranked, metric).apart)
    else:
        unranked, ranked, places = rows, [], []
    listed = [(place, row) for place, row in zip(places, ranked, strict=True)] + [(None, row) for row in unranked]
    return {
        **{key: first[key] for key in ("task", "version", "fingerprint", "family", "metric")},
        "direction": metric.direction if metric else None,
        "unit": metric.unit if metric else "",
        "entries": [_shown(place, row, name) for place, row in listed],
    }


def _stranger(row: dict[str, Any], first: dict[str, Any]) -> str:
    """Why an entry cannot stand in the table that `first` opened, or nothing."""
    if row["truth"] != first["truth"]:
        return "its test examples or targets are not those of this table"
    if row["metric"] != first["metric"]:
        return f"it was ranked by {row['metric']}, not by {first['metric']}"
    if _score(row, row["metric"])["value"] is None:
        return f"{row['metric']} is undefined for it"
    return ""


def _score(row: dict[str, Any], metric: str) -> dict[str, Any]:
    score: dict[str, Any] = row["scores"].get("test", {}).get(metric, {"value": None, "low": None, "high": None, "n": 0})
    return score


class _Pairs:
    """Paired comparisons of entries of one table; each prediction table is read once."""

    def __init__(self, engine: sa.Engine, rows: list[dict[str, Any]], metric: metrics.Metric) -> None:
        self.engine, self.metric = engine, metric
        self.labels = {row["id"]: row["labels"] or None for row in rows}
        self._tables: dict[str, pa.Table] = {}

    def apart(self, left: dict[str, Any], right: dict[str, Any]) -> bool:
        """Whether the paired interval of left minus right excludes 0."""
        if left["predictions"] == right["predictions"]:
            return False
        found = difference(self._table(left), self._table(right), self.metric, self.labels[left["id"]])
        return better(found, self.metric) is not None

    def _table(self, row: dict[str, Any]) -> pa.Table:
        key = row["predictions"]
        if key not in self._tables:
            with self.engine.connect() as connection:
                content = connection.scalar(sa.select(PREDICTIONS.c.content).where(PREDICTIONS.c.sha256 == key))
            self._tables[key] = entries.unpacked(content or b"")
        return self._tables[key]


def _shown(place: int | None, row: dict[str, Any], metric: str) -> dict[str, Any]:
    manifest = row["manifest"]
    return {
        "rank": place, "kind": row["kind"], "name": row["name"], "run": row["run"], "id": row["id"], "score": _score(row, metric),
        "scores": row["scores"], "cost": manifest.get("cost"), "train": (manifest.get("data") or {}).get("train"),
        "backbone": (manifest.get("backbone") or {}).get("name"), "environment": manifest.get("environment"),
        "hashes": manifest.get("hashes"), "problem": row["problem"],
    }  # fmt: skip
