"""Pictures of likelihoods, rankings and found answers: drawn of what the columns hold, with the numbers that are true."""

from __future__ import annotations

import math
from pathlib import Path

from fmhub.evaluation.metrics.columns import columns
from fmhub.report.pictures import PICTURES
from fmhub.report.run import Run
from fmhub.report.told import answers, standing, surprise


def run(**given) -> Run:
    rows = len(given["target"])
    more = {"id": [f"r{n}" for n in range(rows)], "input": [f"<b>in {n}" for n in range(rows)]}
    return Run(Path(), {}, {"head": {}}, [], columns({**more, **given}))


def drawn(one: Run) -> set:
    return {picture.draw for picture in PICTURES if picture.needs and picture.needs <= one.holds}


def test_surprise_is_bits_a_token():
    one = run(prediction=["a", "b", "c"], target=["x", "y", "z"], nll=[math.log(2) * 6, math.log(2) * 2, math.log(2)], tokens=[2, 2, 1])
    assert surprise in drawn(one) and standing not in drawn(one) and answers not in drawn(one)
    page = str(surprise(one))
    assert "at most 1.00 bits a token: a perplexity of 2.0" in page and "3.00" in page and "&lt;b&gt;in 0" in page and "<b>in" not in page
    assert page.index("&lt;b&gt;in 0") < page.index("&lt;b&gt;in 1")


def test_the_place_of_the_right_one_is_counted():
    said = [["0", "1"], ["1", "0"], ["1", "0"], ["1", "0"]]
    one = run(prediction=said, target=["0", "0", "1", "7"], readable=[[f"text {name}" for name in row] for row in said])
    assert standing in drawn(one) and answers not in drawn(one)
    page = str(standing(one))
    assert "50.0%" in page and "25.0%" in page and "further down or absent" in page
    assert "text 1" in page and "text 0" in page and "in 1" in page and "in 3" not in page


def test_answers_that_share_least_come_first_and_right_ones_are_left_out():
    one = run(prediction=["the cat", "dog", "big cat"], target=[["cat"], ["bird", "fish"], ["cat"]])
    assert answers in drawn(one) and standing not in drawn(one)
    page = str(answers(one))
    assert page.index("bird / fish") < page.index("big cat") and "in 0" not in page
    assert answers(run(prediction=["cat"], target=[["cat"]])) is None


def test_other_columns_draw_none_of_them():
    assert not {surprise, standing, answers} & drawn(run(prediction=["a", "b"], target=["a", "b"]))
