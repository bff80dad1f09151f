"""Which examples make which batch: a pure function of (seed, epoch), so there is nothing to save and nothing to drift."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

POOL = 32
"""Batches whose examples are sorted by length together: enough that little is padded, few enough that order stays random."""


def epoch_batches(lengths: np.ndarray, batch: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The batches of one epoch as row numbers: every row once, at most `batch` a batch, neighbours in length together."""
    random = np.random.default_rng([seed, epoch, 0x5EED])
    order = random.permutation(len(lengths))
    batches: list[np.ndarray] = []
    for start in range(0, len(order), batch * POOL):
        pool = order[start : start + batch * POOL]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[i : i + batch] for i in range(0, len(pool), batch)]
    return [batches[i] for i in random.permutation(len(batches))]


def parts(rows: np.ndarray, lengths: np.ndarray, budget: int, alike: bool = False) -> Iterator[np.ndarray]:
    """Cut `rows`, longest first, into parts whose padded size stays within `budget` units (at least one row each).

    `alike`: and whose lengths are equal, so that nothing is padded.
    """
    rows = rows[np.argsort(-lengths[rows], kind="stable")]
    while len(rows):
        count = max(1, budget // max(1, int(lengths[rows[0]])))
        if alike:
            count = min(count, int((lengths[rows] == lengths[rows[0]]).sum()))
        yield rows[:count]
        rows = rows[count:]


def evaluation_batches(lengths: np.ndarray, budget: int, alike: bool = False) -> list[np.ndarray]:
    """All rows, sorted by length, longest first, so that a batch too large for memory fails at once."""
    return list(parts(np.arange(len(lengths)), lengths, budget, alike))
