"""The lexicon as a baseline: tuned on validation only, scores that agree with the prediction."""

import numpy as np
import pyarrow as pa
import pytest
from fmhub_text.vader import Vader, VaderScale, best_threshold, compound
from hypothesis import given
from hypothesis import strategies as st

from fmhub import DataError, heads
from fmhub.task import Setting

GOOD = ["I love this, it is great!", "what a wonderful happy day", "brilliant and charming", "nice work, thanks"]
BAD = ["I hate this, it is awful!", "what a horrible sad day", "stupid and boring", "bad work, shame"]


def table(labels=("negative", "positive")):
    texts = [text for pair in zip(BAD, GOOD, strict=True) for text in pair]
    return pa.table({"id": [str(i) for i in range(8)], "text": texts, "target": [labels[i % 2] for i in range(8)]})


def test_it_tells_clear_texts_apart_and_scores_agree_with_the_label():
    head = heads.Classification(labels=("negative", "positive"))
    found = Vader().fit(Setting(train=table(), validation=table(), head=head, seed=0)).predict(table().drop_columns(["target"]))
    assert found["prediction"] == ["negative", "positive"] * 4
    scores = np.array(found["scores"])
    assert scores.sum(1) == pytest.approx(1)
    assert [head.labels[i] for i in scores.argmax(1)] == found["prediction"]


def test_labels_in_the_other_order_are_found_from_the_training_rows():
    rows = table(("unhappy", "happy"))
    found = Vader().fit(Setting(train=rows, validation=rows, head=heads.Classification(), seed=0)).predict(rows)
    assert found["prediction"] == rows["target"].to_pylist()


def test_three_labels_are_refused():
    rows = pa.table({"id": ["a", "b", "c"], "text": ["x", "y", "z"], "target": ["1", "2", "3"]})
    with pytest.raises(DataError, match="two labels apart, not 3"):
        Vader().fit(Setting(train=rows, validation=rows, head=heads.Classification(), seed=0))


def test_the_threshold_comes_from_validation_alone():
    validation = pa.table({"id": ["a", "b"], "text": ["I love it, great, wonderful", "nice"], "target": ["positive", "negative"]})
    fitted = Vader().fit(Setting(train=table(), validation=validation, head=heads.Classification(labels=("negative", "positive"))))
    low, high = compound(validation, "text")[::-1]
    assert low < fitted.threshold < high


def test_the_line_recovers_a_linear_scale():
    rows = table()
    rows = rows.set_column(2, "target", pa.array(compound(rows, "text") * 3 - 0.5))
    found = VaderScale().fit(Setting(train=rows, validation=rows, head=heads.Regression(), seed=0)).predict(rows.drop_columns(["target"]))
    assert found["prediction"] == pytest.approx(rows["target"].to_numpy())


@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=1, max_size=30))
def test_no_cut_tells_more_rows_rightly_than_the_best_one(pairs):
    scores, positive = np.array([float(score) for score, _ in pairs]), np.array([truth for _, truth in pairs])
    cut = best_threshold(scores, positive)
    right = ((scores >= cut) == positive).sum()
    assert right == max(((scores >= other / 2) == positive).sum() for other in range(-12, 13))
