"""The reports that a board can show: those of its keeper's own runs, and of the reference runs that fmhub ships.

A run with somebody's own data shows texts of theirs, and others' runs are not here: those have none.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from fmhub.errors import FmhubError
from fmhub.leaderboard import shipped
from fmhub.leaderboard.schema import ENTRIES, database
from fmhub.runs import folder as run_folder

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""A report is one file: its style stands in it, and so do its pictures. No script in it runs."""


def places(found: Iterable[dict[str, Any]]) -> dict[str, Path]:
    """{id: folder} of those of the board's entries whose report can be shown."""
    kept = shipped.folders()
    held = {one["id"]: _place(one["run"], kept) for one in found if one["kind"] == "run" and not one["submitter"] and not one["own_data"]}
    return {name: place for name, place in held.items() if place is not None}


def _place(run: str, kept: dict[str, Path]) -> Path | None:
    """A run of this home that is done, or one of the registry."""
    try:
        place = run_folder.find(run)
        return place if run_folder.read_status(place) == "done" else kept.get(run)
    except FmhubError:
        return kept.get(run)


def find(entry: str) -> str | None:
    """The report of an entry given by its id, as HTML; None where there is none to show."""
    with database() as engine, engine.connect() as connection:
        row = connection.execute(sa.select(ENTRIES).where(ENTRIES.c.id == entry)).mappings().one_or_none()
    rows = [dict(row)] if row else [one for one in shipped.reported() if one["id"] == entry]
    place = places({**one, "own_data": one["manifest"].get("own_data")} for one in rows).get(entry)
    return None if place is None else html(place)


def html(place: Path) -> str:
    """The report that lies in a run's folder, or one made of what lies there."""
    if (written := place / "report.html").is_file():
        return written.read_text(encoding="utf-8")
    from fmhub.report.page import page
    from fmhub.report.run import read

    with shipped.offline_now():  # what lies here is shown, and nothing is fetched for it
        return page(read(place))
