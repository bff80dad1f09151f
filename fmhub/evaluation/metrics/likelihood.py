"""How probable a text is to a language model, from what its head says of each row: `nll` (nats), `tokens`, `bytes`, `hits`.

These metrics read no target: what the text is stands in the model's input, and its likelihood is only claimed. A board therefore
calls them self-reported until an entry is re-run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from fmhub.errors import DataError
from fmhub.evaluation.metrics.base import Columns, Labels, Metric
from fmhub.evaluation.metrics.columns import numbers


def _rows(names: tuple[str, str], columns: Columns, labels: Labels = None) -> np.ndarray:
    """(n, 2) of what is summed and what it is divided by. Raises `DataError` for a count or a likelihood below 0."""
    found = np.stack([numbers(columns, name) for name in names], axis=1)
    if (found < 0).any():
        row, place = np.argwhere(found < 0)[0]
        raise DataError(f"Row {row}: {names[place]} is {found[row, place]:g}, below 0.")
    return found


def _ratio(shape: Callable[[np.ndarray], np.ndarray], sums: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return np.asarray(shape(sums[..., 0] / sums[..., 1]))


def _score(names: tuple[str, str], shape: Callable[[np.ndarray], np.ndarray], columns: Columns, labels: Labels = None) -> float:
    return float(_ratio(shape, _rows(names, columns).sum(0)))


def _bits(nats: np.ndarray) -> np.ndarray:
    return np.asarray(nats / np.log(2))


def _metric(name: str, title: str, names: tuple[str, str], shape: Callable[[np.ndarray], np.ndarray]) -> Metric:
    direction, low, high = ("max", 0.0, 1.0) if name == "next_token" else ("min", float(name == "perplexity"), float("inf"))
    return Metric(
        name, partial(_score, names, shape), direction, low, high, title=title, reads=names,  # type: ignore[arg-type]
        statistics=partial(_rows, names), combine=partial(_ratio, shape),
    )  # fmt: skip


METRICS = {
    metric.name: metric
    for metric in (
        _metric("perplexity", "Perplexity of a token (the backbone's own)", ("nll", "tokens"), np.exp),
        _metric("bits_per_byte", "Bits a byte, whatever the tokens", ("nll", "bytes"), _bits),
        _metric("next_token", "Share of tokens that were the likeliest", ("hits", "tokens"), np.asarray),
    )
}
