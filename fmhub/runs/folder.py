"""A run's folder: where it lies, what is in it, and how its files are read and written.

run.json              the record                 plan.json        what was to be run, and every decision taken
predictions.parquet   one row an example         baselines/*.parquet   the same for each baseline
adapter/              safetensors + json         checkpoints/     what a killed run resumes from
log.jsonl             one line a reading         report.html      made on demand
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmhub.errors import FmhubError, UntrustedFile, UsageError, nearest
from fmhub.home import atomic, home, make_folder, read_json, valid_name, write_text

if TYPE_CHECKING:
    import pyarrow as pa


def new_id(task: str) -> str:
    """A run id that sorts by time: `sentiment-20261124-013000-3f9c`."""
    return f"{task[:40]}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"


def runs_home() -> Path:
    return home() / "runs"


def create(task: str, output: Path | None = None) -> tuple[str, Path]:
    """Make the folder of a new run: `FMHUB_HOME/runs/<id>`, or `output`, which must be absent or empty."""
    run = new_id(task)
    if output is None:
        return run, make_folder(runs_home() / run)
    output = output.expanduser().absolute()
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"--output {output} is not an empty folder: name a new one, or resume it with --resume {output}.")
    make_folder(output)
    write_text(runs_home() / f"{run}.link", json.dumps({"folder": str(output)}))
    return run, output


def find(run: str | Path) -> Path:
    """The folder of a run given by id, by a unique beginning of it, or by path. Raises `UsageError`."""
    path = Path(run).expanduser()
    if (path / "plan.json").is_file():
        return path.absolute()
    known = dict(_known())
    names = [name for name in known if name == str(run)] or [name for name in known if name.startswith(str(run))]
    if len(names) == 1:
        return known[names[0]]
    if len(names) > 1:
        raise UsageError(f"Run {run} is not unique: {', '.join(sorted(names)[:5])}.")
    raise UsageError(f"No run {str(run)!r} under {runs_home()}.{nearest(str(run), known)} `fmhub runs` lists them.")


def find_last(name: str) -> Path:
    """The folder of run `name`, or of the last complete run of the task `name`. Raises `UsageError`."""
    done = [
        row
        for row in listing()
        if row["status"] == "done" and name in (row["task"]["name"], f"{row['task']['plugin']}:{row['task']['name']}")
    ]
    return Path(done[-1]["folder"]) if done else find(name)


def _known() -> Iterator[tuple[str, Path]]:
    if not runs_home().is_dir():
        return
    for entry in sorted(runs_home().iterdir()):
        if entry.suffix == ".link" and (folder := _linked(entry)):
            yield entry.stem, folder
        elif (entry / "plan.json").is_file():
            yield entry.name, entry


def _linked(link: Path) -> Path | None:
    try:
        folder = Path(read_json(link)["folder"])
    except (FmhubError, KeyError, TypeError):
        return None
    return folder if (folder / "plan.json").is_file() else None


def listing() -> list[dict[str, Any]]:
    """The record of every run, oldest first; one that is not complete has `id`, `status`, `task` and `folder` only."""
    rows = []
    for run, folder in _known():
        try:
            rows.append({**(read_record(folder) if (folder / "run.json").is_file() else _unfinished(run, folder)), "folder": str(folder)})
        except UntrustedFile as error:
            rows.append({"id": run, "status": "unreadable", "problem": str(error), "folder": str(folder)})
    return sorted(rows, key=lambda row: (row.get("started", ""), row["id"]))


def _unfinished(run: str, folder: Path) -> dict[str, Any]:
    plan = read_plan(folder)
    return {"id": run, "status": read_status(folder), "task": plan["task"], "started": plan.get("started", "")}


def remove(run: str | Path) -> Path:
    """Delete a run's folder and its link; returns the folder."""
    import shutil

    folder = find(run)
    (runs_home() / f"{read_plan(folder)['id']}.link").unlink(missing_ok=True)
    shutil.rmtree(folder)
    return folder


def dumps(value: Any) -> str:
    """JSON for people: indented, UTF-8, never NaN."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_record(folder: Path) -> dict[str, Any]:
    """`run.json`."""
    return _mapping(folder / "run.json", "id", "status", "task", "scores")


def read_plan(folder: Path) -> dict[str, Any]:
    """`plan.json`."""
    return _mapping(folder / "plan.json", "id", "task", "recipe", "stem", "head")


def _mapping(path: Path, *wanted: str) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict) or (missing := [key for key in wanted if key not in value]):
        raise UntrustedFile(f"{path} is not a {path.stem}: it lacks {', '.join(missing) if isinstance(value, dict) else 'everything'}.")
    return value


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    write_text(path, dumps(value))


def read_status(folder: Path) -> str:
    """`done`, or what an unfinished run was last marked as: `running`, `stopped` (resumable) or `failed`."""
    if (folder / "run.json").is_file():
        return "done"
    path = folder / "status.json"
    return str(read_json(path).get("status", "running")) if path.is_file() else "running"


def write_status(folder: Path, status: str, problem: str = "") -> None:
    write_json(folder / "status.json", {"status": status, "problem": problem})


def write_table(path: Path, table: pa.Table) -> None:
    """Write a prediction table atomically as parquet."""
    import pyarrow.parquet as pq

    with atomic(path) as file:
        pq.write_table(table, file)


def read_table(path: Path) -> pa.Table:
    """A prediction table. Raises `UntrustedFile`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise UntrustedFile(f"{path} cannot be read: {str(error).splitlines()[0]}.") from None


def baseline_file(folder: Path, name: str) -> Path:
    """Where the predictions of a baseline lie."""
    return folder / "baselines" / f"{valid_name(name, 'Baseline')}.parquet"


def discard_if_empty(run: str, folder: Path) -> None:
    """Take away the folder of a run that failed before its plan was written: nothing half-made stays behind."""
    if not (folder / "plan.json").is_file():
        for path in (folder, runs_home() / f"{run}.link"):
            with contextlib.suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()
