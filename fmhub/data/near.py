"""Near-duplicates: which texts are so alike that a split must keep them together. Ties chain."""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

SMALL = frozenset("a an the of to in on for and or is are be this that with your you it by from as at do does what".split())
"""Words that say little of what a short text is about."""
LINES, PAGES = 0.7, 0.4
"""Share of words that two short texts have in common, and of word triples that two long ones have, from where on they are near."""
SKETCH = 64
"""Word triples kept of each text: all of a sentence, a fair sample of a page (bottom-k sketch, Broder 1997)."""
COMMON = 60
"""A triple that more texts share than this is a turn of phrase and finds no candidates."""


def lines(texts: Sequence[str], keys: Sequence[str] = (), share: float = LINES, small: frozenset[str] = SMALL) -> list[int]:
    """Of each short text the first one that it is tied to, by likeness of words or an equal one of `keys`."""
    return chained(len(texts), [*_equal(keys), *alike([bag(text, small) for text in texts], share)])


def pages(texts: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Of each text of any length the key of the first one that it is tied to: equal keys, equal words, or many word triples in common."""
    spelt = [" ".join(words(text)) or key for text, key in zip(texts, keys, strict=True)]
    return [keys[place] for place in chained(len(texts), [*_equal(keys), *_equal(spelt), *copies(texts)])]


def chained(count: int, ties: Iterable[tuple[int, int]]) -> list[int]:
    """For each of `count` things the first one that a chain of ties leads to."""
    parent = list(range(count))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = place = parent[parent[place]]
        return place

    for one, other in ties:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return [root(place) for place in range(count)]


def _equal(keys: Sequence[str]) -> Iterator[tuple[int, int]]:
    first: dict[str, int] = {}
    return ((place, first.setdefault(key, place)) for place, key in enumerate(keys))


def words(text: str) -> list[str]:
    """Lower-case runs of letters and digits: what is left when case, punctuation and spacing are put aside."""
    return re.findall(r"[^\W_]+", text.lower())


def bag(text: str, small: frozenset[str] = SMALL) -> frozenset[str]:
    """What is left of a text without case, marks, numbers' values, plurals and `small` words; if that is nothing, all its words."""
    found = re.findall(r"[^\W_]+", re.sub(r"\d+", "0", text).casefold())
    bare = [word[:-1] if len(word) > 3 and word.endswith("s") else word for word in found if word not in small]
    return frozenset(bare or found or [text])


def alike(bags: Sequence[frozenset[str]], share: float) -> Iterator[tuple[int, int]]:
    """Pairs of bags that have at least `share` of their words (of both together) in common.

    Two such bags have one of each one's rarest words in common, so only those find candidates.
    """
    counts, index = Counter(word for one in bags for word in one), defaultdict[str, list[int]](list)
    for place, one in enumerate(bags):
        for word in sorted(one, key=lambda word: (counts[word], word))[: len(one) - math.ceil(share * len(one) - 1e-9) + 1]:
            for other in index[word]:
                if len(one & bags[other]) >= share * len(one | bags[other]):
                    yield place, other
            index[word].append(place)


def triples(text: str) -> set[int]:
    """The smallest `SKETCH` checksums of a text's word triples; of a text of one or two words, those together."""
    parts = words(text)
    runs = {" ".join(parts[at : at + 3]) for at in range(max(1, len(parts) - 2)) if parts}
    return set(sorted(zlib.crc32(run.encode()) for run in runs)[:SKETCH])


def copies(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of texts of which at least `PAGES` of the word triples are common."""
    sketches = [triples(text) for text in texts]
    holders: dict[int, list[int]] = defaultdict(list)
    for place, sketch in enumerate(sketches):
        for triple in sketch:
            holders[triple].append(place)
    shared = Counter((i, j) for found in holders.values() if len(found) <= COMMON for j in found for i in found if i < j)
    return [(i, j) for (i, j), n in shared.items() if n / (len(sketches[i]) + len(sketches[j]) - n) >= PAGES]
