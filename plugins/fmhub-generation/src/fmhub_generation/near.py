"""Which short texts are so alike that a split must keep them together."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

ALIKE = 0.7
"""Share of their words (of both together) that two texts have in common from where on they are near-duplicates."""
SMALL = frozenset("a an the of to in on for and or is are be this that with your you it by from as at do does what".split())


def words(text: str) -> frozenset[str]:
    """What is left of a text without case, marks, numbers' values, plurals and small words; if that is nothing, all its words."""
    found = re.findall(r"[^\W_]+", re.sub(r"\d+", "0", text).casefold())
    bare = [word[:-1] if len(word) > 3 and word.endswith("s") else word for word in found if word not in SMALL]
    return frozenset(bare or found or [text])


def grouped(texts: Sequence[str], keys: Sequence[str] = ()) -> list[str]:
    """The name of each text's group. Ties are near-duplication or an equal one of `keys`, and they chain.

    Two bags of words that are alike have one of each one's rarest words in common, so only those find candidates.
    """
    bags = [words(text) for text in texts]
    parent = list(range(len(bags)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = place = parent[parent[place]]
        return place

    def tie(one: int, other: int) -> None:
        low, high = sorted((root(one), root(other)))
        parent[high] = low

    counts, index, first = Counter(word for bag in bags for word in bag), defaultdict[str, list[int]](list), dict[str, int]()
    for place, bag in enumerate(bags):
        for key in keys[place : place + 1]:
            tie(place, first.setdefault(key, place))
        rare = sorted(bag, key=lambda word: (counts[word], word))[: len(bag) - -(-7 * len(bag) // 10) + 1]
        for word in rare:
            for other in index[word]:
                if len(bag & bags[other]) >= ALIKE * len(bag | bags[other]):
                    tie(place, other)
            index[word].append(place)
    return [f"t{root(place)}" for place in range(len(bags))]
