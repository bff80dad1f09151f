"""What a window of prices says of itself: returns, variances over several spans, and patches of them with their calendar."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from fmhub.errors import DataError

FLOOR = 1e-8
"""Of a variance, so that a day without a move has a logarithm: 1 basis point squared."""
SPANS = (1, 5, 10, 22, 66)
"""Steps over which variance is averaged: of daily prices a day, a week, two, a month, a quarter."""
MOVES = (1, 5, 22, 66)
FAR = 8.0
"""Deviations at which a return stops counting."""


def read(table: pa.Table, window: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(rows, window) log returns and, for each, the day (since 1970) of its end, of every row's last `window` + 1 `prices`.

    None takes as many as the shortest row has. Raises `DataError` naming the row that cannot be used.
    """
    prices, days = table["prices"].to_pylist(), table["days"].to_pylist()
    window = window or min((len(row or ()) for row in prices), default=0) - 1
    if window < 1:
        raise DataError("A window of prices needs at least two of them.")
    found = np.empty((len(prices), window + 1))
    when = np.empty((len(prices), window + 1))
    for place, (one, dates) in enumerate(zip(prices, days, strict=True)):
        found[place], when[place] = _row(table, place, one, dates, window)
    return np.diff(np.log(found), axis=1), when[:, 1:]


def _row(table: pa.Table, place: int, prices: Any, days: Any, window: int) -> tuple[np.ndarray, np.ndarray]:
    name = table["id"][place].as_py()
    if prices is None or len(prices) <= window:
        raise DataError(f"Row {name}: {len(prices or ())} prices, {window + 1} are needed, oldest first.")
    if days is None or len(days) != len(prices):
        raise DataError(f"Row {name}: {len(prices)} prices and {len(days or ())} days.")
    values, dates = np.array(prices[-window - 1 :], np.float64), np.array(days[-window - 1 :], np.float64)
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise DataError(f"Row {name}: a price is not a number above 0.")
    if not (np.diff(dates) > 0).all():
        raise DataError(f"Row {name}: its days are not in order.")
    return values, dates


def log_variance(returns: np.ndarray, span: int) -> np.ndarray:
    """(rows,) log of the mean squared return of the last `span` steps."""
    mean: np.ndarray = np.log((returns[:, -span:] ** 2).mean(1) + FLOOR)
    return mean


def move(returns: np.ndarray, span: int) -> np.ndarray:
    """(rows,) return over the last `span` steps, in deviations of the last month's."""
    unit = np.exp(log_variance(returns, 22) / 2) * np.sqrt(min(span, returns.shape[1]))
    told: np.ndarray = np.clip(returns[:, -span:].sum(1) / unit, -FAR, FAR)
    return told


def summary(returns: np.ndarray) -> np.ndarray:
    """(rows, len(SPANS) + len(MOVES) + 2): log variances (the last of the whole window), moves, and the last day's fall.

    Variances over several spans are Corsi's (2009, doi:10.1093/jjfinec/nbp001); that falls raise them is the leverage effect.
    """
    spans = [log_variance(returns, span) for span in (*SPANS, returns.shape[1])]
    moves = [move(returns, span) for span in MOVES]
    return np.stack([*spans, *moves, np.minimum(moves[0], 0)], axis=1)


def patches(returns: np.ndarray, days: np.ndarray, size: int) -> np.ndarray:
    """(rows, steps // size, size + 5): each patch's returns in the window's deviations, its log variance and sum, and the calendar
    of its end: where in the year, and the longest pause in it."""
    count = returns.shape[1] // size
    unit = np.exp(log_variance(returns, returns.shape[1]) / 2)[:, None, None]
    cut = returns[:, -count * size :].reshape(len(returns), count, size)
    ends = days[:, -count * size :].reshape(len(days), count, size)
    pauses = np.diff(ends, axis=2).max(2, initial=1.0) if size > 1 else np.ones(ends.shape[:2])
    year = 2 * np.pi * ends[:, :, -1] / 365.2425
    spread = np.log((cut**2).mean(2) + FLOOR)
    scaled = np.clip(cut / unit, -FAR, FAR)
    told = (spread, scaled.sum(2), np.sin(year), np.cos(year), np.log(pauses))
    return np.concatenate([scaled, np.stack(told, axis=2)], axis=2)
