"""From what was trained to the record: adapter and predictions saved, baselines run, everything scored, costs added up."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from fmhub.evaluation import metrics
from fmhub.runs import folder as run_folder
from fmhub.runs.record import record
from fmhub.training import cost
from fmhub.training.baselines import labels_of, run_baselines, score
from fmhub.training.curve import curve
from fmhub.training.folds import Rows
from fmhub.training.groups import by_group
from fmhub.training.member import Load, Trained, save_adapter, test_readings
from fmhub.training.plan import Plan
from fmhub.training.refit import fold_summary
from fmhub.training.reporting import Reporter
from fmhub.training.tables import join, storable


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


def compare(plan: Plan, rows: Rows, outcome: Outcome, load: Load, folder: Path, reporter: Reporter) -> dict[str, Any]:
    """Save adapter and predictions, run the baselines, score everything; the keys of the record that come of it."""
    task = plan.task
    save_adapter(outcome.saved, folder)
    ours: pa.Table = join([one.predictions for one in outcome.trained])
    run_folder.write_table(folder / "predictions.parquet", storable(ours, task.redistribute))
    scores = score(ours, task.metrics, labels_of(task))
    baselines = run_baselines(task, outcome.trained, ours, load, folder, reporter) if plan.options.baseline else []
    for split, values in scores.items():
        reporter.evaluated(split, values)
    primary = metrics.get(task.metrics[0]).name
    points = curve(plan, outcome.smaller, ours, baselines, len(rows.parts[0]["train"]), load, folder, reporter)
    return {
        "scores": scores,
        "primary": primary,
        "normalised": _normalised(plan, scores["test"][primary]),
        "baselines": [{"name": row.name, "scores": row.scores, "difference": row.difference} for row in baselines],
        "folds": fold_summary(task, outcome.trained, outcome.saved) if len(rows.parts) > 1 else None,
        "saved": _saved(outcome.saved),
        "groups": by_group(task, ours, plan.slices),
        "curve": points,
    }  # fmt: skip


def _saved(trained: Trained) -> dict[str, Any]:
    """Which training gave the run's adapter, and at which step: its best on validation, or its last where nothing chose."""
    progress = trained.progress
    return {"member": trained.member.name, "seed": trained.member.seed, "step": progress.best_step if progress.history else progress.step}


def complete(
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
