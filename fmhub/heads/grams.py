"""What follows a few tokens, counted: the language model before there were networks.

Interpolated Kneser-Ney (1995; Chen & Goodman 1999, doi:10.1006/csla.1999.0128) with one discount.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

Gram = tuple[int, ...]
START, END = -1, -2


@dataclass
class Counts:
    """Of each context how often each token follows: for the longest contexts in texts, for shorter ones after different tokens."""

    order: int
    follow: dict[Gram, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    totals: dict[Gram, int] = field(default_factory=dict)

    @classmethod
    def of(cls, lines: Sequence[Sequence[int]], order: int) -> Counts:
        made = cls(order)
        grams = Counter(
            padded[at : at + order]
            for line in lines
            for padded in [(*[START] * (order - 1), *line, END)]
            for at in range(len(padded) - order + 1)
        )
        while True:
            for gram, count in grams.items():
                made.follow[gram[:-1]][gram[-1]] += count
            if len(next(iter(grams), ())) <= 1:
                break
            grams = Counter(gram[1:] for gram in grams)
        made.totals = {context: follow.total() for context, follow in made.follow.items()}
        return made

    def probability(self, context: Gram, token: int, discount: float, size: int) -> float:
        """Of `token` after the last tokens of `context`, all shorter contexts mixed in; the last resort is all of `size` tokens alike."""
        found: float = 1 / size
        for length in range(min(self.order, len(context) + 1)):
            last = context[len(context) - length :]
            follow = self.follow.get(last)
            if follow:
                found = (max(follow.get(token, 0) - discount, 0) + discount * len(follow) * found) / self.totals[last]
        return found
