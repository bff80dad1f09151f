"""A first answer without a network: phrases of the training pairs put together, by stack decoding (Koehn et al. 2003, N03-1017)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import nlargest

from fmhub.heads.grams import END, START, Counts, Gram
from fmhub.heads.phrasebook import SPAN, Phrase, Phrasebook, grouped

FLUENT, DISCOUNT, ORDER = 0.5, 0.75, 4
"""Weight of the language model's log-probability; its discount and order. These five are chosen on validation, as `phrasebook.WEIGHTS`."""
JUMP, STRANGE = -0.5, -5.0
"""What a place that is jumped over costs, and a token without an answer."""
STACK, REACH, OFFERED = 8, 3, 5
"""Drafts kept for each number of answered tokens, places that may be jumped over, answers a phrase."""
MARGIN = 3.0
"""How much worse than the best draft of as many tokens one may look before its fluency is asked for."""
LONGEST = 128
"""Tokens of an input that are drafted."""
REMEMBERED = 200_000
"""Drafts, phrases and probabilities that are kept, each."""
PARTS = 4
"""Language models that each lack a part of the pairs, for inputs that are training pairs themselves."""


Offers = dict[int, list[tuple[int, list[tuple[float, Phrase, float]]]]]
"""By begin: each end, with the best answers of the tokens between: score, pieces, and how fluent they are alone."""


@dataclass(frozen=True, slots=True)
class Partial:
    """A draft of some of the tokens (`done`, a bit each); the last phrase ended at `at`."""

    guess: float
    score: float
    done: int
    at: int
    context: Gram
    before: Partial | None
    words: Phrase


class Board:
    """The partial drafts of one input: for each number of answered tokens the best one of all that go on alike, and the best of all."""

    def __init__(self, offers: Offers, count: int) -> None:
        self.offers, self.count, self.best = offers, count, _outlook(offers, count)
        self.stacks: list[dict[tuple[int, int, Gram], Partial]] = [{} for _ in range(count + 1)]
        self.tops = [-math.inf] * (count + 1)
        self.put(Partial(0.0, 0.0, 0, 0, (START,) * (ORDER - 1), None, ()))

    def put(self, one: Partial) -> None:
        """Keep a partial draft, unless there is a better one that goes on alike."""
        place, key = one.done.bit_count(), (one.done, one.at, one.context)
        if key not in self.stacks[place] or self.stacks[place][key].score < one.score:
            self.stacks[place][key] = one
            self.tops[place] = max(self.tops[place], one.guess)

    def left(self, done: int) -> float:
        """What the tokens that are not `done` may still score."""
        total, begin = 0.0, 0
        while begin < self.count:
            end = begin
            while end < self.count and not done >> end & 1:
                end += 1
            total += self.best[begin][end] if end > begin else 0.0
            begin = max(end, begin + 1)
        return total


class Drafter:
    """Learns from pairs of int arrays; `fixed` are the pieces of tokens that have no other answer, `spelt` what a strange token becomes."""

    def __init__(
        self, book: Phrasebook, fixed: dict[int, Phrase] | None = None, spelt: Callable[[int], Phrase] | None = None
    ) -> None:  # fmt: skip
        self.book, self.fixed, self.spelt = book, fixed or {}, spelt or (lambda token: ())
        self.part = grouped(book.groups, PARTS)
        self.models: dict[int | None, Counts] = {}
        self.size = len({piece for target in book.targets for piece in target}) + 2
        self.made: dict[tuple[Phrase, int | None], list[int]] = {}
        self.heard: dict[tuple[int | None, Gram, Phrase], tuple[float, Gram]] = {}

    def draft(self, source: Sequence[int], without: int | None = None) -> list[int]:
        """Pieces for a source; pairs of the group `without` are not asked."""
        key = (tuple(source), without)
        if key not in self.made:
            for kept in (self.made, self.heard, self.book.known):
                if len(kept) > REMEMBERED:
                    kept.clear()
            self.made[key] = self._drafted(list(source)[:LONGEST], without)
        return self.made[key]

    def _drafted(self, tokens: list[int], without: int | None) -> list[int]:
        part = None if without is None else self.part.get(without)
        board = Board(self._offers(tokens, part, without), len(tokens))
        for stack in board.stacks[:-1]:
            for kept in nlargest(STACK, stack.values(), key=lambda one: one.guess):
                self._grow(kept, board, part)
        end = max(board.stacks[-1].values(), key=lambda one: one.guess, default=None)
        phrases = []
        while end is not None:
            phrases.append(end.words)
            end = end.before
        return [piece for words in reversed(phrases) for piece in words]

    def _offers(self, tokens: list[int], part: int | None, without: int | None) -> Offers:
        found: Offers = defaultdict(list)
        for begin, first in enumerate(tokens):
            for end in range(begin + 1, min(len(tokens), begin + SPAN) + 1):
                phrase = tuple(tokens[begin:end])
                offers = [(0.0, self.fixed[first])] if phrase == (first,) and first in self.fixed else self.book.answers(phrase, without)
                if not offers and end == begin + 1:
                    offers = [(STRANGE, self.spelt(first))]
                if offers:
                    heard = [(score, words, self._said(part, (), words)[0]) for score, words in offers[: 4 * OFFERED]]
                    found[begin].append((end, nlargest(OFFERED, heard, key=lambda one: one[0] + FLUENT * one[2])))
                elif end > begin + 1 and not len(self.book.places(phrase)):
                    break  # no longer one stands anywhere either
        return found

    def _grow(self, kept: Partial, board: Board, part: int | None) -> None:
        """Every phrase that may come next, behind `kept`."""
        gap = (~kept.done & (kept.done + 1)).bit_length() - 1  # the first token without an answer
        for begin in range(gap, min(board.count, gap + REACH + 1)):
            before = kept.score + JUMP * abs(begin - kept.at)
            for end, answers in board.offers.get(begin, ()):
                taken = (1 << end) - (1 << begin)
                if kept.done & taken:
                    break
                done = kept.done | taken
                left, top = board.left(done), board.tops[done.bit_count()] - MARGIN
                for score, words, alone in answers:
                    if before + score + FLUENT * alone + left < top:
                        continue
                    said, context = self._said(part, kept.context, words)
                    if done.bit_count() == board.count:
                        said += self._said(part, context, (END,))[0]
                    total = before + score + FLUENT * said
                    board.put(Partial(total + left, total, done, end, context, kept, words))

    def _said(self, part: int | None, context: Gram, words: Phrase) -> tuple[float, Gram]:
        """Log-probability of pieces after others by the language model that lacks `part`, and what then lies before the next one."""
        key = (part, context, words)
        if key not in self.heard:
            model, total, last = self._model(part), 0.0, context
            for piece in words:
                total += math.log(model.probability(last, piece, DISCOUNT, self.size))
                last = (*last, piece)[-(ORDER - 1) :]
            self.heard[key] = (total, last)
        return self.heard[key]

    def _model(self, part: int | None) -> Counts:
        if part not in self.models:
            rows = zip(self.book.targets, self.book.groups, strict=True)
            self.models[part] = Counts.of([target for target, group in rows if part is None or self.part[group] != part], ORDER)
        return self.models[part]


def _outlook(offers: Offers, count: int) -> list[list[float]]:
    """[begin][end] the best that the tokens between may score, each phrase on its own."""
    best = [[-math.inf] * (count + 1) for _ in range(count + 1)]
    for begin, ends in offers.items():
        for end, answers in ends:
            best[begin][end] = answers[0][0] + FLUENT * answers[0][2]
    for length in range(2, count + 1):
        for begin in range(count - length + 1):
            end = begin + length
            best[begin][end] = max(best[begin][end], *(best[begin][cut] + best[cut][end] for cut in range(begin + 1, end)))
    return best
