"""The task's baselines, on the rows that the adapter saw, through the same evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fmhub.evaluation import difference, evaluate
from fmhub.runs import folder as run_folder
from fmhub.task import Setting, Task
from fmhub.training.features import Features, untrained
from fmhub.training.frozen import frozen
from fmhub.training.member import Load, Member, Trained
from fmhub.training.tables import join, of_split, prediction_table, storable, with_target

if TYPE_CHECKING:
    from fmhub.training.reporting import Reporter


@dataclass(frozen=True)
class Row:
    """One line of a run's comparison: ours (no name, no difference) or a baseline's."""

    name: str
    scores: dict[str, dict[str, Any]]
    """{split: {metric: {value, low, high, n}}}"""
    difference: dict[str, Any] | None = None
    """Ours minus this one on the first metric of the test split, paired."""


def labels_of(task: Task) -> Sequence[str] | None:
    """The labels in the order of the scores, where the task's head has any."""
    return getattr(task.head, "labels", None)


def score(predictions: pa.Table, wanted: Sequence[Any], labels: Sequence[str] | None) -> dict[str, dict[str, Any]]:
    """Scores of every split of a prediction table; folds are pooled, seeds averaged."""
    return {split: evaluate(of_split(predictions, split), wanted, labels) for split in predictions.column("split").unique().to_pylist()}


def gap(task: Task, ours: pa.Table, theirs: pa.Table) -> dict[str, Any]:
    """Ours minus theirs on the first metric of the test split: {value, low, high}."""
    found = difference(of_split(ours, "test"), of_split(theirs, "test"), task.metrics[0], labels_of(task))
    return {key: found[key] for key in ("value", "low", "high")}


def run_baselines(task: Task, trained: list[Trained], ours: pa.Table, load: Load, folder: Path, reporter: Reporter) -> list[Row]:
    """Fit and score each baseline once a fold (seeds share it); its predictions lie beside ours, and are read again on resume."""
    rows = []
    members = [one.member for one in trained]
    for spec in task.baselines:
        reporter.say(f"baseline {spec.name}")
        path = run_folder.baseline_file(folder, spec.name)
        if path.is_file():
            predictions = with_target(run_folder.read_table(path), [table for member in members for table in member.splits.values()])
        else:
            predictions = predict_baseline(spec, members, load)
            run_folder.write_table(path, storable(predictions, task.redistribute))
        rows.append(Row(spec.name, score(predictions, task.metrics, labels_of(task)), gap(task, ours, predictions)))
    return rows


def predict_baseline(spec: Any, members: list[Member], load: Load) -> pa.Table:
    """What a baseline, fitted once a fold on the first seed's members, says of every split but train."""
    return join([_predictions(spec, member, load) for member in members if member.seed == members[0].seed])


def _predictions(spec: Any, member: Member, load: Load) -> pa.Table:
    stem, head = member.fitted()
    parts = {name: member.splits[name] for name in ("train", "validation")}
    setting = Setting(**parts, catalogue=member.catalogue, head=head, seed=member.seed)
    setting = replace(
        setting, features=Features(member, load), untrained=partial(untrained, member, load), frozen=partial(frozen, member, load)
    )
    fitted = spec.fit(replace(setting, tokenizer=lambda: load().tokenizer()))
    unread = getattr(spec, "unread", ("train",))
    blind = {name: rows.drop_columns(["target"]) for name, rows in member.splits.items() if name not in unread}
    return join(
        [prediction_table(member.splits[name], fitted.predict(rows), **member.marks(name), stem=stem) for name, rows in blind.items()]
    )
