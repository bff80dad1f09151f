"""Targets of a run whose licence kept them out of its folder, joined again from the task's own data. Light: no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from fmhub.errors import UntrustedFile
from fmhub.runs import folder as run_folder
from fmhub.training.folds import Rows, load_rows, reading
from fmhub.training.plan import replan
from fmhub.training.tables import with_target


def targets_of(folder: Path) -> dict[str, dict[str, Any]]:
    """{split: {id: target}} of a run, read again from the task's data. Raises `UntrustedFile` where the data have changed."""
    stored = run_folder.read_plan(folder)
    found: dict[str, dict[str, Any]] = {}
    for part in rows_of(stored).parts:
        for name, table in part.items():
            if name != "train":
                found.setdefault(name, {}).update(zip(table.column("id").to_pylist(), table.column("target").to_pylist(), strict=True))
    return found


def with_targets(folder: Path, table: pa.Table) -> pa.Table:
    """A stored prediction table of the run in `folder` with its targets: as they are, or from the task's data where none were copied.

    Raises `UntrustedFile` where the data have changed since.
    """
    if "target" in table.column_names:
        return table
    return with_target(table, [rows for part in rows_of(run_folder.read_plan(folder)).parts for rows in part.values()])


def rows_of(stored: dict[str, Any]) -> Rows:
    """The rows of a stored run. Raises `UntrustedFile` where the data have changed."""
    rows = load_rows(reading(replan(stored), stored["stem"].get("fields") or ()))
    if rows.fingerprint != stored["data"]["fingerprint"]:
        raise UntrustedFile(f"The data of run {stored['id']} are no longer the ones it was trained on.")
    return rows
