"""From a run's folder to entries: every score is computed here from the predictions, a claimed one is never read."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fmhub.errors import DataError, UntrustedFile
from fmhub.evaluation import evaluate
from fmhub.evaluation.declared import declared
from fmhub.evaluation.metrics.columns import truth
from fmhub.runs import folder as run_folder
from fmhub.training.targets import with_targets

NEEDED = ("id", "split", "prediction")


@dataclass(frozen=True)
class Scored:
    """A row of the board and the prediction table that it was computed from."""

    row: dict[str, Any]
    content: bytes | None


def from_folder(folder: Path, contamination: str = "") -> Iterator[Scored]:
    """The run's entry and one of each of its baselines. Raises `UntrustedFile` for a folder that is none.

    `contamination` says how test examples may have reached the backbone: such an entry is shown and left out of means.
    """
    plan = run_folder.read_plan(folder)
    status = run_folder.read_status(folder)
    record = run_folder.read_record(folder) if status == "done" else {"status": status}
    common = _common(plan)
    manifest = {key: record.get(key, plan.get(key)) for key in ("backbone", "recipe", "data", "cost", "environment", "started", "seeds")}
    manifest |= {"metrics": plan["metrics"], "own_data": bool((plan.get("options") or {}).get("data"))}
    if contamination:
        manifest["contamination"] = contamination[:400]
    manifest["hashes"] = {str(path.relative_to(folder)): _file_hash(path) for path in _evidence(folder)}
    problem = "" if record["status"] == "done" else f"the run is {record['status']}"
    yield _entry(folder, folder / "predictions.parquet", {**common, "kind": "run", "name": plan["id"], "manifest": manifest}, plan, problem)
    for name in plan.get("baselines", []):
        path = run_folder.baseline_file(folder, name)
        if path.is_file():
            kept = {key: manifest[key] for key in ("data", "metrics", "own_data")}
            yield _entry(folder, path, {**common, "kind": "baseline", "name": name, "manifest": kept}, plan, "")


def _common(plan: dict[str, Any]) -> dict[str, Any]:
    task = plan["task"]
    return {
        "run": plan["id"], "task": f"{task['plugin']}:{task['name']}", "version": str(task["version"]), "family": task["family"],
        "fingerprint": plan["data"]["fingerprint"], "metric": plan["metrics"][0], "labels": plan["head"].get("labels") or [],
    }  # fmt: skip


def _entry(folder: Path, path: Path, row: dict[str, Any], plan: dict[str, Any], problem: str) -> Scored:
    scores: dict[str, Any] = {}
    same, content = "", None
    if path.is_file():
        table = _read(folder, path)
        scores, wrong = scores_of(table, row)
        problem = problem or wrong or _cut(table, plan)
        same, content = truth_of(table), _packed(table)
    else:
        problem = problem or "it has no predictions"
    row = {**row, "predictions": hashlib.sha256(content).hexdigest() if content else None}
    done = {"id": identity(row), "scores": scores, "truth": same, "problem": problem[:400]}
    return Scored({**row, **done}, content)


def identity(row: Mapping[str, Any]) -> str:
    """An entry's id. A baseline is the same entry whichever run brought it, as long as it predicts the same."""
    found = {key: row[key] for key in ("kind", "name", "task", "version", "fingerprint", "predictions")}
    declared = {key: row["manifest"][key] for key in ("contamination",) if key in row["manifest"]}
    return _json_hash(found | declared)


def _read(folder: Path, path: Path) -> pa.Table:
    table = run_folder.read_table(path)
    if missing := [name for name in NEEDED if name not in table.column_names]:
        raise UntrustedFile(f"{path} is no prediction table: it lacks {', '.join(missing)}.")
    return with_targets(folder, table).drop_columns([name for name in ("input",) if name in table.column_names])


def scores_of(table: pa.Table, row: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """({split: scores}, problem) of an entry's predictions, with every metric of its manifest that is still known."""
    plugin, _, task = row["task"].partition(":")
    found = declared({"metrics": row["manifest"].get("metrics") or [row["metric"]], "task": {"plugin": plugin, "name": task}})
    if row["metric"] not in [metric.name for metric in found]:
        return {}, f"its metric {row['metric']} is not known here: install the plugin that has it"
    try:
        splits = sorted(set(table["split"].to_pylist()))
        return {split: evaluate(of_split(table, split), found, row["labels"] or None) for split in splits}, ""
    except DataError as error:
        return {}, str(error)


def of_split(table: pa.Table, split: str) -> pa.Table:
    """The rows of one split."""
    return table.filter(pc.equal(table["split"], split))


def _cut(table: pa.Table, plan: dict[str, Any]) -> str:
    """Why the test part is not whole, or nothing."""
    seen, wanted = len(set(of_split(table, "test")["id"].to_pylist())), plan["data"].get("test")
    return "" if seen == wanted else f"it predicts {seen} of {wanted} test examples"


def truth_of(table: pa.Table) -> str:
    """Hash of the test part's ids and targets: entries are compared only where it is the same."""
    test = of_split(table, "test")
    return _json_hash(
        sorted({(str(name), truth(target)) for name, target in zip(test["id"].to_pylist(), test["target"].to_pylist(), strict=True)})
    )


def _packed(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(None), file, compression="zstd")
    return file.getvalue()


def whole(content: bytes) -> pa.Table:
    """A stored prediction table. Raises `UntrustedFile`."""
    try:
        return pq.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError) as error:
        raise UntrustedFile(f"The board's stored predictions cannot be read: {str(error).splitlines()[0]}.") from None


def unpacked(content: bytes) -> pa.Table:
    """The test part of a stored prediction table."""
    return of_split(whole(content), "test")


def _evidence(folder: Path) -> list[Path]:
    return [path for path in (folder / "plan.json", folder / "predictions.parquet", *sorted(folder.glob("adapter/*"))) if path.is_file()]


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json_hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
