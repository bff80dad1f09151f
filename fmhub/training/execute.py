"""One run from plan to record: rows, decisions, members, baselines, scores.

Everything is written into the run's folder as it is made, and `run.json` last: a folder with a record is complete.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from fmhub import backbones, hub, stems
from fmhub.errors import FmhubError, UsageError
from fmhub.evaluation import metrics
from fmhub.recipe import override
from fmhub.runs import folder as run_folder
from fmhub.training import cost, ranks
from fmhub.training.choose import decide
from fmhub.training.curve import curve_members
from fmhub.training.folds import Rows, load_rows, reading, settle_labels
from fmhub.training.member import Member, Trained, members, train_member
from fmhub.training.outcome import Outcome, compare, complete
from fmhub.training.plan import Plan, describe
from fmhub.training.refit import refit_member
from fmhub.training.reporting import Reporter, Silent

Train = Callable[[Member], Trained]


def execute(plan: Plan, run: str, folder: Path, reporter: Reporter, share: slice | None = None) -> dict[str, Any]:
    """Run `plan` in `folder` and return the record; goes on where an interrupted run of the same plan stopped.

    Among several processes every one of them calls it, rank 0 alone writes, and all return the record.
    With a `share` only those of its members are trained: whoever comes last executes the whole.
    """
    clock = cost.Clock()
    accelerator = ranks.accelerator(plan.task.recipe.precision)
    first = accelerator.is_main_process
    reporter = reporter if first else Silent()
    card = backbones.card(plan.task.backbone, {card.name: card for card, _ in hub.backbones()})
    stem = plan.task.stem or stems.own(card.modality, [file.name for file in card.files])
    plan = reading(plan, stem.fields)
    with ranks.one_first():
        rows = load_rows(plan)
        where = card.fetch()
    plan = replace(plan, task=settle_labels(replace(plan.task, stem=stem), rows))

    def load() -> Any:
        from fmhub.backbones.load import load

        return load(where, card=card, sha256=card.sha256, random=plan.options.random_weights)

    _check_targets(plan, rows)
    before = ranks.from_first(lambda: run_folder.read_plan(folder) if (folder / "plan.json").is_file() else None)
    decided = before.get("decisions", {}) if before else decide(plan, rows, load, accelerator, reporter.say)
    decisions = ranks.from_first(lambda: decided)
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
        _, *others = ranks.from_all({"cpu_seconds": clock.read()["cpu_seconds"], "peak_memory_bytes": cost.peak_memory()})
        found = ranks.from_first(lambda: compare(plan, rows, outcome, load, folder, reporter))
    except (KeyboardInterrupt, Exception) as error:
        reporter.close()
        if first:
            with contextlib.suppress(FmhubError):  # a full disk must not hide what went wrong
                run_folder.write_status(folder, "stopped" if isinstance(error, KeyboardInterrupt) else "failed", str(error))
        raise
    result = ranks.from_first(lambda: complete(stored, outcome, found, rows, folder, clock.read(), others, cost.environment(accelerator)))
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
        "units": {one.name: one.unit for one in map(metrics.get, task.metrics) if one.unit},
        "baselines": [baseline.name for baseline in task.baselines] if plan.options.baseline else [],
        "options": describe(plan.options),
        "folds": plan.folds,
    }  # fmt: skip


def _check_targets(plan: Plan, rows: Rows) -> None:
    """A target that does not fit is refused before anything is written."""
    for splits in rows.parts:
        head = plan.task.head.fit(rows.known(splits["train"]), plan.task.recipe)
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
    others = ranks.from_first(lambda: mine)
    if different := [key for key in mine if mine[key] != others[key]]:
        raise UsageError(f"This process and the first one do not see the same {', '.join(different)}: give all of them the same files.")


def _train(plan: Plan, rows: Rows, train: Train) -> Outcome:
    trained = [train(member) for member in members(plan, rows)]
    saved = train(refit_member(plan, rows, trained)) if len(rows.parts) > 1 else max(trained, key=lambda one: one.validation)
    return Outcome(trained, saved, [train(member) for member in curve_members(plan, rows)])
