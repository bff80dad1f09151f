"""One run from plan to record: data, members, baselines, scores.

Everything is written into the run's folder as it is made, and `run.json` last: a folder with a record is complete.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fmhub import backbones, hub, stems
from fmhub.data.parts import limit
from fmhub.errors import DataError, UsageError
from fmhub.evaluation import metrics
from fmhub.runs import folder as run_folder
from fmhub.runs.record import record
from fmhub.task import Splits, StemSpec
from fmhub.training import cost, launch
from fmhub.training.baselines import Row, run_baselines, score
from fmhub.training.member import Member, Trained, test_readings, train_member
from fmhub.training.plan import Plan, describe
from fmhub.training.reporting import Reporter, Silent

if TYPE_CHECKING:
    from accelerate import Accelerator


def load_data(plan: Plan) -> Splits:
    """The plan's splits; `--limit` cuts the training part only."""
    splits = plan.task.data.load()
    tables = dict(splits.tables)
    for name in ("train", "validation", "test"):
        if name not in tables or not len(tables[name]):
            raise DataError(f"Task {plan.task.name}: the {name} part is empty.")
    if plan.options.limit is not None:
        tables["train"] = limit(tables["train"], plan.options.limit)
    return replace(splits, tables=tables)


def execute(plan: Plan, run: str, folder: Path, reporter: Reporter) -> dict[str, Any]:
    """Run `plan` in `folder` and return the record; goes on where an interrupted run of the same plan stopped.

    Among several processes every one of them calls it, rank 0 alone writes, and all return the record.
    """
    clock = cost.Clock()
    accelerator = launch.accelerator(plan.task.recipe.precision)
    first = accelerator.is_main_process
    reporter = reporter if first else Silent()
    card = backbones.card(plan.task.backbone, {card.name: card for card, _ in hub.backbones()})
    stem = plan.task.stem or stems.own(card.modality, [file.name for file in card.files])
    with launch.one_first():
        splits = load_data(plan)
        card.fetch()
    stored = plan_json(plan, run, splits, stem, card)
    _check_resumed(folder, stored)
    _check_alike(stored)
    if first:
        run_folder.write_json(folder / "plan.json", stored)
        run_folder.write_status(folder, "running")
    reporter.started({**stored, "folder": str(folder)})
    for note in splits.notes:
        reporter.say(note)
    try:
        trained, rows = _train_and_compare(plan, stem, splits, card, folder, accelerator, reporter)
    except (KeyboardInterrupt, Exception) as error:
        reporter.close()
        if first:
            run_folder.write_status(folder, "stopped" if isinstance(error, KeyboardInterrupt) else "failed", str(error))
        raise
    result = launch.from_first(lambda: _record(plan, stored, trained, rows, splits, folder, clock, accelerator))
    reporter.finished(result)
    return result


def plan_json(plan: Plan, run: str, splits: Splits, stem: StemSpec, card: backbones.Card) -> dict[str, Any]:
    """The plan as plain data, fitted on the training part, from which a run is resumed and loaded."""
    task, train = plan.task, splits.tables["train"]
    head = task.head.fit(train, task.recipe)
    for table in splits.tables.values():
        head.targets(table)  # a target that does not fit is refused before anything is written
    return {
        "id": run,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "task": {
            "name": task.name, "version": task.version, "plugin": plan.plugin, "plugin_version": plan.plugin_version, "family": task.family,
        },
        "backbone": {"name": card.name, "sha256": card.sha256},
        "card": backbones.as_entry_of(card),
        "data": {"fingerprint": splits.fingerprint, **{name: len(table) for name, table in splits.tables.items()}},
        "recipe": describe(task.recipe),
        "stem": describe(stem.fit(train)),
        "head": describe(head),
        "metrics": [metrics.get(metric).name for metric in task.metrics],
        "baselines": [baseline.name for baseline in task.baselines] if plan.options.baseline else [],
        "options": describe(plan.options),
    }  # fmt: skip


def _check_resumed(folder: Path, stored: dict[str, Any]) -> None:
    """A resumed run must be the same one: same data, backbone and recipe. The first start's time is kept."""
    if not (folder / "plan.json").is_file():
        return
    before = run_folder.read_plan(folder)
    for key in ("task", "backbone", "data", "recipe", "stem", "head"):
        if before[key] != stored[key]:
            raise UsageError(f"Run {before['id']} cannot go on: its {key} is no longer the same. Start a new run.")
    stored["started"] = before["started"]


def _check_alike(stored: dict[str, Any]) -> None:
    """Every process must have found the same task, data and weights as rank 0."""
    mine = {key: value for key, value in stored.items() if key != "started"}
    others = launch.from_first(lambda: mine)
    if different := [key for key in mine if mine[key] != others[key]]:
        raise UsageError(f"This process and the first one do not see the same {', '.join(different)}: give all of them the same files.")


def _train_and_compare(
    plan: Plan, stem: StemSpec, splits: Splits, card: backbones.Card, folder: Path, accelerator: Accelerator, reporter: Reporter
) -> tuple[list[Trained], list[Row]]:
    from fmhub.backbones.load import load

    where = card.fetch()
    trained: list[Trained] = []
    members = [Member(plan.task, stem, seed, 0, dict(splits.tables)) for seed in plan.seeds]
    for member in members:
        backbone = load(where, card=card, sha256=card.sha256, random=plan.options.random_weights)
        trained.append(train_member(member, backbone, folder, accelerator, reporter))
    for note in {note for one in trained for note in one.notes}:
        reporter.say(note)
    predictions = pa.concat_tables([one.predictions for one in trained], promote_options="default")
    labels = getattr(trained[0].network.head_spec, "labels", None)
    best = max(trained, key=lambda one: one.progress.best if one.progress.best is not None else float("-inf"))
    if not accelerator.is_main_process:
        return trained, []
    best.save(folder / "adapter" / "adapter.safetensors")
    run_folder.write_table(folder / "predictions.parquet", predictions)
    rows = [Row("", score(predictions, plan.task.metrics, labels))]
    if plan.options.baseline:
        rows += run_baselines(plan, members, trained, predictions, folder, reporter)
    for split, scores in rows[0].scores.items():
        reporter.evaluated(split, scores)
    return trained, rows


def _record(
    plan: Plan,
    stored: dict[str, Any],
    trained: list[Trained],
    rows: list[Row],
    splits: Splits,
    folder: Path,
    clock: cost.Clock,
    accelerator: Accelerator,
) -> dict[str, Any]:
    """Make the record and write it: from then on the run is complete."""
    ours, first = rows[0], trained[0]
    seconds = sum(one.progress.seconds for one in trained)
    primary = metrics.get(plan.task.metrics[0]).name
    result = record(
        stored,
        scores=ours.scores,
        primary=primary,
        normalised=_normalised(plan, ours.scores["test"][primary]),
        baselines=[{"name": row.name, "scores": row.scores, "difference": row.difference} for row in rows[1:]],
        cost={
            "train_seconds": round(seconds, 3),
            "samples_per_second": round(sum(one.progress.examples for one in trained) / seconds, 2) if seconds else 0.0,
            "peak_memory_bytes": cost.peak_memory(),
            "trainable_parameters": first.trainable_parameters,
            "total_parameters": first.total_parameters,
            "adapter_bytes": sum(path.stat().st_size for path in (folder / "adapter").iterdir()),
            "latency_ms": first.latency_ms,
            **{name: round(value, 3) for name, value in clock.read().items()},
        },
        environment=cost.environment(accelerator),
        test_readings=test_readings(folder),
        notes=[*splits.notes, *dict.fromkeys(note for one in trained for note in one.notes)],
    )
    run_folder.write_json(folder / "run.json", result)
    return result


def _normalised(plan: Plan, score: dict[str, Any]) -> dict[str, float] | None:
    """(score - floor) / (reference - floor), where the task carries frozen references for its first metric."""
    name = metrics.get(plan.task.metrics[0]).name
    for reference in plan.task.references:
        if reference.metric == name and reference.reference != reference.floor and None not in score.values():
            span = reference.reference - reference.floor
            value, *ends = ((score[key] - reference.floor) / span for key in ("value", "low", "high"))
            return {"value": value, "low": min(ends), "high": max(ends)}
    return None
