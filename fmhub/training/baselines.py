"""The task's baselines, on the rows that the adapter saw, through the same evaluator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fmhub.evaluation import difference, evaluate, metrics
from fmhub.runs import folder as run_folder
from fmhub.training.member import Member, Trained
from fmhub.training.tables import prediction_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fmhub.training.plan import Plan
    from fmhub.training.reporting import Reporter


@dataclass(frozen=True)
class Row:
    """One line of a run's comparison: ours (no name, no difference) or a baseline's."""

    name: str
    scores: dict[str, dict[str, Any]]
    """{split: {metric: {value, low, high, n}}}"""
    difference: dict[str, Any] | None = None
    """Ours minus this one on the first metric of the test split, paired."""


def score(predictions: pa.Table, wanted: Sequence[Any], labels: Sequence[str] | None) -> dict[str, dict[str, Any]]:
    """Scores of every split of a prediction table."""
    return {split: evaluate(of_split(predictions, split), wanted, labels) for split in predictions.column("split").unique().to_pylist()}


def of_split(predictions: pa.Table, split: str) -> pa.Table:
    import pyarrow.compute as pc

    return predictions.filter(pc.equal(predictions.column("split"), split))


def run_baselines(plan: Plan, members: list[Member], trained: list[Trained], ours: pa.Table, folder: Path, reporter: Reporter) -> list[Row]:
    """Fit and score each baseline once a fold (seeds share it); its predictions lie beside ours."""
    rows = []
    pairs = [(member, one) for member, one in zip(members, trained, strict=True) if member.seed == members[0].seed]
    labels = getattr(trained[0].network.head_spec, "labels", None)
    for spec in plan.task.baselines:
        reporter.say(f"baseline {spec.name}")
        predictions = pa.concat_tables([_predictions(spec, member, one) for member, one in pairs], promote_options="default")
        run_folder.write_table(run_folder.baseline_file(folder, spec.name), predictions)
        ranking = metrics.get(plan.task.metrics[0])
        gap = difference(of_split(ours, "test"), of_split(predictions, "test"), ranking, labels)
        rows.append(Row(spec.name, score(predictions, plan.task.metrics, labels), {key: gap[key] for key in ("value", "low", "high")}))
    return rows


def _predictions(spec: Any, member: Member, one: Trained) -> pa.Table:
    splits = member.splits
    fitted = spec.fit(splits["train"], splits["validation"], head=one.network.head_spec, seed=member.seed)
    stem = one.network.stem_spec
    tables = [
        prediction_table(rows, fitted.predict(rows.drop_columns(["target"])), split=name, fold=member.fold, seed=member.seed, stem=stem)
        for name, rows in splits.items()
        if name != "train"
    ]
    return pa.concat_tables(tables, promote_options="default")
