"""Agreement of whole grades against scikit-learn, and a scale that is learnt."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmhub import DataError, heads
from fmhub.evaluation import metrics
from fmhub.recipe import Recipe
from fmhub.task import Known

KAPPA = metrics.get("kappa_quadratic")


@settings(max_examples=80, deadline=None)
@given(st.integers(2, 60), st.integers(1, 9), st.integers(-4, 4), st.floats(0, 3), st.integers(0, 2**32 - 1))
def test_kappa_is_scikit_learns_and_its_sums_give_it(n, scale, start, noise, seed):
    from sklearn.metrics import cohen_kappa_score

    random = np.random.default_rng(seed)
    target = random.integers(start, start + scale + 1, n).astype(float)
    prediction = np.clip(target + noise * random.normal(size=n), start, start + scale)
    table = {"target": target, "prediction": prediction}
    whole = np.floor(prediction + 0.5)
    if len({*target, *whole}) < 2:
        assert np.isnan(KAPPA.score(table, None))
        return
    names = np.arange(start, start + scale + 1)
    wanted = cohen_kappa_score(target.astype(int), whole.astype(int), labels=names, weights="quadratic")
    assert KAPPA.score(table, None) == pytest.approx(wanted, abs=1e-9)
    counts = random.integers(0, 3, n)
    if len({*target[counts > 0], *whole[counts > 0]}) > 1:
        drawn = {name: np.repeat(values, counts) for name, values in table.items()}
        assert float(KAPPA.combine(counts @ KAPPA.statistics(table, None))) == pytest.approx(KAPPA.score(drawn, None), abs=1e-9)


def test_halves_are_rounded_up_and_edges_are_what_they_are():
    def score(target, prediction):
        return KAPPA.score({"target": np.array(target, float), "prediction": np.array(prediction, float)}, None)

    assert score([1, 2, 3], [0.5, 1.5, 2.5]) == 1
    assert score([1, 2, 3], [2, 2, 2]) == 0
    assert score([1, 3], [3, 1]) == -1
    assert np.isnan(score([2, 2], [2.1, 1.9]))


def test_a_scale_is_the_whole_numbers_around_the_training_targets():
    def table(*values):
        return pa.table({"id": [str(row) for row in range(len(values))], "target": pa.array(values, pa.float64())})

    head = heads.Regression(whole=True).fit(Known(train=table(1.2, 3.0, 5.5)), Recipe())
    assert (head.low, head.high) == (1, 6)
    with pytest.raises(DataError, match=r"Row 1: target 7\.0 is not a number from 1 to 6"):
        head.targets(table(2.0, 7.0))
    declared = heads.Regression(low=0, whole=True).fit(Known(train=table(1.2, 3.0)), Recipe())
    assert (declared.low, declared.high) == (0, 3)
