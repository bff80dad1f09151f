"""The reference board: runs kept in registry/leaderboard/, small enough to ship, and put on a fresh board from there.

`<plugin>/<task>.json` is the reference run's record; `<plugin>/<task>/` is its folder with nothing but plan, record and
the test part of the predictions, its baselines' too. Loading computes every score again, as for any other run.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from fmhub.errors import UsageError
from fmhub.home import atomic, registry, valid_name, write_text
from fmhub.leaderboard import store
from fmhub.leaderboard.targets import of_split
from fmhub.runs import folder as run_folder


def keep(run: Path, into: Path | None = None) -> Path:
    """Keep a done run of a task as its reference, in place of an older one; returns the folder.

    Raises `UsageError` for a run that is not done, was cut or fed by the user's own data, or names a path of this machine.
    """
    plan, status = run_folder.read_plan(run), run_folder.read_status(run)
    if status != "done":
        raise UsageError(f"Run {plan['id']} is {status}; a reference run is done.")
    if changed := sorted(name for name in ("data", "limit", "columns", "test") if (plan.get("options") or {}).get(name)):
        raise UsageError(f"Run {plan['id']} was made with --{' and --'.join(changed)}; a reference run has the task's own data, whole.")
    record = run_folder.read_record(run)
    if found := next((text for text in _texts([plan, record]) if text.startswith(("/", "~/"))), None):
        raise UsageError(f"Run {plan['id']} names a path of this machine, {found}, which others do not have.")
    names = [valid_name(plan["task"][key], "Task") for key in ("plugin", "name")]
    place = (into or registry() / "leaderboard").joinpath(*names)
    shutil.rmtree(place, ignore_errors=True)
    for path in (run / "predictions.parquet", *(run_folder.baseline_file(run, name) for name in plan.get("baselines", []))):
        test = of_split(run_folder.read_table(path), "test")
        slim = test.drop_columns([name for name in ("input",) if name in test.column_names]).replace_schema_metadata(None)
        with atomic(place / path.relative_to(run)) as file:
            pq.write_table(slim, file, compression="zstd", compression_level=19)
    for name in ("plan.json", "run.json"):
        write_text(place / name, (run / name).read_text(encoding="utf-8"))
    write_text(place.with_name(f"{names[1]}.json"), run_folder.dumps(record))
    return place


def load() -> dict[str, int]:
    """Put every kept run on the board: {plugin/task: number of entries}, 0 where only the record was kept."""
    root = registry() / "leaderboard"
    found = {}
    for path in sorted(root.glob("*/*.json")):
        place = path.with_suffix("")
        found[str(place.relative_to(root))] = len(store.add(place)) if (place / "plan.json").is_file() else 0
    return found


def _texts(value: Any) -> Iterator[str]:
    """Every text in nested JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)
