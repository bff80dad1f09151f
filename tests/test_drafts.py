"""Drafts from phrases: links, phrases without a pair's own group, what is put together, and where the network begins."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from fmhub import heads, stems
from fmhub.backbones.load import load
from fmhub.heads.alignment import aligned, begins, merged
from fmhub.heads.drafter import Drafter
from fmhub.heads.grams import END, START, Counts
from fmhub.heads.phrasebook import Phrasebook
from fmhub.heads.pieces import Pieces
from fmhub.recipe import Lora, Recipe
from fmhub.stems.marks import MARK, copied
from fmhub.task import Known
from fmhub.training.loop import predict
from fmhub.training.network import Network
from fmhub.training.ranks import accelerator

THE, NOUNS, SIGNS = 1, (2, 3, 4, 5), (6, 7, 8, 9)


def answer(noun: int, sign: int) -> list[int]:
    """The sign behind the noun, as in French."""
    return [THE + 10, noun + 10, sign + 10]


PAIRS = [([THE, sign, noun], answer(noun, sign)) for noun in NOUNS for sign in SIGNS]
PLAIN = [([THE, noun], [THE + 10, noun + 10]) for noun in NOUNS]


def learnt(pairs: list[tuple[list[int], list[int]]]) -> Phrasebook:
    sources, targets = ([np.array(side) for side in sides] for sides in zip(*pairs, strict=True))
    return Phrasebook(sources, targets, aligned(sources, targets), range(len(pairs)))


def test_links_cross_where_words_change_places():
    sources, targets = ([np.array(side) for side in sides] for sides in zip(*PAIRS, *PLAIN, strict=True))
    assert aligned(sources, targets)[: len(PAIRS)] == [[(0, 0), (1, 2), (2, 1)]] * len(PAIRS)


def test_what_both_directions_say_grows_by_neighbours_and_lone_words():
    assert merged({(0, 0), (1, 1)}, {(0, 0), (1, 1)}) == {(0, 0), (1, 1)}
    assert merged({(0, 0), (0, 1)}, {(0, 0)}) == {(0, 0), (0, 1)}
    assert merged({(0, 0), (3, 3)}, {(0, 0)}) == {(0, 0), (3, 3)}
    assert merged({(0, 0), (3, 0)}, {(0, 0)}) == {(0, 0)}


def test_words_that_begin_alike_are_one_for_links():
    assert begins(["▁Ajouter", "ajoute", "##ajouts", "autre", "", ""]).tolist() == [0, 0, 0, 3, 4, 5]


def test_phrases_are_answered_as_they_were_and_a_group_can_be_left_out():
    book = learnt([*PAIRS, ([20, 21], [30, 31])])
    assert book.answers((THE, 6, 2))[0][1] == (11, 12, 16)
    assert (11, 12, 16) not in [words for _, words in book.answers((THE, 6, 2), without=0)]
    assert book.answers((20, 21))[0][1] == (30, 31) and book.answers((20, 21), without=len(PAIRS)) == []
    assert book.answers((2, 6)) == [] and book.group([20, 21]) == len(PAIRS) and book.group([20]) is None


def talk(random: np.random.Generator) -> tuple[list[int], list[int]]:
    """Nouns 1 to 8, half of them with a sign (11 to 14) before, which is answered behind, and a joint (21, 22) between."""
    source, target = [], []
    for place in range(int(random.integers(1, 4))):
        joint, noun = [int(random.integers(21, 23))] * (place > 0), int(random.integers(1, 9))
        sign = [int(random.integers(11, 15))] * int(random.integers(0, 2))
        source += [*joint, *sign, noun]
        target += [*joint, noun, *sign]
    return source, [piece + 100 for piece in target]


def test_unseen_combinations_are_put_together_and_words_change_places():
    random = np.random.default_rng(0)
    pairs, held = [talk(random) for _ in range(150)], [talk(random) for _ in range(40)]
    known = [source for source, _ in pairs]
    unseen = [(source, target) for source, target in held if source not in known and source != [one - 100 for one in target]]
    drafter = Drafter(learnt(pairs))
    right = [drafter.draft(source) == target for source, target in unseen]
    assert len(right) > 15 and np.mean(right) > 0.9


def test_a_training_pair_is_drafted_as_if_it_were_not_there():
    book = learnt([*PAIRS, ([THE, 20, 2], [11, 12, 30])])
    drafter = Drafter(book, {}, lambda token: (99,))
    own = len(PAIRS)
    assert drafter.draft([THE, 20, 2]) == [11, 12, 30]
    assert 30 not in drafter.draft([THE, 20, 2], own) and 99 in drafter.draft([THE, 20, 2], own)


def test_marks_have_one_answer_and_strange_tokens_are_spelt():
    drafter = Drafter(learnt(PAIRS), {50: (3,)}, lambda token: (token + 100,))
    assert sorted(drafter.draft([THE, 6, 2, 50, 77])) == sorted([11, 12, 16, 3, 177])
    assert drafter.draft([]) == []


def test_probabilities_of_what_follows_sum_to_one():
    counts = Counts.of([[1, 2, 3], [1, 2], [2, 3, 1]], 3)
    for context in ((), (START, START), (1, 2), (9,), (2,)):
        assert sum(counts.probability(context, token, 0.75, 4) for token in (1, 2, 3, END)) == pytest.approx(1)


def test_training_begins_where_the_draft_is_written_as_it_is(tiny):
    nouns, signs = {"day": "jour", "film": "film", "book": "livre"}, {"good": "bon", "bad": "mauvais", "fine": "beau", "sad": "triste"}
    rows = [(f"the {sign} {noun} of %1", f"le {signs[sign]} {nouns[noun]} de %1") for noun in nouns for sign in signs]
    table = pa.table({"id": [f"r{row}" for row in range(len(rows))], "source": [a for a, _ in rows], "target": [b for _, b in rows]})
    known, recipe = Known(train=table.slice(1)), Recipe(lora=Lora(layers="last:1"))
    stem, head = stems.Passage(kept=12).fit(known), heads.Translation(pieces=80, depth=1, longest=16, kept=16, beams=2).fit(known, recipe)
    network = Network(load(tiny, sha256="0" * 64), stem, head, recipe, known)
    part = network.prepare(table, targets=False)
    batch = stem.batch(part.encoded, np.arange(len(table)), random=None, strength=0.0)
    pieces = Pieces(head.vocabulary)
    drafts = [[piece for piece in row if piece > 2] for row in network.head.drafts(batch)[0].tolist()]
    written = [pieces.write(draft, marks) for draft, marks in zip(drafts, copied(batch), strict=True)]
    said = predict(network, part, accelerator("no"))["prediction"]
    assert said == written and said[0] == rows[0][1] and all(MARK.findall(text) == ["%1"] for text in said)
    network.head.train()
    _, barred = network.head.drafts({name: tensor[1:2] for name, tensor in batch.items()})
    assert barred.tolist() == [[True] + [False] * 10] and network.stem.nearest(batch, 1, barred)[0][1] != 0
