"""The reference board: runs kept in registry/leaderboard/, small enough to ship, and put on every board from there.

`<plugin>/<task>.json` is the reference run's record; `<plugin>/<task>/` is its folder with nothing but plan, record and
the test part of the predictions, its baselines' too. Loading computes every score again, as for any other run. How one
is made: `fmhub run TASK`, then `fmhub leaderboard reference TASK`. Its twin from a random start, if one is kept, lies beside
it as `<task>@random`, so that everyone sees what pretraining is worth.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from fmhub.errors import FmhubError, UsageError
from fmhub.home import atomic, registry, valid_name, write_text
from fmhub.leaderboard import entries, store
from fmhub.leaderboard.targets import of_split
from fmhub.runs import folder as run_folder

CHANGED = ("backbone", "budget", "columns", "curve", "data", "fast", "folds", "groups", "limit", "random_weights", "set", "test")
"""Options that make another run of it than the task's own."""


def keep(run: Path, into: Path | None = None) -> Path:
    """Keep a done run of a task as its reference, or one of random weights as that one's twin, in place of an older one.

    Returns the folder. Raises `UsageError` for a run that is not done, is not the task as it is declared but for seeds, or names a
    path of this machine.
    """
    plan, status = run_folder.read_plan(run), run_folder.read_status(run)
    if status != "done":
        raise UsageError(f"Run {plan['id']} is {status}; a reference run is done.")
    changed = sorted(name for name in CHANGED if (plan.get("options") or {}).get(name))
    if changed not in ([], ["random_weights"]):
        raise UsageError(f"Run {plan['id']} was made with --{' and --'.join(changed)}; a reference run is the task as it is declared.")
    record = run_folder.read_record(run)
    if found := next((text for text in _texts([plan, record]) if text.startswith(("/", "~/"))), None):
        raise UsageError(f"Run {plan['id']} names a path of this machine, {found}, which others do not have.")
    names = [valid_name(plan["task"][key], "Task") for key in ("plugin", "name")]
    names[1] += "@random" * bool(changed)
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


def load(wanted: Collection[str] | None = None) -> dict[str, int | str]:
    """Put every kept run (or the `wanted` ones, by plugin/task) on the board.

    {plugin/task: number of entries}; 0 where only the record was kept, a sentence where the data are not to be had that a
    licence keeps out of the registry.
    """
    found: dict[str, int | str] = {}
    for name, place in kept().items():
        if wanted is None or name in wanted:
            try:
                found[name] = len(store.add(place)) if (place / "plan.json").is_file() else 0
            except FmhubError as error:
                found[name] = str(error)
    return found


def kept() -> dict[str, Path]:
    """{plugin/task: folder} of the registry's reference runs."""
    root = registry() / "leaderboard"
    return {str(path.relative_to(root).with_suffix("")): path.with_suffix("") for path in sorted(root.glob("*/*.json"))}


def ensure(say: Callable[[str], None] = lambda line: None) -> None:
    """Put on the board what of the registry is not there yet and needs no fetching, and say so, for it takes a while."""
    missing = _missing()
    whole = [name for name, place in missing.items() if "target" in pq.read_schema(place / "predictions.parquet").names]
    with offline_now() if missing else contextlib.nullcontext():
        load(missing.keys() - set(whole))
        for number, name in enumerate(whole, start=1):
            say(f"Putting the reference runs on the board, once: {name}, {number} of {len(whole)}")
            load({name})


def reported() -> list[dict[str, Any]]:
    """Rows of the reference runs that are not on the board, for their data must be fetched first: as their records say.

    They stand beside the others as self-reported until `fmhub leaderboard reference` (or a run of the task) has fetched the data.
    """
    return [row for name, place in _missing().items() for row in _said(place, run_folder.read_plan(place), run_folder.read_record(place))]


def _said(place: Path, plan: dict[str, Any], record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    own = {"manifest": entries.manifest_of(place, plan, record), "kind": "run", "name": plan["id"], "scores": record["scores"]}
    others = [{"kind": "baseline", "name": one["name"], "scores": one["scores"]} for one in record["baselines"]]
    for one in (own, *others):
        row = {
            **entries.table_of(plan),
            "manifest": {},
            **one,
            "predictions": None,
            "truth": "",
            "truths": {},
            "problem": "",
            "submitter": None,
        }
        yield {**row, "id": entries.identity(row)}


def _missing() -> dict[str, Path]:
    """The kept runs that are not on the board."""
    there = store.runs()
    return {name: place for name, place in kept().items() if (place / "plan.json").is_file() and _run(place) not in there}


def folders() -> dict[str, Path]:
    """{id of the run: its folder} of the registry's reference runs of which more than the record was kept."""
    return {_run(place): place for place in kept().values() if (place / "plan.json").is_file()}


def _run(place: Path) -> str:
    return str(run_folder.read_plan(place)["id"])


@contextlib.contextmanager
def offline_now() -> Iterator[None]:
    """No socket is opened inside."""
    before = os.environ.get("FMHUB_OFFLINE")
    os.environ["FMHUB_OFFLINE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["FMHUB_OFFLINE"]
        else:
            os.environ["FMHUB_OFFLINE"] = before


def _texts(value: Any) -> Iterator[str]:
    """Every text in nested JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)
