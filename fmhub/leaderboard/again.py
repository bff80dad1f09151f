"""An entry done again: its test part predicted anew from the adapter, or everything trained from nothing. What came of it is sealed."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from fmhub.errors import FmhubError, UntrustedFile, UsageError
from fmhub.leaderboard import entries, keys, log, targets
from fmhub.leaderboard.schema import CHECKS, ENTRIES, PREDICTIONS, database, writing
from fmhub.runs import folder as run_folder

CLOSE = 1e-3
"""How far a score from the same adapter may lie from the entry's, as a share of it: other machines round otherwise."""


def again(entry: str | None, kind: str, folder: Path | None = None) -> Iterator[dict[str, Any]]:
    """Do an entry (or every one) again: {entry, name, kind, agrees, scores: {metric: {stored, again, difference}}, problem}.

    `kind` is `rerun` (from the adapter) or `retrain` (from nothing); a baseline is fitted again either way. The run's folder
    must be here, or be named. Same adapter: scores must agree to a thousandth. New training: each of both primary scores must
    lie in the other's interval. What comes of it is remembered; what agreed last is shown as re-run.
    """
    with database() as engine, engine.connect() as connection:
        rows = chosen([dict(row) for row in connection.execute(sa.select(ENTRIES).order_by(ENTRIES.c.number)).mappings()], entry)
        board = targets.Targets(connection)
        held = {row["id"]: sa.select(PREDICTIONS.c.content).where(PREDICTIONS.c.sha256 == row["predictions"]) for row in rows}
        stored = {row["id"]: board.whole(content, row) for row in rows if (content := connection.scalar(held[row["id"]]))}
    for row in rows:
        done = {"entry": row["id"], "name": row["name"], "kind": kind}
        try:
            yield done | _one(row, stored.get(row["id"]), kind, folder)
        except FmhubError as error:
            yield done | {"agrees": None, "scores": {}, "problem": str(error)}


def _one(row: dict[str, Any], table: pa.Table | None, kind: str, folder: Path | None) -> dict[str, Any]:
    if table is None or row["problem"]:
        raise UsageError(f"{row['name']} is not ranked: {row['problem'] or 'it has no predictions'}.")
    place = _belonging(folder or _place(row["run"]), row)
    if row["kind"] == "baseline":
        fresh = _refitted(place, row["name"])
    elif kind == "retrain":
        fresh = _retrained(place)
    else:
        fresh = _rerun(place, row)
        table = table.filter(pc.equal(table["seed"], fresh["seed"][0])) if "seed" in table.column_names else table
    before, _ = entries.scores_of(targets.of_split(table, "test"), row)
    after, problem = entries.scores_of(targets.of_split(fresh, "test"), row)
    if problem:
        raise FmhubError(problem)
    return _remember(row, kind, before["test"], after["test"])


def _place(run: str) -> Path:
    """The run's folder, of this home or of the reference runs that are shipped."""
    from fmhub.leaderboard import shipped

    try:
        return run_folder.find(run)
    except UsageError:
        if run in (kept := shipped.folders()):
            return kept[run]
        raise


def _belonging(folder: Path, row: Mapping[str, Any]) -> Path:
    """The folder, if it is the one that the entry came from: a run's name is the submitter's to choose, its plan's hash is not."""
    if row["kind"] == "baseline" and row["submitter"] is not None:
        raise UsageError(f"Baseline {row['name']} is {row['submitter']}'s: a run of the task here fits its own.")
    told = (row["manifest"].get("hashes") or {}).get("plan.json")
    if row["kind"] == "run" and entries.file_hash(folder / "plan.json") != told:
        raise UntrustedFile(f"{folder} is another run than that of entry {row['id'][:12]}: its plan.json differs.")
    return folder


def _rerun(folder: Path, row: Mapping[str, Any]) -> pa.Table:
    """The test part, predicted by the run's adapter."""
    from fmhub.training.restore import ADAPTER
    from fmhub.training.targets import rows_of

    stored = run_folder.read_plan(folder)
    if stored.get("folds") or stored["options"].get("folds"):
        raise UsageError(f"{row['name']} is cross-validated, and its adapter was trained on all rows: --retrain does it again.")
    if not (folder / ADAPTER).is_file():
        raise UsageError(f"{row['name']} is here without its adapter: --retrain does it again.")
    if entries.file_hash(folder / ADAPTER) != (row["manifest"].get("hashes") or {}).get(ADAPTER):
        raise UntrustedFile(f"The adapter in {folder} is not the one of entry {row['id'][:12]}.")
    return predicted(folder, rows_of(stored).parts[0]["test"], "test")


def predicted(folder: Path, rows: pa.Table, split: str) -> pa.Table:
    """What a run's adapter says of rows."""
    from fmhub.training import ranks
    from fmhub.training.loop import predict
    from fmhub.training.restore import restore
    from fmhub.training.tables import prediction_table

    network, accelerator = restore(folder), ranks.accelerator()
    network.to(accelerator.device)
    columns = predict(network, network.prepare(rows, targets=False), accelerator)
    seed = run_folder.read_record(folder)["saved"]["seed"]
    return prediction_table(rows, columns, split=split, seed=seed, stem=network.stem_spec)


def _retrained(folder: Path) -> pa.Table:
    """The predictions of a new run of the same plan."""
    from fmhub.training.execute import execute
    from fmhub.training.plan import replan
    from fmhub.training.reporting import Reporter
    from fmhub.training.targets import with_targets

    stored = run_folder.read_plan(folder)
    plan = replan(stored)
    plan = replace(plan, options=replace(plan.options, baseline=False, curve=()))
    with tempfile.TemporaryDirectory(prefix="fmhub-retrain-") as place:
        execute(plan, stored["id"], Path(place), Reporter())
        return with_targets(folder, run_folder.read_table(Path(place) / "predictions.parquet"))


def _refitted(folder: Path, name: str) -> pa.Table:
    """The predictions of a baseline, fitted again on the run's rows."""
    from fmhub.training.baselines import predict_baseline

    spec, found, load = baseline(folder, name)
    return predict_baseline(spec, found, load)


def baseline(folder: Path, name: str) -> tuple[Any, list[Any], Any]:
    """(spec, members, what loads the backbone) of a run's baseline."""
    from fmhub import backbones, stems
    from fmhub.backbones.load import load
    from fmhub.training.folds import load_rows, reading, settle_labels
    from fmhub.training.member import members
    from fmhub.training.plan import replan

    stored = run_folder.read_plan(folder)
    card = backbones.from_entry(stored["card"], str(folder / "plan.json"))
    plan = replan(stored)
    stem = plan.task.stem or stems.own(card.modality, [file.name for file in card.files])
    plan = reading(plan, stem.fields)
    rows = load_rows(plan)
    if rows.fingerprint != stored["data"]["fingerprint"]:
        raise UntrustedFile(f"The data of run {stored['id']} are no longer the ones it was trained on.")
    plan = replace(plan, task=settle_labels(replace(plan.task, stem=stem), rows))
    spec = next((one for one in plan.task.baselines if one.name == name), None)
    if spec is None:
        raise UsageError(f"Task {plan.task.name} has no baseline {name} any more.")
    return spec, members(plan, rows), lambda: load(card.fetch(), card=card, sha256=card.sha256)


def _remember(row: dict[str, Any], kind: str, before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What came of it, and a sealed row of it on the board."""
    scores = {}
    for name in before:
        old, new = before[name]["value"], after[name]["value"]
        scores[name] = {"stored": old, "again": new, "difference": None if None in (old, new) else new - old}
    old, new = before[row["metric"]], after[row["metric"]]
    agrees = _same(old, new) if kind == "rerun" and row["kind"] == "run" else _within(old, new) and _within(new, old)
    check = {"entry": row["id"], "kind": kind, "scores": after, "agrees": agrees,
             "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "keeper": keys.public()}  # fmt: skip
    with database() as engine, writing(engine) as connection:
        connection.execute(CHECKS.insert().values({**check, "seal": keys.sign(message(check))}))
    return {"agrees": agrees, "scores": scores, "problem": ""}


def chosen(rows: list[dict[str, Any]], entry: str | None) -> list[dict[str, Any]]:
    """The entry of that id, beginning of an id, or name; all without one. Raises `UsageError`."""
    found = [
        row for row in rows if entry in (None, row["id"], row["name"]) or (len(str(entry)) >= 6 and str(row["id"]).startswith(str(entry)))
    ]
    if not found and entry is not None:
        raise UsageError(f"No entry {entry!r} on the board: `fmhub leaderboard --json` shows their ids.")
    return found


def checks(connection: sa.Connection) -> Iterator[tuple[dict[str, Any], bool]]:
    """Every row of what was done again, in order, and whether a key that is trusted here has sealed it."""
    text = sa.cast(CHECKS.c.scores, sa.Text).label("scores")
    query = sa.select(*(text if column.name == "scores" else column for column in CHECKS.c)).order_by(CHECKS.c.number)
    found = list(connection.execute(query).mappings())
    trusted = keys.trusted() if found else set()
    for check in map(dict, found):
        try:
            sealed = keys.signed(message({**check, "scores": json.loads(check["scores"])}), check["seal"], check["keeper"])
        except (ValueError, TypeError, RecursionError):
            sealed = False
        yield check, sealed and check["keeper"] in trusted


def message(check: Mapping[str, Any]) -> bytes:
    """What is sealed of a row of `checks`."""
    return b"fmhub check 1\n" + log.canonical({name: check[name] for name in ("entry", "kind", "scores", "agrees", "at", "keeper")})


def _same(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return None not in (old["value"], new["value"]) and abs(old["value"] - new["value"]) <= CLOSE * abs(old["value"])


def _within(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the value of one lies in the other's interval; without an interval it must be the same."""
    if None in (one["value"], other["value"]):
        return False
    return _same(one, other) if other["low"] is None else bool(other["low"] <= one["value"] <= other["high"])
