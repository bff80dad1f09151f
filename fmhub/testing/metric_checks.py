"""Checks of a task's metrics, on the predictions that its own head made: pure functions of predictions and targets."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from fmhub.evaluation import metrics
from fmhub.evaluation.metrics.columns import columns as columns_of
from fmhub.evaluation.metrics.columns import take
from fmhub.testing import Seen
from fmhub.testing.chance import dealt, test_columns
from fmhub.testing.subject import Subject

NEAR = 1e-6


def perfect_scores_the_bound(it: Subject) -> Seen:
    """Predictions that are the targets score the end of the metric's scale."""
    table = perfect(_made(it), _labels(it))
    if table is None:
        return None, "what a perfect prediction is cannot be told from its target"
    wrong, figures = [], []
    for metric in (metric for metric in _metrics(it) if "target" in metric.reads):
        value, bound = metric.score(table, _labels(it)), metric.high if metric.direction == "max" else metric.low
        figures.append(f"{metric.name} {value:.4g}")
        if not math.isfinite(value) or (math.isfinite(bound) and abs(value - bound) > NEAR * max(1.0, abs(bound))):
            wrong.append(f"{metric.name} is {value:.4g} and its bound {bound:.4g}")
    return not wrong if figures else None, "; ".join(wrong) or ", ".join(figures) or "no metric reads a target"


def order_of_rows_is_nothing(it: Subject) -> Seen:
    """The same rows in another order score the same, and `statistics` with `combine` give what `score` gives."""
    made, labels = _made(it), _labels(it)
    order = np.random.default_rng(1).permutation(len(made["id"]))
    wrong = []
    # right predictions all alike would hide an order: the same ones dealt out at random are looked at too
    for metric, table in itertools.product(_metrics(it), (made, dealt(it, made, order[::-1]))):
        value = metric.score(table, labels)
        ways = {"in another order": metric.score(take(table, order), labels)}
        if metric.statistics is not None and metric.combine is not None:
            ways["by statistics and combine"] = float(metric.combine(metric.statistics(table, labels).sum(0)))
        if metric.resample is not None:
            ways["by resample"] = float(metric.resample(table, labels)(np.ones((1, len(order)), dtype=np.int64))[0])
        wrong += [f"{metric.name} is {value:.6g}, {way} {other:.6g}" for way, other in ways.items() if not _same(value, other)]
    return not wrong, "; ".join(wrong) or f"{len(made['id'])} rows, {len(_metrics(it))} metrics"


def metrics_read_predictions(it: Subject) -> Seen:
    """Every metric gives the predictions of other rows another score, and a worse one than perfect predictions."""
    best = perfect(_made(it), _labels(it))
    wrong, figures = [], []
    for metric in _metrics(it):
        if "target" not in metric.reads:  # such as coverage: to whom a prediction belongs is nothing to it
            continue
        table = best if best is not None else _made(it)
        value = metric.score(table, _labels(it))
        others = [metric.score(dealt(it, table, order), _labels(it)) for order in _orders(len(table["id"]))]
        if all(_same(value, other) for other in others):
            wrong.append(f"{metric.name} is {value:.4g} whatever is predicted: it ignores its input")
        elif best is not None and not all(metric.better(value - other) or _same(value, other) for other in others):
            wrong.append(f"{metric.name} likes wrong predictions better than right ones: its direction is {metric.direction!r}")
        figures.append(f"{metric.name} {value:.3g} -> {np.mean(others):.3g}")
    return not wrong, "; ".join(wrong) or ", ".join(figures)


def perfect(table: dict[str, Any], labels: Any) -> dict[str, Any] | None:
    """The table with predictions that are its targets; None where that cannot be told from their shapes."""
    answers = [_answer(prediction, target) for prediction, target in zip(table["prediction"], table["target"], strict=True)]
    if any(answer is None for answer in answers):
        return None
    made: dict[str, Any] = {**table, **columns_of({"prediction": answers})}
    if "scores" in table:
        if not labels or np.ndim(table["scores"]) != 2:
            return None
        made["scores"] = np.array([[float(str(target) == str(label)) for label in labels] for target in table["target"]])
    return made


def _answer(prediction: Any, target: Any) -> Any:
    """The target in the shape of a prediction: itself, first of a ranking, or every box of it with full confidence."""
    if isinstance(prediction, list | np.ndarray) and not isinstance(target, list | np.ndarray):
        ranked = list(prediction)
        alike = bool(ranked) and type(ranked[0]) is type(target)
        return [target, *(item for item in ranked if item != target)][: len(ranked)] if alike else None
    if isinstance(prediction, list) and isinstance(target, list) and prediction and isinstance(prediction[0], dict):
        extra = {key: 1.0 for key in prediction[0] if key in ("score", "confidence")}
        made = [{**one, **extra} for one in target if isinstance(one, dict)]
        return made if all(one.keys() >= prediction[0].keys() for one in made) else None
    if isinstance(prediction, dict) and not isinstance(target, dict):
        return None
    return target


def _metrics(it: Subject) -> list[metrics.Metric]:
    return [metrics.get(metric) for metric in it.task.metrics]


def _labels(it: Subject) -> Any:
    return getattr(it.task.head, "labels", None)


def _made(it: Subject) -> dict[str, Any]:
    """The predictions of the run on the sample."""
    return test_columns(it, it.on_sample[1])


def _orders(count: int) -> Iterator[np.ndarray]:
    yield np.roll(np.arange(count), 1)
    for seed in range(9):
        yield np.random.default_rng(seed).permutation(count)


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=NEAR, abs_tol=NEAR) or (math.isnan(one) and math.isnan(other))
