"""How many of the last layers carry the adapter, and for how many epochs: `lora.layers=auto`, `--budget`, `--fast`.

Decided once, before the first step, and frozen in plan.json: a resumed run never decides again. A budget looks at sizes and
times alone, `--fast` at the training and validation parts; in a cross-validation these are other folds' test rows, so it is
refused there (see `plan.make`). Without any of the three nothing is decided here: the recipe runs as it stands.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmhub.backbones.adapter import trainable
from fmhub.data.parts import limit
from fmhub.evaluation import metrics
from fmhub.recipe import Recipe, layers, override
from fmhub.training import ranks
from fmhub.training.encodings import Encodings
from fmhub.training.folds import Rows, cut
from fmhub.training.loop import Schedule, predict, step_gradients
from fmhub.training.member import Member, members, train_member
from fmhub.training.network import Network
from fmhub.training.plan import Plan, seconds
from fmhub.training.prepare import prepared
from fmhub.training.reporting import Silent

if TYPE_CHECKING:
    from accelerate import Accelerator

    from fmhub.backbones.load import Backbone

TOLERANCE = 0.015
"""What `--fast` may give up on validation: a share of the metric's highest value, or of the best tried where it has none."""
BUDGET = 480.0
"""Seconds of training that `auto` aims at where no --budget is given: what a shipped task may take."""
PILOT = (256, 1024)
"""Least and most training rows of a pilot of `--fast`, and most rows that judge it; between them a quarter of the training part."""
STEPS = 4
"""Steps that are timed, after one that warms up."""


@dataclass(frozen=True)
class Rate:
    """Seconds for one example: a training step's share, a prediction, and making it ready (encoding, cached layers)."""

    train: float
    predict: float
    prepare: float


def decide(plan: Plan, rows: Rows, load: Callable[[], Backbone], accelerator: Accelerator, say: Callable[[str], None]) -> dict[str, Any]:
    """{recipe: {key: value}, why: [line], ...} or {} where there is nothing to decide."""
    if plan.options.fast:
        return _fast(plan, rows, load, accelerator, say)
    if plan.options.budget is not None or plan.task.recipe.lora.layers == "auto":
        return _budget(plan, rows, load, accelerator, say)
    return {}


def _read(plan: Plan, load: Callable[[], Backbone]) -> int:
    """How many layers there are to choose of: those that the head reads, see `adapter.attach`."""
    return load().layer_count + 1 + max(plan.task.head.reads.layers)


def candidates(count: int, recipe: Recipe) -> list[str]:
    """What may be chosen of `count` layers, most first; one that the user named stands alone."""
    if recipe.lora.layers != "auto":
        return [recipe.lora.layers]
    if recipe.adapter.kind == "full":
        return ["all"]
    return ["all", *(f"last:{k}" for k in sorted({count // 2, 3, 2, 1} - {0}, reverse=True) if k < count)]


def _budget(plan: Plan, rows: Rows, load: Callable[[], Backbone], accelerator: Accelerator, say: Callable[[str], None]) -> dict[str, Any]:
    recipe = plan.task.recipe
    allowed = seconds(plan.options.budget) if plan.options.budget is not None else BUDGET
    count = _read(plan, load)
    tried: list[dict[str, Any]] = []
    for value in candidates(count, recipe):
        say(f"timing {STEPS} steps with layers={value}")
        changed = override(recipe, {"lora.layers": value})
        rate = _agreed(measure(plan, changed, rows, load, accelerator))
        fixed, epoch = _estimate(rate, rows, plan, changed)
        tried.append({"layers": value, "seconds": round(fixed + epoch * recipe.epochs, 1), "examples_per_second": round(1 / rate.train, 1)})
        if fixed + epoch * recipe.epochs <= allowed:
            return _decision(tried, {"lora.layers": value}, allowed, count, rows, recipe.epochs)
    epochs = round(max(0.01, (allowed - fixed) / epoch), 2)
    return _decision(tried, {"lora.layers": value, "epochs": min(epochs, recipe.epochs)}, allowed, count, rows, recipe.epochs)


def _agreed(rate: Rate) -> Rate:
    """The first process's, so that all decide alike."""
    return ranks.from_first(lambda: rate)


def _decision(tried: list[dict[str, Any]], chosen: dict[str, Any], allowed: float, count: int, rows: Rows, epochs: float) -> dict[str, Any]:
    size = rows.counts["train"]
    times = ", ".join(f"{row['layers']} {row['seconds']:.0f} s ({row['examples_per_second']:.0f} examples/s)" for row in tried)
    fewer = f" with {chosen['epochs']:g} epochs instead of {epochs:g}" if "epochs" in chosen else ""
    line = (
        f"layers={chosen['lora.layers']} of {count}{fewer}: {size} training rows x {epochs:g} epochs are estimated at {times}; "
        f"the budget is {allowed:.0f} s"
    )
    return {"recipe": chosen, "why": [line], "budget_seconds": allowed, "tried": tried}


def measure(plan: Plan, recipe: Recipe, rows: Rows, load: Callable[[], Backbone], accelerator: Accelerator) -> Rate:
    """Time a few steps on a sample of the training part; nothing of it is kept."""
    member = replace(members(plan, rows)[0], name="timing", pool=None, encodings=Encodings())  # reading them takes time, too
    train = member.splits["train"]
    sample = limit(train, min(len(train), recipe.batch * recipe.accumulate * (STEPS + 1)))
    stem, head = member.fitted()
    network = Network(load(), stem, head, recipe, member.known)
    network.to(accelerator.device)
    with tempfile.TemporaryDirectory() as scratch:
        return _timed(network, replace(member, splits={"train": sample}), accelerator, Path(scratch))


def _timed(network: Network, member: Member, accelerator: Accelerator, scratch: Path) -> Rate:
    recipe, count = network.recipe, len(member.splits["train"])
    began = time.perf_counter()
    part = prepared(network, member, _unsaid, scratch)["train"]
    ready = (time.perf_counter() - began) / count
    schedule, parameters = Schedule(part.encoded.lengths, recipe, part.encoded.alike), list(trainable(network).values())
    network.train()
    spent, done = 0.0, 0
    for step in range(min(STEPS + 1, schedule.steps_per_epoch)):
        began = time.perf_counter()
        step_gradients(network, part, schedule, step, accelerator, parameters)
        if step or schedule.steps_per_epoch == 1:
            spent, done = spent + time.perf_counter() - began, done + len(schedule.rows(step))
    began = time.perf_counter()
    predict(network, part, accelerator)
    return Rate(spent / done, (time.perf_counter() - began) / count, ready)


def _unsaid(line: str) -> None:
    """What is true of a trial is not said of the run."""


def _estimate(rate: Rate, rows: Rows, plan: Plan, recipe: Recipe) -> tuple[float, float]:
    """(seconds whatever the epochs, seconds an epoch) of all trainings of the run."""
    fixed = epoch = 0.0
    sizes = [len(part["train"]) for part in rows.parts] + ([len(cut(rows.whole, plan))] if len(rows.parts) > 1 else [])
    held = sum(len(table) for name, table in rows.parts[0].items() if name != "train")
    for size in [*sizes * plan.options.seeds, *list(plan.options.curve) * plan.options.seeds]:
        fixed += held * (rate.predict + rate.prepare) + size * rate.prepare
        epoch += size * rate.train + recipe.evaluations * len(rows.parts[0]["validation"]) * rate.predict
    return fixed, epoch


def _fast(plan: Plan, rows: Rows, load: Callable[[], Backbone], accelerator: Accelerator, say: Callable[[str], None]) -> dict[str, Any]:
    """The smallest number of layers whose pilot is within the tolerance of the best pilot."""
    train, validation = rows.parts[0]["train"], rows.parts[0]["validation"]
    least, most = PILOT
    size = min(len(train), max(least, min(most, len(train) // 4)))
    splits = {"train": limit(train, size), "validation": limit(validation, min(len(validation), size))}
    count = _read(plan, load)
    ranking = metrics.get(plan.task.metrics[0])
    tried: list[dict[str, Any]] = []
    values = candidates(count, override(plan.task.recipe, {"lora.layers": "auto"}))
    if len(values) == 1:
        return {"recipe": {"lora.layers": values[0]}, "why": [f"--fast: layers={values[0]}: there are no others to try"]}
    for value in values:
        say(f"pilot with layers={value} on {size} rows")
        task = replace(plan.task, recipe=override(plan.task.recipe, {"lora.layers": value}))
        with tempfile.TemporaryDirectory() as scratch:
            member = replace(members(plan, rows)[0], name="pilot", task=task, splits=splits)
            trained = train_member(member, load, Path(scratch), accelerator, Silent(), Path(scratch) / "prefix")
        tried.append({"layers": value, "validation": trained.validation, "seconds": round(trained.progress.seconds, 1)})
    chosen, best = pick(tried, count, ranking)
    gave_up = best["validation"] - chosen["validation"]
    sign = 1.0 if ranking.direction == "max" else -1.0
    allowed = tolerance(ranking, best["validation"])
    for row in tried:
        row["validation"] *= sign
    scores = ", ".join(f"{row['layers']} {row['validation']:.3f}" for row in tried)
    line = (
        f"--fast: layers={chosen['layers']} of {count}, the fewest within {allowed:.3g} of the best {ranking.name} "
        f"tried on validation ({scores}, each on {size} training rows); it gives up {gave_up:.3f} against {best['layers']}"
    )
    return {
        "recipe": {"lora.layers": chosen["layers"]}, "why": [line], "metric": ranking.name, "pilot_rows": size,
        "tolerance": allowed, "gave_up": gave_up, "tried": tried,
    }  # fmt: skip


def pick(tried: Sequence[dict[str, Any]], count: int, metric: metrics.Metric) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the one with the fewest layers within the tolerance of the best, the best); `validation` is higher for better."""
    best = max(tried, key=lambda row: row["validation"])
    near = [row for row in tried if best["validation"] - row["validation"] <= tolerance(metric, best["validation"]) + 1e-12]
    return min(near, key=lambda row: layers(row["layers"], count)), best


def tolerance(metric: metrics.Metric, best: float) -> float:
    """What may be given up, in the metric's own unit."""
    return TOLERANCE * abs(metric.high if math.isfinite(metric.high) else best)
