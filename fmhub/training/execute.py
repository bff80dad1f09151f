"""One run from plan to record: rows, decisions, members, baselines, scores.

Everything is written into the run's folder as it is made, and `run.json` last: a folder with a record is complete.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from fmhub import backbones, hub, stems
from fmhub.errors import FmhubError, UsageError
from fmhub.evaluation import metrics
from fmhub.recipe import override
from fmhub.runs import folder as run_folder
from fmhub.runs.record import record
from fmhub.training import cost, launch
from fmhub.training.baselines import labels_of, run_baselines, score
from fmhub.training.choose import decide
from fmhub.training.curve import curve, curve_members
from fmhub.training.folds import Rows, load_rows, reading, settle_labels
from fmhub.training.groups import by_group
from fmhub.training.member import Member, Trained, save_adapter, test_readings, train_member
from fmhub.training.plan import Plan, describe
from fmhub.training.refit import fold_summary, refit_member
from fmhub.training.reporting import Reporter, Silent
from fmhub.training.tables import join, storable

Train = Callable[[Member], Trained]


def execute(plan: Plan, run: str, folder: Path, reporter: Reporter, share: slice | None = None) -> dict[str, Any]:
    """Run `plan` in `folder` and return the record; goes on where an interrupted run of the same plan stopped.

    Among several processes every one of them calls it, rank 0 alone writes, and all return the record.
    With a `share` only those of its members are trained: whoever comes last executes the whole.
    """
    clock = cost.Clock()
    accelerator = launch.accelerator(plan.task.recipe.precision)
    first = accelerator.is_main_process
    reporter = reporter if first else Silent()
    card = backbones.card(plan.task.backbone, {card.name: card for card, _ in hub.backbones()})
    stem = plan.task.stem or stems.own(card.modality, [file.name for file in card.files])
    plan = reading(plan, stem.fields)
    with launch.one_first():
        rows = load_rows(plan)
        where = card.fetch()
    plan = replace(plan, task=settle_labels(replace(plan.task, stem=stem), rows))

    def load() -> Any:
        from fmhub.backbones.load import load

        return load(where, card=card, sha256=card.sha256, random=plan.options.random_weights)

    _check_targets(plan, rows)
    before = launch.from_first(lambda: run_folder.read_plan(folder) if (folder / "plan.json").is_file() else None)
    decided = before.get("decisions", {}) if before else decide(plan, rows, load, accelerator, reporter.say)
    decisions = launch.from_first(lambda: decided)
    plan = replace(plan, task=replace(plan.task, recipe=override(plan.task.recipe, decisions.get("recipe", {}))))
    stored = {**plan_json(plan, run, rows, card), "decisions": decisions}
    if before is not None:
        _check_resumed(before, stored)
    _check_alike(stored)
    if first:
        run_folder.write_json(folder / "plan.json", stored)
        run_folder.write_status(folder, "running")
    reporter.started({**stored, "folder": str(folder)})
    for note in (*rows.notes, *decisions.get("why", ())):
        reporter.say(note)
    try:
        train = partial(train_member, load=load, folder=folder, accelerator=accelerator, reporter=reporter)
        if share is not None:
            for member in [*members(plan, rows), *curve_members(plan, rows)][share]:
                train(member)
            return stored
        outcome = _train(plan, rows, train)
        _, *others = launch.from_all({"cpu_seconds": clock.read()["cpu_seconds"], "peak_memory_bytes": cost.peak_memory()})
        found = launch.from_first(lambda: _compare(plan, rows, outcome, folder, reporter))
    except (KeyboardInterrupt, Exception) as error:
        reporter.close()
        if first:
            with contextlib.suppress(FmhubError):  # a full disk must not hide what went wrong
                run_folder.write_status(folder, "stopped" if isinstance(error, KeyboardInterrupt) else "failed", str(error))
        raise
    result = launch.from_first(lambda: _record(stored, outcome, found, rows, folder, clock.read(), others, cost.environment(accelerator)))
    reporter.finished(result)
    return result


def plan_json(plan: Plan, run: str, rows: Rows, card: backbones.Card) -> dict[str, Any]:
    """The plan as plain data, fitted on the (first) training part, from which a run is resumed and loaded."""
    task = plan.task
    fitted_stem, fitted_head = members(plan, rows)[0].fitted()
    return {
        "id": run,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "task": {
            "name": task.name, "version": task.version, "plugin": plan.plugin, "plugin_version": plan.plugin_version, "family": task.family,
        },
        "backbone": {"name": card.name, "sha256": card.sha256},
        "card": backbones.as_entry_of(card),
        "data": {"fingerprint": rows.fingerprint, **rows.counts},
        "recipe": describe(task.recipe),
        "stem": describe(fitted_stem),
        "head": describe(fitted_head),
        "metrics": [metrics.get(metric).name for metric in task.metrics],
        "baselines": [baseline.name for baseline in task.baselines] if plan.options.baseline else [],
        "options": describe(plan.options),
    }  # fmt: skip


def members(plan: Plan, rows: Rows) -> list[Member]:
    """What is trained: every seed on every fold."""
    folded = len(rows.parts) > 1
    return [
        Member(
            f"seed-{seed}" + (f"-fold-{fold}" if folded else ""), plan.task, seed, splits, fold, plan.options.groups, rows.fingerprint,
            rows.whole if folded and plan.options.limit is None else None,
        )
        for seed in plan.seeds
        for fold, splits in enumerate(rows.parts)
    ]  # fmt: skip


def _check_targets(plan: Plan, rows: Rows) -> None:
    """A target that does not fit is refused before anything is written."""
    for splits in rows.parts:
        head = plan.task.head.fit(splits["train"], plan.task.recipe)
        for table in splits.values():
            head.targets(table)


def _check_resumed(before: dict[str, Any], stored: dict[str, Any]) -> None:
    """A resumed run must be the same one: same data, backbone and recipe. The first start's time is kept."""
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


@dataclass(frozen=True)
class Outcome:
    """All that was trained: `trained` is scored, `saved` gives the run's adapter, `smaller` are the curve's points."""

    trained: list[Trained]
    saved: Trained
    smaller: list[Trained]

    @property
    def all(self) -> list[Trained]:
        extra = [] if self.saved in self.trained else [self.saved]
        return [*self.trained, *extra, *self.smaller]


def _train(plan: Plan, rows: Rows, train: Train) -> Outcome:
    trained = [train(member) for member in members(plan, rows)]
    saved = train(refit_member(plan, rows, trained)) if len(rows.parts) > 1 else max(trained, key=lambda one: one.validation)
    return Outcome(trained, saved, [train(member) for member in curve_members(plan, rows)])


def _compare(plan: Plan, rows: Rows, outcome: Outcome, folder: Path, reporter: Reporter) -> dict[str, Any]:
    """Save adapter and predictions, run the baselines, score everything; the keys of the record that come of it."""
    task = plan.task
    save_adapter(outcome.saved, folder)
    ours: pa.Table = join([one.predictions for one in outcome.trained])
    run_folder.write_table(folder / "predictions.parquet", storable(ours, task.redistribute))
    scores = score(ours, task.metrics, labels_of(task))
    baselines = run_baselines(task, outcome.trained, ours, folder, reporter) if plan.options.baseline else []
    for split, values in scores.items():
        reporter.evaluated(split, values)
    primary = metrics.get(task.metrics[0]).name
    points = curve(plan, outcome.smaller, ours, baselines, len(rows.parts[0]["train"]), folder, reporter)
    return {
        "scores": scores,
        "primary": primary,
        "normalised": _normalised(plan, scores["test"][primary]),
        "baselines": [{"name": row.name, "scores": row.scores, "difference": row.difference} for row in baselines],
        "folds": fold_summary(task, outcome.trained, outcome.saved) if len(rows.parts) > 1 else None,
        "saved": _saved(outcome.saved),
        "groups": by_group(task, ours, plan.options.groups),
        "curve": points,
    }  # fmt: skip


def _saved(trained: Trained) -> dict[str, Any]:
    """Which training gave the run's adapter, and at which step: its best on validation, or its last where nothing chose."""
    progress = trained.progress
    return {"member": trained.member.name, "seed": trained.member.seed, "step": progress.best_step if progress.history else progress.step}


def _record(
    stored: dict[str, Any], outcome: Outcome, found: dict[str, Any], rows: Rows, folder: Path, spent: dict[str, float],
    others: list[dict[str, Any]], environment: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Make the record and write it: from then on the run is complete, and its checkpoints are of no use."""
    first = outcome.trained[0]
    seconds = sum(one.progress.seconds for one in outcome.all)
    notes = [*rows.notes, *stored["decisions"].get("why", ()), *(note for one in outcome.trained for note in one.notes)]
    notes += [part["says"] for part in (found["folds"], found["curve"]) if part]
    result = record(
        stored,
        **found,
        cost={
            "train_seconds": round(seconds, 3),
            "samples_per_second": round(sum(one.progress.examples for one in outcome.all) / seconds, 2) if seconds else 0.0,
            "peak_memory_bytes": cost.peak_memory() + sum(one["peak_memory_bytes"] for one in others),
            "trainable_parameters": first.trainable_parameters,
            "total_parameters": first.total_parameters,
            "adapter_bytes": sum(path.stat().st_size for path in (folder / "adapter").iterdir()),
            "latency_ms": first.latency_ms,
            "total_seconds": round(spent["total_seconds"] + sum(one.seconds_before for one in outcome.all), 3),
            "cpu_seconds": round(spent["cpu_seconds"] + sum(one["cpu_seconds"] for one in others), 3),
        },
        environment=environment,
        test_readings=test_readings(folder),
        notes=list(dict.fromkeys(notes)),
    )
    run_folder.write_json(folder / "run.json", result)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
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
