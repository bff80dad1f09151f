"""Which texts are so alike that a split must keep them together."""

from __future__ import annotations

import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Sequence

THRESHOLD = 0.4
"""Share of common word triples from which two texts count as near-duplicates."""
SKETCH = 64
"""Word triples kept of each text: all of a sentence, a fair sample of a page (bottom-k sketch, Broder 1997)."""
COMMON = 60
"""A triple that more texts share than this is a turn of phrase and finds no candidates."""


def words(text: str) -> list[str]:
    """Lower-case runs of letters and digits: what is left when case, punctuation and spacing are put aside."""
    return re.findall(r"[^\W_]+", text.lower())


def triples(text: str) -> set[int]:
    """The smallest `SKETCH` checksums of a text's word triples; of a text of one or two words, those together."""
    parts = words(text)
    runs = {" ".join(parts[i : i + 3]) for i in range(max(1, len(parts) - 2)) if parts}
    return set(sorted(zlib.crc32(run.encode()) for run in runs)[:SKETCH])


def groups(texts: Sequence[str], keys: Sequence[str]) -> list[str]:
    """The group of each text: the key of the first text that it is tied to.

    Ties are an equal key (one document), equal words, or near-duplication, and they chain.
    """
    parent = list(range(len(texts)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    def tie(i: int, j: int) -> None:
        low, high = sorted((root(i), root(j)))
        parent[high] = low

    first: dict[tuple[str, str], int] = {}
    for i, (text, key) in enumerate(zip(texts, keys, strict=True)):
        tie(i, first.setdefault(("key", key), i))
        tie(i, first.setdefault(("words", " ".join(words(text)) or key), i))
    for i, j in near(texts):
        tie(i, j)
    return [keys[root(i)] for i in range(len(texts))]


def near(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of texts of which at least `THRESHOLD` of the word triples are common."""
    sketches = [triples(text) for text in texts]
    holders: dict[int, list[int]] = defaultdict(list)
    for i, sketch in enumerate(sketches):
        for triple in sketch:
            holders[triple].append(i)
    shared = Counter((i, j) for found in holders.values() if len(found) <= COMMON for j in found for i in found if i < j)
    return [(i, j) for (i, j), n in shared.items() if n / (len(sketches[i]) + len(sketches[j]) - n) >= THRESHOLD]
