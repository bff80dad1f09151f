"""`--curve`: the score against the size of the training part, for the adapter and its baselines. Is LoRA worth it on this data?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from fmhub.data.parts import limit
from fmhub.evaluation import better, evaluate, metrics
from fmhub.runs import folder as run_folder
from fmhub.training.baselines import Row, gap, labels_of, predict_baseline
from fmhub.training.folds import Rows
from fmhub.training.member import Load, Member, Trained, members
from fmhub.training.plan import Plan
from fmhub.training.reporting import Reporter
from fmhub.training.tables import join, of_split, storable


def curve_members(plan: Plan, rows: Rows) -> list[Member]:
    """Every seed on every size; a smaller training part is a subset of a larger one, validation and test stay whole."""
    return [
        replace(
            member,
            name=f"{_prefix(size)}seed-{member.seed}",
            splits={**member.splits, "train": limit(member.splits["train"], size)},
            slices=(),
        )
        for size in plan.options.curve
        for member in members(plan, rows)
    ]


def curve(
    plan: Plan, smaller: list[Trained], ours: pa.Table, baselines: list[Row], whole: int, load: Load, folder: Path, reporter: Reporter
) -> dict[str, Any] | None:
    """{points, worth_from, says}, the run itself being the last point; the predictions behind it go to `curve.parquet`.

    A point is {train, score, baselines: [{name, score, difference}]} on the first metric of the test split.
    """
    if not smaller:
        return None
    primary = metrics.get(plan.task.metrics[0])
    points, tables = [], []
    for size in plan.options.curve:
        here = [one for one in smaller if one.member.name.startswith(_prefix(size))]  # not by rows: some may not be learnt from
        found = {"": join([one.predictions for one in here])}
        for spec in plan.task.baselines if plan.options.baseline else ():
            reporter.say(f"baseline {spec.name} on {size} rows")
            found[spec.name] = predict_baseline(spec, [one.member for one in here], load)
        points.append(_point(plan, size, found))
        tables += [_marked(storable(table, plan.task.redistribute), size, name) for name, table in found.items()]
    run_folder.write_table(folder / "curve.parquet", join(tables))
    last = evaluate(of_split(ours, "test"), [primary], labels_of(plan.task))[primary.name]
    rows = [{"name": row.name, "score": row.scores["test"][primary.name], "difference": row.difference} for row in baselines]
    points.append({"train": whole, "score": last, "baselines": rows})
    worth = worth_from(points, primary)
    return {"metric": primary.name, "points": points, "worth_from": worth, "says": _says(points, worth)}


def worth_from(points: list[dict[str, Any]], metric: metrics.Metric) -> int | None:
    """The smallest measured size from which on the adapter is ahead of every baseline by a paired interval that excludes 0."""
    found = None
    for point in reversed(points):
        if not point["baselines"] or not all(better(row["difference"], metric) for row in point["baselines"]):
            break
        found = int(point["train"])
    return found


def _point(plan: Plan, size: int, found: dict[str, pa.Table]) -> dict[str, Any]:
    primary, task = metrics.get(plan.task.metrics[0]), plan.task
    scores = {name: evaluate(of_split(table, "test"), [primary], labels_of(task))[primary.name] for name, table in found.items()}
    rows = [{"name": name, "score": scores[name], "difference": gap(task, found[""], table)} for name, table in found.items() if name]
    return {"train": size, "score": scores[""], "baselines": rows}


def _prefix(size: int) -> str:
    return f"train-{size}-"


def _marked(table: pa.Table, size: int, name: str) -> pa.Table:
    table = table.append_column("train", pa.array([size] * len(table), pa.int64()))
    return table.append_column("name", pa.array([name] * len(table), pa.string()))


def _says(points: list[dict[str, Any]], worth: int | None) -> str:
    sizes = ", ".join(str(point["train"]) for point in points)
    if not points[-1]["baselines"]:
        return f"curve: measured at {sizes} training rows, without a baseline to compare with"
    if worth is None:
        return f"curve: at {points[-1]['train']} training rows LoRA is not yet surely ahead of every baseline (measured at {sizes})"
    return f"curve: LoRA is worth it from {worth} training rows on: surely ahead of every baseline (measured at {sizes})"
