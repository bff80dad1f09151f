"""95 % bootstrap intervals (Efron & Tibshirani 1993) of metrics and of paired differences, from prediction columns alone.

What is resampled, with replacement: whole groups where rows have a `group`, else examples by `id`, together for all
seeds and folds; and the seeds themselves where there are several. Scores of several seeds are averaged. Folds are
declared `pooled` (one score over all rows) or `mean` (the mean of one score a fold, weighted in a resample by how much
of the fold was drawn). The random numbers are fixed, so the same table always gives the same interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from fmhub.errors import DataError
from fmhub.evaluation.metrics.base import Columns, Labels, Metric
from fmhub.evaluation.metrics.columns import take, truth

RESAMPLES = 1000
LEVEL = 0.95
SEED = 20_260_101
CELLS = 1 << 22
"""Counts of one chunk of resamples: bounds the memory at about 32 MB."""

Folds: TypeAlias = Literal["pooled", "mean"]
Estimate: TypeAlias = dict[str, float | str | None]
"""`value`, `low`, `high`, and a `note` where one of them is None."""
Sampler: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""(b, units) counts -> (b,) values."""


@dataclass(frozen=True)
class Cell:
    """The rows of one seed (and, where folds are averaged, of one fold): `units` (n,) says which unit each row is of."""

    columns: Columns
    units: np.ndarray


def estimates(metrics: Sequence[Metric], columns: Columns, labels: Labels = None, *, folds: Folds = "pooled",
              resamples: int = RESAMPLES) -> list[Estimate]:  # fmt: skip
    """The value of each metric with its interval, low <= value <= high."""
    keys = unit_keys(columns)
    cells = _cells(columns, keys, folds)
    values = [_value(metric, cells, labels) for metric in metrics]
    if len(keys) < 2:
        return [_estimate(metric, value, None, 1) for metric, value in zip(metrics, values, strict=True)]
    seeds = _seed_weights(len(cells), resamples, stream=1)
    samplers = [_over_seeds(metric, cells, labels, len(keys), seeds) for metric in metrics]
    drawn = _draw(samplers, len(keys), resamples)
    return [_estimate(*one, len(keys)) for one in zip(metrics, values, drawn, strict=True)]


def paired(metric: Metric, ours: Columns, theirs: Columns, labels: Labels = None, *, folds: Folds = "pooled",
           resamples: int = RESAMPLES, level: float = LEVEL) -> Estimate:  # fmt: skip
    """Ours minus theirs on the same resamples: above 0 means ours is better for direction `max`, worse for `min`.

    Both must have predicted the same examples with the same targets; each may have seeds of its own.
    Raises `DataError` where they did not.
    """
    keys = unit_keys(ours)
    _same_examples(ours, theirs)
    sides = [_cells(side, keys, folds) for side in (ours, theirs)]
    value = _value(metric, sides[0], labels) - _value(metric, sides[1], labels)
    if len(keys) < 2:
        return _estimate(None, value, None, 1)
    samplers = [
        _over_seeds(metric, cells, labels, len(keys), _seed_weights(len(cells), resamples, stream))
        for stream, cells in enumerate(sides, start=1)
    ]
    drawn = _draw(samplers, len(keys), resamples)
    return _estimate(None, value, drawn[0] - drawn[1], len(keys), level)


def standard_error(metric: Metric, columns: Columns, labels: Labels = None, *, resamples: int = 100) -> float:
    """How far the value would lie from another sample's, one standard deviation of the resamples; 0 where they say nothing."""
    keys = unit_keys(columns)
    if len(keys) < 2:
        return 0.0
    cells = _cells(columns, keys, "pooled")
    drawn = _draw([_over_seeds(metric, cells, labels, len(keys), _seed_weights(len(cells), resamples, stream=1))], len(keys), resamples)[0]
    finite = drawn[np.isfinite(drawn)]
    return float(finite.std()) if len(finite) * 2 >= resamples else 0.0


def unit_keys(columns: Columns) -> list[str]:
    """The units that are resampled, sorted: groups where there are any, else ids."""
    return sorted(set(_units(columns)))


def _units(columns: Columns) -> list[str]:
    ids = columns["id"] if "id" in columns else np.arange(len(next(iter(columns.values()))))
    if "group" not in columns:
        return [f"id {name}" for name in ids]
    return [
        f"id {name}" if group is None or group != group else f"group {group}" for name, group in zip(ids, columns["group"], strict=True)
    ]


def _cells(columns: Columns, keys: list[str], folds: Folds) -> list[list[Cell]]:
    """One list a seed, of one cell a fold or of one cell for all."""
    place = {key: index for index, key in enumerate(keys)}
    units = np.array([place[key] for key in _units(columns)], dtype=np.int64)
    if len(units) == 0:
        raise DataError("There is no row to score.")
    seeds = columns["seed"] if "seed" in columns else np.zeros(len(units))
    parts = columns["fold"] if "fold" in columns and folds == "mean" else np.zeros(len(units))
    cells = []
    for seed in np.unique(seeds):
        rows = [np.flatnonzero((seeds == seed) & (parts == part)) for part in np.unique(parts)]
        cells.append([Cell(take(columns, where), units[where]) for where in rows if len(where)])
    return cells


def _same_examples(ours: Columns, theirs: Columns) -> None:
    if "id" not in ours or "id" not in theirs:
        raise DataError("A paired difference needs the column 'id' in both prediction tables.")
    left, right = ({name: truth(target) for name, target in zip(side["id"], side["target"], strict=True)} for side in (ours, theirs))
    if left.keys() != right.keys():
        raise DataError(f"The two prediction tables hold different examples ({len(left.keys() ^ right.keys())} are in one only).")
    wrong = next((name for name in left if left[name] != right[name]), None)
    if wrong is not None:
        raise DataError(f"The two prediction tables disagree about the target of example {wrong}.")


def _value(metric: Metric, cells: list[list[Cell]], labels: Labels) -> float:
    return float(np.mean([np.mean([metric.score(cell.columns, labels) for cell in seed]) for seed in cells]))


def _sampler(metric: Metric, cell: Cell, labels: Labels, count: int) -> Sampler:
    """Values of one cell for counts of units; nothing but sums is computed a resample where the metric allows it."""
    if metric.statistics and metric.combine:
        rows, combine = np.asarray(metric.statistics(cell.columns, labels), dtype=np.float64), metric.combine
        sums = np.zeros((count, rows.shape[1]))
        np.add.at(sums, cell.units, rows)
        return lambda drawn: combine(drawn @ sums)
    if metric.resample:
        weighted = metric.resample(cell.columns, labels)
        return lambda drawn: weighted(drawn[:, cell.units])
    return lambda drawn: np.array([_score(metric, cell.columns, labels, one[cell.units]) for one in drawn])


def _score(metric: Metric, columns: Columns, labels: Labels, counts: np.ndarray) -> float:
    if not counts.any():
        return float("nan")
    return metric.score(take(columns, np.repeat(np.arange(len(counts)), counts.astype(np.int64))), labels)


def _over_folds(metric: Metric, cells: list[Cell], labels: Labels, count: int) -> Sampler:
    samplers = [_sampler(metric, cell, labels, count) for cell in cells]
    if len(cells) == 1:
        return samplers[0]
    sizes = np.stack([np.bincount(cell.units, minlength=count) / len(cell.units) for cell in cells], axis=1)

    def mean(drawn: np.ndarray) -> np.ndarray:
        share = drawn @ sizes
        values = np.stack([np.where(part > 0, sample(drawn), 0) for part, sample in zip(share.T, samplers, strict=True)], axis=1)
        averaged: np.ndarray = (share * values).sum(1) / share.sum(1)
        return averaged

    return mean


def _over_seeds(metric: Metric, cells: list[list[Cell]], labels: Labels, count: int, seeds: np.ndarray) -> Sampler:
    """Called chunk after chunk, in order: the seeds' weights run along."""
    samplers = [_over_folds(metric, seed, labels, count) for seed in cells]
    position = 0

    def mean(drawn: np.ndarray) -> np.ndarray:
        nonlocal position
        weights = seeds[position : position + len(drawn)]
        position += len(drawn)
        values = np.stack([sample(drawn) for sample in samplers], axis=1)
        averaged: np.ndarray = (weights * np.where(weights > 0, values, 0)).sum(1)
        return averaged

    return mean


def _seed_weights(seeds: int, resamples: int, stream: int) -> np.ndarray:
    random = np.random.default_rng([SEED, stream])
    return random.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds


def _counts(units: int, resamples: int) -> Iterator[np.ndarray]:
    """(b, units) float64: how often each unit is drawn in b resamples."""
    random = np.random.default_rng(SEED)
    chunk = max(1, CELLS // units)
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        drawn = random.integers(0, units, size=(size, units)) + np.arange(size)[:, None] * units
        yield np.bincount(drawn.ravel(), minlength=size * units).reshape(size, units).astype(np.float64)


def _draw(samplers: Sequence[Sampler], units: int, resamples: int) -> list[np.ndarray]:
    with np.errstate(divide="ignore", invalid="ignore"):
        chunks = [[sample(counts) for sample in samplers] for counts in _counts(units, resamples)]
    return [np.concatenate(parts) for parts in zip(*chunks, strict=True)]


def _estimate(metric: Metric | None, value: float, drawn: np.ndarray | None, units: int, level: float = LEVEL) -> Estimate:
    """Percentiles of the resamples; those where the metric is undefined are left out, and more than half of them leave none."""
    if not np.isfinite(value):
        return {"value": None, "low": None, "high": None, "note": "undefined on these rows"}
    if drawn is None:
        return {"value": value, "low": None, "high": None, "note": "one group or example only: no interval"}
    finite = drawn[np.isfinite(drawn)]
    if len(finite) * 2 < len(drawn):
        return {"value": value, "low": None, "high": None, "note": "undefined on most resamples: no interval"}
    tail = _tail(units, level)
    low, high = np.quantile(finite, [tail, 1 - tail])
    if metric and low == high == value in (metric.low, metric.high) and math.isinf(metric.high - metric.low):
        return {"value": value, "low": None, "high": None, "note": "at its bound on every resample: no interval"}
    if metric and low == high == value:
        low, high = _at_the_end(metric, value, units)
    return {"value": value, "low": min(float(low), value), "high": max(float(high), value)}


def _at_the_end(metric: Metric, value: float, units: int) -> tuple[float, float]:
    """Where no resample differs because all is right (or wrong): as far as Clopper and Pearson (1934) go for `units` of `units`."""
    spare = (metric.high - metric.low) * (1 - ((1 - LEVEL) / 2) ** (1 / units))
    return (max(metric.low, value - spare), min(metric.high, value + spare)) if value in (metric.low, metric.high) else (value, value)


def _tail(units: int, level: float = LEVEL) -> float:
    """The share cut off at each end: smaller for few units, as Student's t is wider than the normal (Hesterberg 2015, arXiv:1411.5279)."""
    from scipy.special import ndtr, stdtrit  # not scipy.stats: that takes half a second to import

    return float(ndtr(stdtrit(units - 1, (1 - level) / 2) * np.sqrt(units / (units - 1))))
