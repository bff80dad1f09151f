"""Answers inside passages: hand-checked questions, characters of tokens, the best pair of ends, SQuAD's metrics, what is refused."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
import torch

from fmhub import DataError, Recipe, heads, stems
from fmhub.backbones.load import load
from fmhub.evaluation import evaluate
from fmhub.evaluation.metrics.answers import exact, folded, overlap
from fmhub.heads.ends import Found
from fmhub.task import Known
from fmhub.training import ranks
from fmhub.training.loop import fit, predict
from fmhub.training.network import Network

ROWS = [
    ("the day ?", "It was a Good day , not a bad film .", ["Good day"], None),
    ("they ?", "We   read the red book . They read the blue book .", ["blue book", "the blue book"], None),
    ("was it red ?", "red film , red news , red day", ["red"], 11),
    ("news ?", "The news was awful", ["awful"], 13),
]
"""Question, passage, answers, and where the first one stands: each looked at by hand."""
PLACES = [(9, 17), (39, 48), (11, 14), (13, 18)]


def table(rows=ROWS) -> pa.Table:
    questions, passages, targets, starts = zip(*rows, strict=True)
    columns = {
        "question": questions,
        "passage": passages,
        "target": pa.array(targets, pa.list_(pa.string())),
        "start": pa.array(starts, pa.int64()),
    }
    return pa.table({"id": [f"r{n}" for n in range(len(rows))], **columns})


def network(tiny, **changes) -> Network:
    recipe, known = Recipe(**{"length": 48, "dropout": 0.0, **changes}), Known(train=table())
    return Network(load(tiny, sha256="0" * 64), stems.Excerpt().fit(known), heads.Span().fit(known, recipe), recipe, known)


def test_answers_stand_where_they_were_found_by_hand():
    spans = heads.Span().targets(table())["span"].tolist()
    assert spans == [list(place) for place in PLACES]
    for (_, passage, answers, _), (start, end) in zip(ROWS, spans, strict=True):
        assert passage[start:end] == answers[0]
    absent = heads.Span().targets(table([("a ?", "b c", ["d"], 0)]))["span"].tolist()
    assert absent == [[-1, -1]]


def test_tokens_know_their_characters_and_questions_have_none(tiny):
    net = network(tiny)
    part = net.prepare(table())
    batch = net.stem_spec.batch(part.encoded, np.arange(4), random=None, strength=0.0)
    tokenizer = net.backbone.tokenizer()
    for row, (question, passage, _, _) in enumerate(ROWS):
        own = batch["starts"][row] >= 0
        words = [
            passage[start:end] for start, end in zip(batch["starts"][row][own].tolist(), batch["ends"][row][own].tolist(), strict=True)
        ]
        assert words == passage.replace("  ", " ").split() or words == [w for w in passage.split() if w]
        first = 2 + len(tokenizer.encode(question, add_special_tokens=False).ids)
        assert int(own.nonzero()[0]) == first and batch["token_type_ids"][row][first] == 1
        assert "".join(map(chr, batch["letters"][row][: len(passage)].tolist())) == passage


def test_augmentation_masks_words_of_both_sides_and_never_the_tokenizers_own(tiny):
    net, words = network(tiny), 500
    part = net.prepare(table([("was it red ?", "red film , red news , red day", ["red"], 11)] * words))
    clean, noisy, again = (
        net.stem_spec.batch(part.encoded, np.arange(words), random=random, strength=0.5)
        for random in (None, *(np.random.default_rng(4) for _ in range(2)))
    )
    hidden = clean["input_ids"] != noisy["input_ids"]
    assert torch.equal(noisy["input_ids"], again["input_ids"]) and set(noisy["input_ids"][hidden].tolist()) == {4}
    own = ~torch.isin(clean["input_ids"], torch.tensor([net.backbone.tokenizer().token_to_id(mark) for mark in ("[CLS]", "[SEP]")]))
    assert (~own).sum() == 3 * words and not hidden[~own].any()
    for side in (clean["starts"] >= 0, (clean["starts"] < 0) & own):
        assert float(hidden[side].float().mean()) == pytest.approx(0.15, abs=0.02)
    assert all(torch.equal(clean[name], noisy[name]) for name in clean if name != "input_ids"), "places and letters stay"


def test_the_hand_checked_set_is_learnt_by_heart(tiny, tmp_path):
    net = network(tiny, epochs=80, batch=4, lr=2e-2)
    part = net.prepare(table())
    fit(net, part, None, accelerator=ranks.accelerator(), checkpoint=tmp_path / "s.safetensors", log=lambda *_: None)
    found = predict(net, net.prepare(table(), targets=False), ranks.accelerator())
    assert found["prediction"] == [answers[0] for _, _, answers, _ in ROWS]
    assert all(0.3 < sure <= 1 for sure in found["confidence"])
    scores = evaluate({"id": list("abcd"), "target": [row[2] for row in ROWS], **found}, ["answer_f1", "exact_match"])
    assert scores["answer_f1"]["value"] == scores["exact_match"]["value"] == 1


def test_the_best_pair_of_ends_is_that_of_all_pairs():
    generator = torch.Generator().manual_seed(0)
    first, last = (torch.randn(5, 9, generator=generator).log_softmax(1) for _ in range(2))
    starts = torch.arange(0, 18, 2).repeat(5, 1)
    letters = torch.tensor([[ord("a") + n for n in range(18)]] * 5)
    found = Found(first, last, starts, starts + 1, letters, longest=4).best()
    for row in range(5):
        pairs = [(a, b) for a, b in itertools.product(range(9), repeat=2) if 0 <= b - a < 4]
        a, b = max(pairs, key=lambda pair: float(first[row, pair[0]] + last[row, pair[1]]))
        assert found["prediction"][row] == "abcdefghijklmnopqr"[2 * a : 2 * b + 1]
        assert found["confidence"][row] == pytest.approx(float((first[row, a] + last[row, b]).exp()), rel=1e-5)


def test_an_answer_beyond_the_cut_teaches_nothing_and_cuts_are_counted(tiny):
    rows = [("they ?", "red " * 40 + "blue", ["blue"], None), ROWS[3]]
    net = network(tiny, length=16)
    part = net.prepare(table(rows))
    assert part.encoded.truncated == 1 and part.encoded.lengths.tolist()[0] == 16
    outputs = net.outputs(part, np.arange(2))
    _, weight = net.head_spec.loss(outputs, {"span": torch.from_numpy(part.targets["span"])}, net.recipe)
    assert float(weight) == 1
    alone = net.outputs(part, np.arange(1))
    loss, weight = net.head_spec.loss(alone, {"span": torch.from_numpy(part.targets["span"][:1])}, net.recipe)
    assert float(loss.detach()) == 0 and float(weight) == 1
    loss.backward()


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ((" ", "b", ["b"], 0), "'question' is empty"),
        (("a", "", ["b"], 0), "'passage' is empty"),
        (("a", "CafÃ©", ["b"], 0), "wrong encoding"),
        (("red " * 60, "b", ["b"], 0), "no room for the passage"),
    ],
)
def test_rows_that_cannot_be_read_are_named(tiny, row, says):
    with pytest.raises(DataError, match=rf"Row r1: .*{says}"):
        stems.Excerpt().encode(table([ROWS[0], row]), load(tiny, sha256="0" * 64), Recipe(length=48))


@pytest.mark.parametrize("answers", [[], [" "], None])
def test_a_target_is_a_list_of_answers(answers):
    with pytest.raises(DataError, match="Row r0: the target is"):
        heads.Span().targets(table([("a", "b", answers, 0)]))


@pytest.mark.parametrize(
    ("said", "true", "same", "f1"),
    [
        ("The Tower.", "tower", 1, 1),
        ("a big tower", "the tower", 0, 2 / 3), ("x", "y", 0, 0), ("", "", 1, 1), ("the", "a", 1, 1), ("", "y", 0, 0),
        ("to be to", "to to be or", 0, 6 / 7),
    ],
)  # fmt: skip
def test_answers_are_compared_as_squad_compares_them(said, true, same, f1):
    assert exact(said, true) == same and overlap(said, true) == pytest.approx(f1)


def test_the_best_of_several_answers_counts_and_wrong_columns_are_named():
    columns = {"id": ["a", "b"], "prediction": ["the blue book", "x"], "target": [["red", "blue book"], ["y z", "x y z"]]}
    found = evaluate(columns, ["answer_f1", "exact_match"])
    assert found["answer_f1"]["value"] == pytest.approx((1 + 0.5) / 2) and found["exact_match"]["value"] == 0.5
    assert folded("  An  Apple, a day! ") == "apple day"
    with pytest.raises(DataError, match="Row 1"):
        evaluate({**columns, "target": [["a"], []]}, ["exact_match"])
