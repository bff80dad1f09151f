"""Every metric against scikit-learn or scipy, its sums against its value, and its edges."""

from __future__ import annotations

import socket
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmhub.errors import DataError, UsageError
from fmhub.evaluation import metrics
from fmhub.evaluation.metrics.columns import columns, take

LABELS = ("a", "b", "c")
RULES = settings(max_examples=60, deadline=None)


@st.composite
def label_tables(draw, labels=LABELS, least=2):
    n = draw(st.integers(least, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores = random.dirichlet(np.full(len(labels), draw(st.sampled_from([0.2, 1.0, 5.0]))), size=n)
    if draw(st.booleans()):
        scores = np.round(scores, 1) + 1e-3  # ties
        scores /= scores.sum(1, keepdims=True)
    target = random.choice(labels, size=n)
    return {"prediction": np.array(labels)[scores.argmax(1)].astype(object), "scores": scores, "target": target.astype(object)}


@st.composite
def number_tables(draw):
    n = draw(st.integers(3, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale, shift = draw(st.sampled_from([1e-6, 1.0, 1e6])), draw(st.sampled_from([0.0, 100.0]))
    target = random.normal(size=n)
    prediction = target * draw(st.floats(-2, 2)) + random.normal(size=n)
    if draw(st.booleans()):
        target, prediction = np.round(target), np.round(prediction)  # ties
    return {"target": (target + shift) * scale, "prediction": (prediction + shift) * scale}


def drawn(metric, table, labels, counts):
    """The value of a resample by the fast path."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if metric.statistics:
            return float(metric.combine(counts @ metric.statistics(table, labels)))
        return float(metric.resample(table, labels)(counts[None])[0])


def repeated(metric, table, labels, counts):
    """The same by copying rows."""
    return metric.score(take(table, np.repeat(np.arange(len(counts)), counts.astype(int))), labels)


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "f1_macro", "mcc", "auc", "log_loss", "brier", "ece"])
@RULES
@given(table=label_tables(), seed=st.integers(0, 2**32 - 1))
def test_label_metric_from_sums_equals_metric_of_copied_rows(name, table, seed):
    metric, n = metrics.get(name), len(table["target"])
    counts = np.bincount(np.random.default_rng(seed).integers(0, n, n), minlength=n).astype(float)
    for weights in (np.ones(n), counts):
        value = repeated(metric, table, LABELS, weights)
        assert drawn(metric, table, LABELS, weights) == pytest.approx(value, abs=1e-9, nan_ok=True)
        assert np.isnan(value) or metric.low <= value <= metric.high


@pytest.mark.parametrize("name", ["mae", "rmse", "r2", "pearson", "spearman"])
@RULES
@given(table=number_tables(), seed=st.integers(0, 2**32 - 1))
def test_number_metric_from_sums_equals_metric_of_copied_rows(name, table, seed):
    metric, n = metrics.get(name), len(table["target"])
    counts = np.bincount(np.random.default_rng(seed).integers(0, n, n), minlength=n).astype(float)
    for weights in (np.ones(n), counts):
        value = repeated(metric, table, None, weights)
        assert drawn(metric, table, None, weights) == pytest.approx(value, rel=1e-6, abs=1e-9, nan_ok=True)
        assert np.isnan(value) or metric.low <= value <= metric.high


@RULES
@given(table=label_tables())
def test_label_metrics_equal_scikit_learn(table):
    from sklearn import metrics as sk

    target, prediction, scores = table["target"].astype(str), table["prediction"].astype(str), table["scores"]
    assert metrics.get("accuracy").score(table, LABELS) == pytest.approx(sk.accuracy_score(target, prediction))
    assert metrics.get("f1_macro").score(table, LABELS) == pytest.approx(sk.f1_score(target, prediction, average="macro", zero_division=0))
    assert metrics.get("log_loss").score(table, LABELS) == pytest.approx(sk.log_loss(target, scores, labels=list(LABELS)))
    if len(set(target)) == 3:
        # scikit-learn refuses a label that no row has; then the others are averaged here.
        expected = sk.roc_auc_score(target, scores, multi_class="ovr", average="macro", labels=list(LABELS))
        assert metrics.get("auc").score(table, LABELS) == pytest.approx(expected)
    if len(set(target)) > 1:
        assert metrics.get("mcc").score(table, LABELS) == pytest.approx(sk.matthews_corrcoef(target, prediction))
        if set(prediction) <= set(target):
            assert metrics.get("balanced_accuracy").score(table, LABELS) == pytest.approx(sk.balanced_accuracy_score(target, prediction))


@RULES
@given(table=label_tables(labels=("no", "yes"), least=4))
def test_binary_metrics_take_the_second_label_as_positive(table):
    from sklearn import metrics as sk

    labels, target = ("no", "yes"), table["target"].astype(str)
    assert metrics.get("f1").score(table, labels) == pytest.approx(
        sk.f1_score(target, table["prediction"].astype(str), pos_label="yes", zero_division=0)
    )
    assert drawn(metrics.get("f1"), table, labels, np.ones(len(target))) == pytest.approx(metrics.get("f1").score(table, labels))
    if len(set(target)) == 2:
        assert metrics.get("auc").score(table, labels) == pytest.approx(sk.roc_auc_score(target == "yes", table["scores"][:, 1]))
        expected = sk.brier_score_loss(target == "yes", table["scores"][:, 1])
        assert metrics.get("brier").score(table, labels) == pytest.approx(expected)


@RULES
@given(table=number_tables())
def test_number_metrics_equal_scikit_learn_and_scipy(table):
    from scipy import stats
    from sklearn import metrics as sk

    target, prediction = table["target"], table["prediction"]
    assert metrics.get("mae").score(table, None) == pytest.approx(sk.mean_absolute_error(target, prediction))
    assert metrics.get("rmse").score(table, None) == pytest.approx(sk.root_mean_squared_error(target, prediction))
    if np.ptp(target) and np.ptp(prediction):
        assert metrics.get("r2").score(table, None) == pytest.approx(sk.r2_score(target, prediction))
        assert metrics.get("pearson").score(table, None) == pytest.approx(stats.pearsonr(target, prediction).statistic, abs=1e-9)
        assert metrics.get("spearman").score(table, None) == pytest.approx(stats.spearmanr(target, prediction).statistic, abs=1e-9)


def test_calibration_error_by_hand():
    scores = np.array([[0.1, 0.9], [0.1, 0.9], [0.4, 0.6], [0.4, 0.6]])
    table = {"scores": scores, "target": np.array(["y", "n", "y", "y"], dtype=object)}
    # bin of .9: confidence .9, half right; bin of .6: confidence .6, all right
    assert metrics.get("ece").score(table, ("n", "y")) == pytest.approx((2 * 0.4 + 2 * 0.4) / 4)


def one_class(prediction="a"):
    scores = np.tile([0.6, 0.3, 0.1], (4, 1))
    return {"prediction": np.array([prediction] * 4, dtype=object), "target": np.array(["a"] * 4, dtype=object), "scores": scores}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("accuracy", 1),
        ("balanced_accuracy", 1),
        ("f1_macro", 1),
        ("mcc", 0),
        ("auc", float("nan")),
        ("log_loss", -np.log(0.6)),
        ("ece", 0.4),
    ],
)
def test_one_class_only(name, value):
    assert metrics.get(name).score(one_class(), LABELS) == pytest.approx(value, nan_ok=True)
    assert drawn(metrics.get(name), one_class(), LABELS, np.ones(4)) == pytest.approx(value, nan_ok=True)


@pytest.mark.parametrize(("name", "value"), [("r2", 0), ("pearson", 0), ("spearman", 0)])
def test_constant_predictions_order_nothing(name, value):
    table = {"prediction": np.full(4, 2.5), "target": np.array([1.0, 2, 3, 4])}
    assert metrics.get(name).score(table, None) == pytest.approx(value)
    assert drawn(metrics.get(name), table, None, np.ones(4)) == pytest.approx(value)


@pytest.mark.parametrize("name", ["r2", "pearson", "spearman"])
def test_constant_target_is_undefined(name):
    table = {"prediction": np.array([1.0, 2, 3, 4]), "target": np.full(4, 0.1)}
    assert np.isnan(metrics.get(name).score(table, None))
    assert np.isnan(drawn(metrics.get(name), table, None, np.ones(4)))


@pytest.mark.parametrize("name", metrics.names())
def test_no_rows_are_refused(name):
    likelihoods = {column: np.array([]) for column in ("nll", "tokens", "bytes", "hits")}
    with pytest.raises(DataError, match="no row"):
        metrics.get(name).score({"prediction": np.array([]), "target": np.array([]), "scores": np.zeros((0, 2)), **likelihoods}, ("a", "b"))


@pytest.mark.parametrize("name", metrics.names())
def test_a_missing_column_is_named(name):
    with pytest.raises(DataError, match="no column"):
        metrics.get(name).score({"target": np.array([1.0])}, ("a", "b"))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), None, "x"])
def test_a_number_that_is_none_is_refused_by_row(wrong):
    table = columns({"id": ["r0", "r1"], "prediction": [1.0, wrong], "target": [1.0, 2.0]})
    with pytest.raises(DataError, match="r1"):
        metrics.get("mae").score(table, None)


@pytest.mark.parametrize("row", [[float("nan"), 0.5], [-0.1, 1.1], [0.2, 0.2]])
def test_scores_that_are_no_probabilities_are_refused_by_row(row):
    table = columns({"id": ["r0", "r1"], "scores": [[0.5, 0.5], row], "target": ["a", "b"]})
    with pytest.raises(DataError, match="r1"):
        metrics.get("auc").score(table, ("a", "b"))


def test_labels_that_do_not_fit_are_refused():
    table = columns({"id": ["r0", "r1"], "scores": [[0.5, 0.5]] * 2, "prediction": ["a", None], "target": ["a", "z"]})
    with pytest.raises(DataError, match=r"r1.*none of the labels"):
        metrics.get("log_loss").score(table, ("a", "b"))
    with pytest.raises(DataError, match="r1"):
        metrics.get("accuracy").score(table, ("a", "b"))
    with pytest.raises(DataError, match="needs the labels"):
        metrics.get("log_loss").score(table, None)
    with pytest.raises(DataError, match="hold 3 numbers"):
        metrics.get("log_loss").score(table, LABELS)
    with pytest.raises(DataError, match="f1_macro"):
        metrics.get("f1").score({"prediction": table["target"], "target": table["target"]}, LABELS)


def test_ragged_scores_are_refused():
    table = columns({"scores": [[0.5, 0.5], [1.0]], "target": ["a", "b"]})
    with pytest.raises(DataError, match="hold 2 numbers"):
        metrics.get("auc").score(table, ("a", "b"))


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UsageError, match="Did you mean accuracy"):
        metrics.get("acuracy")


def test_a_metric_of_a_plugin_is_taken_as_it_is():
    own = metrics.Metric("own", lambda columns, labels: 1.0)
    assert metrics.get(own) is own


@pytest.mark.parametrize("name", metrics.names())
def test_every_metric_says_what_it_is(name):
    metric = metrics.get(name)
    assert metric.name == name
    assert metric.title
    assert metric.score.__doc__
    assert metric.low < metric.high
    assert bool(metric.statistics and metric.combine) != bool(metric.resample)
    assert metric.better(0.1) == (metric.direction == "max")


def test_arrow_columns_become_arrays():
    import pyarrow as pa

    table = pa.table({"id": ["x", "y"], "scores": [[0.25, 0.75], [1.0, 0.0]], "prediction": ["a", "b"], "group": pa.nulls(2, pa.string())})
    read = columns(pa.concat_tables([table, table]))
    assert read["scores"].shape == (4, 2)
    assert read["scores"][1].tolist() == [1.0, 0.0]
    assert read["prediction"].tolist() == ["a", "b", "a", "b"]
    assert read["group"].tolist() == [None] * 4


def test_the_room_is_light():
    code = (
        "import sys, fmhub.evaluation as e, fmhub.evaluation.baselines as b; from fmhub.evaluation.metrics import names; names();"
        "print([m for m in ('numpy','sklearn','scipy','pyarrow','evaluate','datasets','torch','pandas') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    def refuse(*args, **options):
        raise AssertionError("a socket was opened")

    for name in ("HF_MODULES_CACHE", "HF_EVALUATE_CACHE", "HF_DATASETS_CACHE", "HF_METRICS_CACHE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.filterwarnings("default")  # evaluate's own imports warn
def test_the_evaluate_wrapper_computes_the_pure_function_offline(no_network, tmp_path):
    import evaluate

    rng = np.random.default_rng(0)
    scores = rng.dirichlet([1, 1, 1], size=30)
    table = {
        "prediction": np.array(LABELS, dtype=object)[scores.argmax(1)],
        "scores": scores,
        "target": rng.choice(LABELS, 30).astype(object),
    }
    numbers = {"prediction": rng.normal(size=30), "target": rng.normal(size=30)}
    for name in metrics.names():
        if name == "f1" or metrics.get(name).kind == "other":
            continue  # three labels here; boxes and rankings have tests of their own
        pure = metrics.get(name)
        given, labels = (numbers, None) if pure.kind == "number" else (table, LABELS)
        wrapped = metrics.as_evaluate(name, labels)
        assert isinstance(wrapped, evaluate.Metric)
        found = wrapped.compute(predictions=given["scores" if "scores" in pure.reads else "prediction"], references=given["target"])
        assert found == {name: pytest.approx(pure.score(given, labels))}


@pytest.mark.parametrize("k", [3, 5])
def test_top_k_is_scikit_learns_ties_included(k):
    from sklearn.metrics import top_k_accuracy_score

    random = np.random.default_rng(k)
    labels = tuple("abcdefg")
    scores = np.round(random.dirichlet(np.ones(7), 400), 1) + 0.01  # many ties
    scores /= scores.sum(1, keepdims=True)
    target = random.choice(labels, 400)
    table = {"scores": scores, "target": target, "prediction": target}
    metric = metrics.get(f"top{k}_accuracy")
    assert metric.score(table, labels) == pytest.approx(top_k_accuracy_score(target, scores, k=k, labels=list(labels)))
    assert metric.combine(metric.statistics(table, labels).sum(0)) == pytest.approx(metric.score(table, labels))
    assert metric.score({name: values[:1] for name, values in table.items()}, labels) in (0, 1)
