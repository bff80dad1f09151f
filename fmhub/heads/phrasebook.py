"""How parts of an input were answered in the training pairs: phrases looked up where they stand, none written down before.

Phrase extraction: Och & Ney 2004, doi:10.1162/0891201042544884; looking them up in the pairs themselves: Callison-Burch et al. 2005,
P05-1032; lexical weights: Koehn et al. 2003, N03-1017. So what a pair says can be left out when its own input is asked for.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from fmhub.heads.alignment import Link

Phrase = tuple[int, ...]
SPAN, ANSWER = 7, 10
"""Most tokens of a phrase, most pieces of its answer."""
SEEN = 60
"""Places of one phrase that are looked at, evenly taken among all."""
RARE = 1e-4
"""Probability of a piece for a token that it was never linked with."""
WEIGHTS = (0.35, 0.2, 0.25, -0.1, 1.0)
"""Of a phrase's answer: log share among the answers, log lexical weight there and back, 1 a phrase, 1 a piece.

Chosen on French validation pairs.
"""
NOTHING = -1


class Phrasebook:
    """Training pairs as int arrays with their links and the group each belongs to."""

    def __init__(self, sources: Sequence[np.ndarray], targets: Sequence[np.ndarray], links: Sequence[list[Link]], groups: Sequence[int]):
        self.targets = [tuple(target.tolist()) for target in targets]
        self.links, self.groups = links, list(groups)
        self.lengths = [len(source) for source in sources]
        self.text = np.concatenate([np.append(source, NOTHING) for source in sources]).astype(np.int64)
        self.row = np.repeat(np.arange(len(sources)), [len(source) + 1 for source in sources])
        self.begin = np.cumsum([0, *(length + 1 for length in self.lengths[:-1])])
        self.there, self.back = self._lexicon(sources)
        self.orders = [self._order(length) for length in range(1, SPAN + 1)]
        self.texts = {tuple(source.tolist()): group for source, group in zip(sources, groups, strict=True)}
        self.known: dict[Phrase, list[tuple[int, Phrase]]] = {}
        self.weighed: dict[tuple[Phrase, Phrase], float] = {}

    def lexicon(self, most: int) -> dict[int, list[tuple[int, float]]]:
        """For each token its likeliest pieces, `most` at most, with their probabilities."""
        found: dict[int, list[tuple[int, float]]] = defaultdict(list)
        for (token, piece), share in sorted(self.there.items(), key=lambda one: (-one[1], one[0])):
            if len(found[token]) < most:
                found[token].append((piece, share))
        return found

    def group(self, source: Sequence[int]) -> int | None:
        """Of a training source; None for any other."""
        return self.texts.get(tuple(source))

    def _lexicon(self, sources: Sequence[np.ndarray]) -> tuple[dict[Link, float], dict[Link, float]]:
        """Shares of linked pieces a token, and of linked tokens a piece."""
        pairs = Counter(
            (int(source[i]), target[j]) for source, target, links in zip(sources, self.targets, self.links, strict=True) for i, j in links
        )
        left, right = Counter[int](), Counter[int]()
        for (token, piece), count in pairs.items():
            left[token] += count
            right[piece] += count
        return {pair: count / left[pair[0]] for pair, count in pairs.items()}, {
            pair: count / right[pair[1]] for pair, count in pairs.items()
        }

    def _order(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """(keys in order, their places) of all spans of one length."""
        count = max(0, len(self.text) - length + 1)
        keys, whole = np.zeros(count, np.uint64), np.ones(count, bool)
        for step in range(length):
            part = self.text[step : step + count]
            keys, whole = _mixed(keys, part), whole & (part != NOTHING)
        places = np.flatnonzero(whole)
        order = np.argsort(keys[places], kind="stable")
        return keys[places][order], places[order]

    def places(self, phrase: Phrase) -> np.ndarray:
        """Where a phrase stands in the text of all sources, at most `SEEN` places."""
        key = np.zeros(1, np.uint64)
        for token in phrase:
            key = _mixed(key, np.array([token]))
        keys, places = self.orders[len(phrase) - 1]
        low, high = np.searchsorted(keys, key[0], "left"), np.searchsorted(keys, key[0], "right")
        found = places[low:high]
        return found if len(found) <= SEEN else found[np.linspace(0, len(found) - 1, SEEN).astype(int)]

    def answers(self, phrase: Phrase, without: int | None = None) -> list[tuple[float, Phrase]]:
        """(score, pieces) of what the phrase was answered with, best first; pairs of the group `without` are not asked."""
        if phrase not in self.known:
            self.known[phrase] = [
                (self.groups[row], answer) for place in self.places(phrase) for row, answer in self._cut(int(place), len(phrase))
            ]
        counts = Counter(answer for group, answer in self.known[phrase] if group != without)
        total = counts.total()
        return sorted(
            ((self._score(phrase, answer, (count - 0.4) / total), answer) for answer, count in counts.items()),
            key=lambda one: (-one[0], one[1]),
        )

    def _cut(self, place: int, length: int) -> list[tuple[int, Phrase]]:
        """The answers of `length` tokens at a place: pieces linked to them and to no others, with unlinked ones beside them."""
        row = int(self.row[place])
        begin = place - int(self.begin[row])
        end = begin + length
        links, target = self.links[row], self.targets[row]
        inside = [j for i, j in links if begin <= i < end]
        if not inside:
            return []
        low, high = min(inside), max(inside) + 1
        linked = {j for _, j in links}
        if high - low > ANSWER or any(low <= j < high and not begin <= i < end for i, j in links):
            return []
        lows = [low]
        while lows[-1] > 0 and lows[-1] - 1 not in linked:
            lows.append(lows[-1] - 1)
        highs = [high]
        while highs[-1] < len(target) and highs[-1] not in linked:
            highs.append(highs[-1] + 1)
        return [(row, target[one:other]) for one in lows for other in highs if other - one <= ANSWER]

    def _score(self, phrase: Phrase, answer: Phrase, share: float) -> float:
        pair = (phrase, answer)
        if pair not in self.weighed:
            there = sum(math.log(sum(self.there.get((token, piece), RARE) for token in phrase) / len(phrase)) for piece in answer)
            back = sum(math.log(max(self.back.get((token, piece), RARE) for piece in answer)) for token in phrase)
            self.weighed[pair] = WEIGHTS[1] * there + WEIGHTS[2] * back + WEIGHTS[3] + WEIGHTS[4] * len(answer)
        return WEIGHTS[0] * math.log(share) + self.weighed[pair]


def _mixed(keys: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """One more token mixed into each key; equal spans have equal keys, others hardly ever."""
    mixed = (keys ^ (tokens.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15))) * np.uint64(0xBF58476D1CE4E5B9)
    return np.asarray(mixed ^ (mixed >> np.uint64(29)))


def grouped(groups: Sequence[int], count: int) -> dict[int, int]:
    """Which of `count` parts each group belongs to, in the order of their first rows."""
    order: dict[int, int] = defaultdict(lambda: len(order) % count)
    return {group: order[group] for group in groups}
