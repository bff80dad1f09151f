"""Which piece of an answer goes with which token of its input, found in pairs of them.

IBM model 2 with a prior along the diagonal (Brown et al. 1993; Dyer et al. 2013, N13-1073), learnt in both directions and made
one by growing what they agree on (Koehn et al. 2003, N03-1017).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

Link = tuple[int, int]
"""Places in an input and in its answer."""
ROUNDS = 6
NOWHERE, SLOPE = 0.08, 4.0
"""Probability that a piece comes from nothing; how fast that of the others falls with their distance from the diagonal."""
LETTERS = 5
AROUND = ((-1, 0), (0, -1), (1, 0), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1))


def aligned(sources: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> list[list[Link]]:
    """The links of each pair of int arrays, in order; the more pairs there are, the better they are."""
    there, back = directed(sources, targets), directed(targets, sources)
    return [sorted(merged(set(one), {(i, j) for j, i in other})) for one, other in zip(there, back, strict=True)]


def begins(names: Sequence[str]) -> np.ndarray:
    """(names,) for each the number of the first one that begins with the same letters: few pairs teach forms of a word together."""
    first: dict[str, int] = {}
    bare = [name.strip("#▁ ").casefold()[:LETTERS] for name in names]
    return np.array([first.setdefault(name or f"#{place}", place) for place, name in enumerate(bare)])


def directed(sources: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> list[list[Link]]:
    """For each piece of a target the likeliest token, none where nothing is likelier; over all pairs at once."""
    shapes: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row, pair in enumerate(zip(sources, targets, strict=True)):
        shapes[len(pair[0]), len(pair[1])].append(row)
    cells = [_cells(np.stack([sources[row] for row in rows]), np.stack([targets[row] for row in rows])) for rows in shapes.values()]
    token, piece, prior = (np.concatenate([one[part].ravel() for one in cells]) for part in range(3))
    sizes = np.concatenate([np.full(one[0].shape[0] * one[0].shape[1], one[0].shape[2]) for one in cells])
    cell = np.repeat(np.arange(len(sizes)), sizes)
    pairs, place = np.unique(token.astype(np.int64) * (int(piece.max()) + 1) + piece, return_inverse=True)
    owner = pairs // (int(piece.max()) + 1)
    share = np.ones(len(pairs))
    for _ in range(ROUNDS):
        weight = share[place] * prior
        count = np.bincount(place, weight / np.bincount(cell, weight)[cell], minlength=len(pairs)) + 1e-3
        share = count / np.bincount(owner, count)[owner]
    likely, at = share[place] * prior, 0
    found: list[list[Link]] = [[] for _ in sources]
    for (length, pieces), rows in shapes.items():
        best = likely[at : (at := at + len(rows) * pieces * (length + 1))].reshape(len(rows), pieces, length + 1).argmax(2)
        for row, places in zip(rows, best.tolist(), strict=True):
            found[row] = [(i, j) for j, i in enumerate(places) if i < length]
    return found


def _cells(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens (0 is nothing), pieces and prior of every link that pairs of one shape may have, each (pairs, pieces, tokens + 1)."""
    count, length, pieces = len(left), left.shape[1], right.shape[1]
    away = np.abs((np.arange(length) + 0.5) / max(length, 1) - (np.arange(pieces)[:, None] + 0.5) / pieces)
    prior = np.exp(-SLOPE * away)
    prior = np.c_[prior / prior.sum(1, keepdims=True) * (1 - NOWHERE), np.full(pieces, NOWHERE)]
    shape = (count, pieces, length + 1)
    token = np.broadcast_to(np.c_[left + 1, np.zeros(count, left.dtype)][:, None], shape)
    return token, np.broadcast_to(right[:, :, None], shape), np.broadcast_to(prior, shape)


def merged(there: set[Link], back: set[Link]) -> set[Link]:
    """What both say, grown by neighbours that one says and that link something new, then by what is still alone on both sides."""
    either, both = there | back, there & back
    left, right = {i for i, _ in both}, {j for _, j in both}
    fresh = sorted(both)
    while fresh:
        grown = []
        for i, j in fresh:
            for link in ((i + di, j + dj) for di, dj in AROUND):
                if link in either and link not in both and (link[0] not in left or link[1] not in right):
                    both.add(link)
                    left.add(link[0])
                    right.add(link[1])
                    grown.append(link)
        fresh = grown
    for side in (there, back):
        for i, j in sorted(side):
            if i not in left and j not in right:
                both.add((i, j))
                left.add(i)
                right.add(j)
    return both
