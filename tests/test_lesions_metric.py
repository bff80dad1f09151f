"""Lesions found at a number of false positives a slice, against cases counted by hand; AUC of several labels a row."""

import numpy as np
import pytest

from fmhub import DataError
from fmhub.evaluation import evaluate
from fmhub.evaluation.metrics import get
from fmhub.evaluation.metrics.lesions import sensitivity

LABELS = ("none", "lesion")


def pieces(*rows, **more):
    """Rows of (score, slice, lesion or None)."""
    scores = np.array([[1 - score, score] for score, _, _ in rows])
    return {
        "id": np.array([str(row) for row in range(len(rows))], dtype=object),
        "scores": scores,
        "prediction": np.array([LABELS[int(score >= 0.5)] for score, _, _ in rows], dtype=object),
        "target": np.array([LABELS[lesion is not None] for _, _, lesion in rows], dtype=object),
        "whole": np.array([whole for _, whole, _ in rows], dtype=object),
        "lesion": np.array([lesion for _, _, lesion in rows], dtype=object),
        **more,
    }


TWO_SLICES = (
    (0.9, "a", "L1"), (0.2, "a", "L1"), (0.6, "a", "L2"), (0.8, "a", None), (0.7, "a", None),
    (0.3, "b", "L3"), (0.5, "b", None), (0.1, "b", None),
)  # fmt: skip
"""Three lesions, whose best scores are .9, .6 and .3; four healthy pieces, .8, .7, .5 and .1, in two slices."""


@pytest.mark.parametrize(
    ("rate", "found"),
    [
        (0, 1 / 3),  # above .8 lies L1 only
        (0.5, 1 / 3),  # one false positive in two slices: above .7 still only L1
        (1, 2 / 3),  # two of them: above .5 lies L2 as well
        (1.5, 1.0),  # three: above .1 lies L3
        (4, 1.0),  # all may be false positives: no threshold at all
    ],
)
def test_a_point_of_the_curve_by_hand(rate, found):
    assert sensitivity(rate).score(pieces(*TWO_SLICES), LABELS) == pytest.approx(found)


def test_a_healthy_piece_of_the_same_score_keeps_a_lesion_from_being_found():
    rows = ((0.5, "a", "L1"), (0.5, "a", None))
    assert sensitivity(0).score(pieces(*rows), LABELS) == 0
    assert sensitivity(1).score(pieces(*rows), LABELS) == 1


def test_slices_without_a_lesion_count_as_slices():
    rows = ((0.5, "a", "L1"), (0.9, "a", None), (0.1, "b", None))
    assert sensitivity(0.5).score(pieces(*rows), LABELS) == 1  # one false positive in two slices
    assert sensitivity(0.5).score(pieces(*rows[:2]), LABELS) == 0  # one in one is more than a half


def test_the_resamples_are_those_of_repeated_volumes():
    columns = pieces(*TWO_SLICES)
    weigh = sensitivity(1).resample(columns, LABELS)
    first, second = np.array([row[1] == "a" for row in TWO_SLICES]), np.array([row[1] == "b" for row in TWO_SLICES])
    found = weigh(np.stack([2.0 * first, 2.0 * second, 1.0 * first + second]))
    # a twice: two slices, so two false positives, both copies of .8; above .7 lies L1 of L1 and L2. b twice: both copies of .5, all found
    assert found == pytest.approx([1 / 2, 1.0, 2 / 3])


def test_it_is_undefined_without_slices_or_lesions_and_has_no_interval_for_one_volume():
    columns = pieces(*TWO_SLICES)
    plain = {name: values for name, values in columns.items() if name not in ("whole", "lesion")}
    assert np.isnan(sensitivity(1).score(plain, LABELS)) and np.isnan(sensitivity(1).score(pieces((0.5, "a", None)), LABELS))
    one = evaluate({**columns, "group": np.array(["patient"] * 8, dtype=object)}, [sensitivity(1)], LABELS)
    (score,) = one.values()
    assert score["low"] is None and "no interval" in score["note"]
    two = evaluate({**columns, "group": columns["whole"]}, [sensitivity(1)], LABELS)
    (score,) = two.values()
    assert score["low"] == pytest.approx(1 / 2) and score["high"] == 1.0  # as far as one volume alone and the other alone lie apart


def several(targets, scores):
    found = np.empty(len(targets), dtype=object)
    found[:] = targets
    return {"target": found, "prediction": found, "scores": np.array(scores)}


def test_auc_of_several_labels_a_row_is_the_mean_over_labels():
    columns = several([["a"], ["a", "b"], [], ["b"]], [[0.9, 0.2], [0.4, 0.8], [0.5, 0.3], [0.1, 0.1]])
    # a: .9 and .4 against .5 and .1, three of four pairs right; b: .8 and .1 against .2 and .3, two of four
    assert get("auc").score(columns, ("a", "b")) == pytest.approx((0.75 + 0.5) / 2)
    value = get("auc").resample(columns, ("a", "b"))(np.ones((1, 4)))
    assert value == pytest.approx([0.625])


def test_what_cannot_be_scored_as_several_labels_is_refused():
    with pytest.raises(DataError, match="none of a, b"):
        get("auc").score(several([["c"], []], [[0.1, 0.2], [0.1, 0.2]]), ("a", "b"))
    with pytest.raises(DataError, match="must be probabilities"):
        get("auc").score(several([["a"], []], [[1.1, 0.2], [0.1, 0.2]]), ("a", "b"))
