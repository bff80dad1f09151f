"""After the folds: the one adapter that is saved, trained on every row, and what the folds say of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fmhub.evaluation import metrics
from fmhub.evaluation.metrics.columns import columns
from fmhub.task import Task
from fmhub.training.baselines import labels_of
from fmhub.training.folds import Rows, cut
from fmhub.training.member import Member, Trained, members
from fmhub.training.plan import Plan
from fmhub.training.tables import of_split


def refit_member(plan: Plan, rows: Rows, trained: list[Trained]) -> Member:
    """All rows, the first seed, and as many epochs as the folds took on average to their best step; nothing is chosen on the way."""
    epochs = sum(one.progress.best_step / one.member.steps_per_epoch for one in trained) / len(trained)
    task = replace(plan.task, recipe=replace(plan.task.recipe, epochs=epochs, patience=0))
    return replace(members(plan, rows)[0], name="refit", task=task, splits={"train": cut(rows.whole, plan)})


def fold_summary(task: Task, trained: list[Trained], refit: Trained) -> dict[str, Any]:
    """What the record says of a cross-validation: how the score is made, the primary metric of every fold, and the refit."""
    ranking = metrics.get(task.metrics[0])
    each = [
        {
            "seed": one.member.seed,
            "fold": one.member.fold,
            "train": len(one.member.splits["train"]),
            "test": len(one.member.splits["test"]),
            "value": _finite(ranking.score(columns(of_split(one.predictions, "test")), labels_of(task))),
            "best_step": one.progress.best_step,
        }
        for one in trained
    ]
    count, size, epochs = len({one.member.fold for one in trained}), len(refit.member.splits["train"]), refit.member.task.recipe.epochs
    return {
        "count": count,
        "score": "pooled",
        "each": each,
        "refit": {"train": size, "epochs": epochs, "steps": refit.progress.step},
        "says": f"scores are pooled over {count} folds; the adapter is refitted on {size} rows for {epochs:.3g} epochs, their mean best",
    }


def _finite(value: float) -> float | None:
    return float(value) if abs(value) < float("inf") else None
