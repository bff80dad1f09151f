"""Which piece of an answer goes with which token of its input: IBM model 1 (Brown et al. 1993, Computational Linguistics 19)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

ROUNDS = 5


def learn(sources: Sequence[np.ndarray], targets: Sequence[np.ndarray], tokens: int, kept: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of `tokens` source tokens the `kept` likeliest pieces (tokens, kept) int32, and their probabilities float32.

    Pairs are bags; token 0 is the one that any piece may come from. Expectation and maximisation over all pairs at once.
    """
    left = [np.unique(np.append(source, 0)) for source in sources]
    right = [np.unique(target) for target in targets]
    sizes = np.array([len(target) for target in right])
    begins = np.cumsum(sizes) - sizes
    token = np.concatenate([np.repeat(s, len(t)) for s, t in zip(left, right, strict=True)]).astype(np.int64)
    piece = np.concatenate([np.tile(t, len(s)) for s, t in zip(left, right, strict=True)]).astype(np.int64)
    cell = np.concatenate([np.tile(np.arange(n), len(s)) + at for s, n, at in zip(left, sizes, begins, strict=True)])
    width = int(piece.max()) + 1
    pairs, place = np.unique(token * width + piece, return_inverse=True)
    token, piece = pairs // width, pairs % width
    share = np.ones(len(pairs))
    for _ in range(ROUNDS):
        weight = share[place]
        count = np.bincount(place, weight / np.bincount(cell, weight)[cell], minlength=len(pairs))
        share = count / np.bincount(token, count)[token]
    order = np.lexsort((-share, token))
    token, piece, share = token[order], piece[order], share[order]
    first = np.flatnonzero(np.r_[True, token[1:] != token[:-1]])
    rank = np.arange(len(token)) - np.repeat(first, np.diff(np.r_[first, len(token)]))
    best = rank < kept
    found, shares = np.zeros((tokens, kept), np.int32), np.zeros((tokens, kept), np.float32)
    found[token[best], rank[best]], shares[token[best], rank[best]] = piece[best], share[best]
    return found, shares
