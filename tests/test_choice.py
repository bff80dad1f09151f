"""The right one of several answers: cosines beside numpy's, rows of different sizes, what is learnt, what is refused."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from fmhub import DataError, Recipe, heads, stems
from fmhub.backbones.load import load
from fmhub.task import Known, Reads
from fmhub.training import ranks
from fmhub.training.loop import fit, predict
from fmhub.training.network import Network

ROWS = [
    ("good day", ["bad film", "happy day news", "red"], "1"),
    ("sad book", ["awful the book", "blue"], "0"),
    ("the news", ["red", "we", "fine film it", "bad"], "2"),
    ("they", ["blue", "i was not very happy"], "1"),
]


def table(rows=ROWS) -> pa.Table:
    questions, candidates, targets = zip(*rows, strict=True)
    kind = pa.list_(pa.string())
    return pa.table(
        {"id": [f"r{n}" for n in range(len(rows))], "question": questions, "candidates": pa.array(candidates, kind), "target": targets}
    )


def network(tiny, **changes) -> Network:
    recipe, known = Recipe(**{"length": 16, "dropout": 0.0, **changes}), Known(train=table())
    head = heads.Choice().fit(known, recipe)
    return Network(load(tiny, sha256="0" * 64), stems.Choices().fit(known), head, recipe, known)


def test_the_order_is_that_of_cosines_of_texts_read_alone(tiny):
    net = network(tiny)
    found = predict(net, net.prepare(table(), targets=False), ranks.accelerator())

    def vector(text: str) -> np.ndarray:
        ids = load(tiny, sha256="0" * 64).tokenizer().encode(text).ids
        with torch.no_grad():
            states = net.encoder({"input_ids": torch.tensor([ids])}, Reads("mean")).x[0].numpy()
        return states / np.linalg.norm(states)

    for row, (question, answers, _) in enumerate(ROWS):
        cosines = [float(vector(question) @ vector(answer)) for answer in answers]
        order = np.argsort(-np.array(cosines), kind="stable")
        assert found["prediction"][row] == [str(place) for place in order]
        assert found["readable"][row] == [answers[place] for place in order]
        np.testing.assert_allclose(found["similarity"][row], np.array(cosines)[order], atol=1e-5)


def test_right_answers_are_learnt_against_all_others_of_the_batch(tiny, tmp_path):
    net = network(tiny, epochs=40, batch=4, lr=1e-2)
    part = net.prepare(table())
    outputs = net.outputs(part, np.arange(4))
    loss, weight = net.head_spec.loss(outputs, {"place": torch.from_numpy(part.targets["place"])}, net.recipe)
    vectors, right = outputs.answers, [1, 3, 7, 10]
    logits = outputs.cosines.detach() * outputs.scale.detach()
    expected = sum(float(torch.logsumexp(logits[row], 0) - logits[row, place]) for row, place in enumerate(right))
    assert float(weight) == 4 and float(loss.detach()) == pytest.approx(expected, rel=1e-5) and len(vectors) == 11
    fit(net, part, None, accelerator=ranks.accelerator(), checkpoint=tmp_path / "s.safetensors", log=lambda *_: None)
    found = predict(net, net.prepare(table(), targets=False), ranks.accelerator())
    assert [ranking[0] for ranking in found["prediction"]] == [target for *_, target in ROWS]


def test_an_answer_that_is_right_twice_in_a_batch_is_not_held_against_itself(tiny):
    rows = [("good day", ["fine", "bad"], "0"), ("happy day", ["sad", "fine"], "1")]
    net = network(tiny)
    part = net.prepare(table(rows))
    outputs = net.outputs(part, np.arange(2))
    loss, _ = net.head_spec.loss(outputs, {"place": torch.from_numpy(part.targets["place"])}, net.recipe)
    logits = outputs.cosines.detach() * outputs.scale.detach()
    keep = [[0, 1, 2], [1, 2, 3]]
    expected = sum(float(torch.logsumexp(logits[row, keep[row]], 0) - logits[row, right]) for row, right in enumerate((0, 3)))
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ((" ", ["a", "b"], "0"), "'question' is empty"),
        (("good", ["a"], "0"), "at least two different"),
        (("good", ["a", "a"], "0"), "at least two different"),
        (("good", ["a", " "], "0"), "'candidates' is empty"),
        (("good", ["a", "CafÃ©"], "0"), "wrong encoding"),
    ],
)
def test_rows_that_cannot_be_read_are_named(tiny, row, says):
    with pytest.raises(DataError, match=rf"Row r1: .*{says}"):
        stems.Choices().encode(table([ROWS[0], row]), load(tiny, sha256="0" * 64), Recipe())


@pytest.mark.parametrize("target", ["2", "-1", "x", ""])
def test_a_target_is_the_number_of_a_candidate(target):
    with pytest.raises(DataError, match=r"Row r0: the target is .*0 to 1"):
        heads.Choice().targets(table([("good", ["a", "b"], target)]))


def test_long_texts_are_cut_and_counted(tiny):
    encoded = stems.Choices().encode(table([("good " * 30, ["a " * 30, "b"], "0"), ROWS[0]]), load(tiny, sha256="0" * 64), Recipe(length=8))
    assert encoded.truncated == 1 and encoded.lengths.tolist() == [24, 4 * 5]
