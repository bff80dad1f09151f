"""Predictions of a hidden part: made from the run's adapter when a board asks for them, and kept beside the run's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from fmhub.data.hidden import Hidden
from fmhub.errors import FmhubError, UntrustedFile
from fmhub.leaderboard import again
from fmhub.leaderboard.targets import HIDDEN, unseen_file
from fmhub.runs import folder as run_folder
from fmhub.training.plan import replan


def prepare(folder: Path) -> None:
    """Predict the task's hidden part, where it has one, by the run's adapter and its baselines; what is there is left."""
    stored = run_folder.read_plan(folder)
    main = folder / "predictions.parquet"
    data = _data(stored)
    if data is None or unseen_file(main).is_file() or not main.is_file():
        return
    splits = data.load()
    if splits.fingerprint != stored["data"]["fingerprint"]:
        raise UntrustedFile(f"The data of run {stored['id']} are no longer the ones it was trained on.")
    rows = _blind(splits.tables[HIDDEN], splits.tables["test"])
    for name in stored["baselines"]:
        if (path := run_folder.baseline_file(folder, name)).is_file():
            run_folder.write_table(unseen_file(path), _by_baseline(folder, name, rows))
    run_folder.write_table(unseen_file(main), again.predicted(folder, rows, HIDDEN))


def _data(stored: dict[str, Any]) -> Hidden | None:
    """The task's data, where a part of them is hidden from this run."""
    options = stored.get("options") or {}
    if options.get("data") or options.get("folds"):
        return None
    try:
        found = replan(stored).task.data
    except FmhubError:  # a task that is not installed here is asked nothing
        return None
    return found if isinstance(found, Hidden) else None


def _blind(rows: pa.Table, like: pa.Table) -> pa.Table:
    """The rows with targets that say nothing, of the known ones' type."""
    return rows.append_column("target", pa.nulls(len(rows), like.schema.field("target").type))


def _by_baseline(folder: Path, name: str, rows: pa.Table) -> pa.Table:
    from fmhub.training.baselines import predict_baseline

    spec, members, load = again.baseline(folder, name)
    own: Any = [replace(member, splits={"train": member.splits["train"], "validation": member.splits["validation"], HIDDEN: rows})
                for member in members]  # fmt: skip
    found = predict_baseline(spec, own, load)
    return found.filter(pa.array([split == HIDDEN for split in found["split"].to_pylist()]))
