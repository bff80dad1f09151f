"""From a run's folder to entries: every score is computed here from the predictions, a claimed one is never read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from fmhub.errors import DataError, UntrustedFile
from fmhub.evaluation import evaluate, metrics
from fmhub.evaluation.declared import declared
from fmhub.leaderboard import targets
from fmhub.leaderboard.targets import of_split
from fmhub.runs import folder as run_folder
from fmhub.training.targets import with_targets

NEEDED = ("id", "split", "prediction")
ASKED = ("backbone", "set", "seed", "seeds", "folds", "curve", "groups", "limit", "fast", "budget", "random_weights")
"""The options of a run that its entry tells, so that others can do the same."""


Secret = Callable[[dict[str, Any]], "tuple[str, pa.Table] | None"]
"""The (hash, rows) of the hidden targets of a row's table, where somebody has them."""


@dataclass(frozen=True)
class Scored:
    """A row of the board, what it predicts, and {split: (hash, targets)} that it was scored with, which may be `copied` or not."""

    row: dict[str, Any]
    own: pa.Table | None = None
    truths: dict[str, tuple[str, pa.Table]] = field(default_factory=dict)
    copied: bool = True


def from_folder(folder: Path, contamination: str = "", secret: Secret = lambda row: None) -> Iterator[Scored]:
    """The run's entry and one of each of its baselines. Raises `UntrustedFile` for a folder that is none.

    `contamination` says how test examples may have reached the backbone: such an entry is shown and left out of means.
    """
    plan = run_folder.read_plan(folder)
    status = run_folder.read_status(folder)
    record: dict[str, Any] = run_folder.read_record(folder) if status == "done" else {}
    common = table_of(plan)
    manifest = manifest_of(folder, plan, record)
    brought = [("run", plan["id"], folder / "predictions.parquet", manifest | {"claimed": record.get("scores", {}).get("test", {})})]
    for name in plan.get("baselines", []):
        if (path := run_folder.baseline_file(folder, name)).is_file():
            brought.append(("baseline", name, path, {key: manifest[key] for key in ("data", "metrics", "own_data")}))
    for kind, name, path, said in brought:
        if contamination and kind == "run":
            said["contamination"] = contamination[:400]
        problem = f"the run is {status}" if kind == "run" and status != "done" else ""
        row = {**common, "kind": kind, "name": name, "manifest": said}
        yield _scored(folder, path, row, problem, secret) if path.is_file() else _empty(row, problem or "it has no predictions")


def manifest_of(folder: Path, plan: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """How a run came about, with every hash; of what its user asked for all but the paths of their own data."""
    found = {key: record.get(key, plan.get(key)) for key in ("backbone", "recipe", "data", "cost", "environment", "started", "seeds")}
    options = {key: value for key, value in (plan.get("options") or {}).items() if key in ASKED and value not in (None, False, [], {}, ())}
    found |= {"metrics": plan["metrics"], "own_data": bool((plan.get("options") or {}).get("data")), "options": options}
    return found | {"hashes": {str(path.relative_to(folder)): file_hash(path) for path in _evidence(folder)}}


def table_of(plan: dict[str, Any]) -> dict[str, Any]:
    """What all entries of a run say of the table that they belong to."""
    task = plan["task"]
    return {
        "run": plan["id"], "task": f"{task['plugin']}:{task['name']}", "version": str(task["version"]), "family": task["family"],
        "fingerprint": plan["data"]["fingerprint"], "metric": plan["metrics"][0], "labels": plan["head"].get("labels") or [],
    }  # fmt: skip


def _empty(row: dict[str, Any], problem: str) -> Scored:
    row = {**row, "predictions": None, "truth": "", "truths": {}, "scores": {}, "problem": problem}
    return Scored({**row, "id": identity(row)})


def _scored(folder: Path, path: Path, row: dict[str, Any], problem: str, secret: Secret) -> Scored:
    stored = run_folder.read_table(path)
    if missing := [name for name in NEEDED if name not in stored.column_names]:
        raise UntrustedFile(f"{path} is no prediction table: it lacks {', '.join(missing)}.")
    table = with_targets(folder, stored)
    if (unseen := targets.unseen_file(path)).is_file():
        blind = run_folder.read_table(unseen)
        table = pa.concat_tables(
            [table, blind.select([name for name in blind.column_names if name in table.column_names])], promote_options="permissive"
        )
    own, found = targets.predicted(table, [name for metric in known(row) for name in metric.reads]), targets.truths(table)
    if row["kind"] == "baseline" and "seed" in own.column_names:  # the run's; what a baseline makes of it shows in its predictions
        own = own.drop_columns(["seed"])
    if hidden := secret(row):
        found[targets.HIDDEN] = hidden
    row = {**row, "truth": found["test"][0] if "test" in found else "", "truths": {split: name for split, (name, _) in found.items()}}
    scores, wrong = scores_of(targets.joined(own, found, row), row)
    claimed = {name: score for name, score in row["manifest"].get("claimed", {}).items() if name not in scores.get("test", {})}
    row["manifest"] = {key: value for key, value in row["manifest"].items() if key != "claimed"} | ({"claimed": claimed} if claimed else {})
    row = {**row, "predictions": targets.name_of(targets.columns_of(own)), "scores": scores}
    problem = problem or wrong or _cut(own, row["manifest"]["data"])
    return Scored({**row, "id": identity(row), "problem": problem[:400]}, own, found, "target" in stored.column_names)


def identity(row: Mapping[str, Any]) -> str:
    """An entry's id. A baseline is the same entry whichever run brought it, as long as it predicts the same."""
    found = {key: row[key] for key in ("kind", "name", "task", "version", "fingerprint", "predictions")}
    declared = {key: row["manifest"][key] for key in ("contamination",) if key in row["manifest"]}
    return _json_hash(found | declared)


def known(row: Mapping[str, Any]) -> list[metrics.Metric]:
    """The metrics of an entry's manifest that anybody here knows."""
    plugin, _, task = row["task"].partition(":")
    return declared({"metrics": row["manifest"].get("metrics") or [row["metric"]], "task": {"plugin": plugin, "name": task}})


def scores_of(table: pa.Table, row: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """({split: scores}, problem) of an entry's predictions, with every metric of its manifest that is still known."""
    found = known(row)
    if row["metric"] not in [metric.name for metric in found]:
        return {}, f"its metric {row['metric']} is not known here: install the plugin that has it"
    try:
        splits = sorted(set(table["split"].to_pylist()))
        return {split: evaluate(of_split(table, split), found, row["labels"] or None) for split in splits}, ""
    except DataError as error:
        return {}, str(error)


def _cut(table: pa.Table, data: Mapping[str, Any]) -> str:
    """Why the test part is not whole, or nothing."""
    seen, wanted = len(set(of_split(table, "test")["id"].to_pylist())), data.get("test")
    return "" if seen == wanted else f"it predicts {seen} of {wanted} test examples"


def _evidence(folder: Path) -> list[Path]:
    return [path for path in (folder / "plan.json", folder / "predictions.parquet", *sorted(folder.glob("adapter/*"))) if path.is_file()]


def file_hash(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json_hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
