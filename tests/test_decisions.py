"""Costs and net benefit, by hand."""

import numpy as np
import pytest

from fmhub.evaluation import evaluate
from fmhub.evaluation.metrics.decisions import cost, net_benefit

TABLE = {
    "id": np.array(["a", "b", "c", "d"], dtype=object),
    "target": np.array(["bad", "bad", "good", "good"], dtype=object),
    "scores": np.array([[0.9, 0.1], [0.7, 0.3], [0.8, 0.2], [0.95, 0.05]]),
}
LABELS = ("good", "bad")


def test_a_decision_is_cut_where_costs_are_least():
    # from 1/6 on an application is refused: a is missed (5), b is found, c is a false alarm (1), d is granted
    assert cost(5).score(TABLE, LABELS) == pytest.approx(6 / 4)
    # from 1/2 on: both bad ones are missed, at 1 each
    assert cost(1).score(TABLE, LABELS) == pytest.approx(2 / 4)
    found = evaluate(TABLE, [cost(5)], LABELS)["cost_5"]
    assert found["low"] <= found["value"] <= found["high"] and found["n"] == 4


def test_of_three_labels_there_is_no_second_one():
    three = {**TABLE, "scores": np.full((4, 3), 1 / 3)}
    found = evaluate(three, [cost(5)], ("good", "bad", "ugly"))["cost_5"]
    assert found["value"] is None and found["note"] == "undefined on these rows"


def test_net_benefit_by_hand():
    true = np.array([True, True, False, False])
    scores = np.array([0.1, 0.3, 0.2, 0.05])
    found = net_benefit(scores, true, np.array([0.15, 0.25]))
    assert found == pytest.approx([1 / 4 - 1 / 4 * 0.15 / 0.85, 1 / 4])
    always = net_benefit(np.ones(4), true, np.array([0.5]))
    assert always == pytest.approx([0.0])
