"""Baselines answer in the head's columns, learn from training rows alone, and repeat."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from fmhub import data, evaluation, heads, stems
from fmhub.errors import DataError, UsageError
from fmhub.evaluation import baselines
from fmhub.recipe import Recipe
from fmhub.task import Known, Setting, Task

GOOD, BAD = ["great", "lovely", "fine", "superb"], ["awful", "bad", "poor", "dreadful"]
HEAD = heads.Classification(labels=["neg", "pos"])


def texts(n, seed, *, number=False):
    random = np.random.default_rng(seed)
    marks = random.integers(0, 2, n)
    rows = [f"the {random.choice(GOOD if mark else BAD)} film number {random.integers(1000)}!" for mark in marks]
    target = pa.array(marks * 2.0 - 1 if number else [["neg", "pos"][mark] for mark in marks])
    return pa.table({"id": [f"{seed}-{row}" for row in range(n)], "text": rows, "target": target})


def scored(fitted, rows, metric, labels=None):
    table = {"id": rows["id"].to_pylist(), "target": rows["target"].to_pylist(), **fitted.predict(rows.drop_columns("target"))}
    return evaluation.evaluate(table, [metric], labels, resamples=2)[metric]["value"]


def test_majority_says_the_most_frequent_label():
    train = pa.table({"id": ["a", "b", "c"], "target": ["x", "y", "y"]})
    fitted = baselines.Majority().fit(Setting(train=train, validation=train, head=heads.Classification(labels=["z", "y", "x"]), seed=0))
    assert fitted.predict(train) == {"prediction": ["y"] * 3, "scores": [[0, 2 / 3, 1 / 3]] * 3}
    tie = train.slice(0, 2)
    assert baselines.Majority().fit(Setting(train=tie, validation=tie, head=heads.Classification(labels=["y", "x"]), seed=0)).predict(tie)[
        "prediction"
    ] == ["y", "y"]


def test_majority_without_labels_takes_the_training_ones():
    train = pa.table({"id": ["a", "b", "c"], "target": ["x", "y", "y"]})
    assert baselines.Majority().fit(Setting(train=train, validation=train, head=object(), seed=0)).predict(train)["scores"][0] == [
        1 / 3,
        2 / 3,
    ]


def test_mean_says_the_mean():
    train = pa.table({"id": ["a", "b"], "target": [1.0, 4.0]})
    assert baselines.Mean().fit(Setting(train=train, validation=train, head=heads.Regression(), seed=0)).predict(train) == {
        "prediction": [2.5, 2.5]
    }


def test_logistic_learns_and_repeats():
    train, validation, test = texts(300, 0), texts(60, 1), texts(200, 2)
    fitted = [baselines.TfidfLogistic().fit(Setting(train=train, validation=validation, head=HEAD, seed=seed)) for seed in (0, 1)]
    assert scored(fitted[0], test, "accuracy") > 0.95
    assert scored(fitted[0], test, "log_loss", ["neg", "pos"]) < 0.3
    assert fitted[0].predict(test) == fitted[1].predict(test)


def test_logistic_gives_a_label_without_training_rows_no_chance():
    head = heads.Classification(labels=["other", "neg", "pos"])
    rows = baselines.TfidfLogistic().fit(Setting(train=texts(50, 0), validation=texts(20, 1), head=head, seed=0)).predict(texts(5, 2))
    assert [row[0] for row in rows["scores"]] == [0] * 5
    assert np.allclose(np.sum(rows["scores"], axis=1), 1)
    assert set(rows["prediction"]) <= {"neg", "pos"}


def test_logistic_takes_the_c_that_validation_likes():
    train = texts(100, 0)
    fitted = baselines.TfidfLogistic(grid=(1e-9, 10.0)).fit(Setting(train=train, validation=texts(40, 1), head=HEAD, seed=0))
    assert fitted.model.C in (1e-9, 10.0)
    held = texts(40, 1)
    accuracies = {
        c: scored(baselines.TfidfLogistic(grid=(c,)).fit(Setting(train=train, validation=held, head=HEAD, seed=0)), held, "accuracy")
        for c in (1e-9, 10.0)
    }
    assert accuracies[fitted.model.C] == max(accuracies.values())


def test_no_validation_row_reaches_the_weights():
    train = texts(100, 0)
    one, other = (
        baselines.TfidfLogistic(grid=(1.0,)).fit(Setting(train=train, validation=texts(40, seed), head=HEAD, seed=0)) for seed in (1, 7)
    )
    assert one.predict(texts(10, 3)) == other.predict(texts(10, 3))


def test_ridge_learns_within_the_span_of_the_targets():
    train, test = texts(300, 0, number=True), texts(200, 2, number=True)
    fitted = baselines.TfidfRidge().fit(Setting(train=train, validation=texts(60, 1, number=True), head=heads.Regression(), seed=0))
    assert scored(fitted, test, "r2") > 0.8
    assert np.abs(fitted.predict(test)["prediction"]).max() <= 1


def test_empty_and_missing_texts_are_read_as_empty():
    fitted = baselines.TfidfLogistic().fit(Setting(train=texts(50, 0), validation=texts(20, 1), head=HEAD, seed=0))
    rows = fitted.predict(pa.table({"id": ["a", "b"], "text": ["", None]}))
    assert len(rows["prediction"]) == 2


@pytest.mark.parametrize("baseline", [baselines.TfidfLogistic(), baselines.TfidfRidge()])
def test_rows_that_cannot_be_used_are_refused_in_one_line(baseline):
    train = texts(10, 0, number=isinstance(baseline, baselines.TfidfRidge))
    with pytest.raises(DataError, match=r"lack.*id, text, target"):
        type(baseline)(field="nothing").fit(Setting(train=train, validation=train, head=HEAD, seed=0))
    silent = train.set_column(1, "text", pa.array([""] * 10))
    with pytest.raises(DataError, match="No features"):
        baseline.fit(Setting(train=silent, validation=silent, head=HEAD, seed=0))


def test_one_label_is_refused():
    rows = texts(10, 0).set_column(2, "target", pa.array(["pos"] * 10))
    with pytest.raises(DataError, match="one label only"):
        baselines.TfidfLogistic().fit(Setting(train=rows, validation=rows, head=HEAD, seed=0))


def frozen(folder, rows):
    from fmhub.backbones.load import load
    from fmhub.training.features import Features
    from fmhub.training.member import Member

    task = Task(
        name="probe", title="", data=data.Required(), head=heads.Classification(), stem=stems.Text(), metrics=["accuracy"], recipe=Recipe()
    )
    return Features(Member("one", task, 0, {"train": rows}), lambda: load(folder, sha256="0" * 64))


def test_a_probe_reads_the_frozen_backbone(tiny, reviews):
    """On a random backbone of three layers a word still shows in the first token and the mean."""
    tables = data.csv(str(reviews), text="review", label="stars").load().tables
    head = heads.Classification().fit(Known(train=tables["train"]), Recipe())
    spec, features = baselines.FrozenLogistic(), frozen(tiny, tables["train"])
    where = {"train": tables["train"], "validation": tables["validation"], "head": head, "features": features}
    fitted = [spec.fit(Setting(**where, seed=seed)) for seed in (0, 1)]
    blind = tables["test"].drop_columns("target")
    found, again = (one.predict(blind) for one in fitted)
    assert found == again
    assert scored(fitted[0], tables["test"], "accuracy") > 0.8
    assert fitted[0].features(blind).shape == (len(blind), 64)
    one = tables["train"].slice(0, 1)
    with pytest.raises(DataError, match="one label only"):
        spec.fit(Setting(train=one, validation=one, head=head, features=features))
    with pytest.raises(UsageError, match="needs a backbone"):
        spec.fit(Setting(train=one, validation=one, head=head))


def test_probe_features_do_not_depend_on_the_order_of_rows(tiny, reviews):
    rows = data.csv(str(reviews), text="review", label="stars").load().tables["train"]
    features = frozen(tiny, rows)
    order = np.random.default_rng(0).permutation(len(rows))
    np.testing.assert_allclose(features(rows)[order], features(rows.take(pa.array(order))), atol=1e-5)


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_a_head_on_frozen_features_is_trained_and_the_backbone_is_not(tiny, reviews, kind):
    from fmhub.backbones.load import load
    from fmhub.recipe import Adapter, Lora
    from fmhub.training.frozen import frozen
    from fmhub.training.member import Member

    tables = data.csv(str(reviews), text="review", label="stars", split=data.Random()).load().tables
    recipe = Recipe(epochs=20, lr=1e-2, patience=0, lora=Lora(layers="last:1"), adapter=Adapter(kind=kind))
    head = heads.Classification().fit(Known(train=tables["train"]), recipe)
    task = Task(name="t", title="T", data=data.csv("x"), stem=stems.Text(), head=head, metrics=["accuracy"], recipe=recipe)
    loaded = []
    member = Member("one", task, 0, tables, fingerprint="f")

    def fresh():
        loaded.append(load(tiny, sha256="0" * 64))
        return loaded[-1]

    parts = {name: tables[name] for name in ("train", "validation")}
    setting = Setting(**parts, head=head, frozen=lambda changes: frozen(member, fresh, changes))
    fitted = [baselines.FrozenHead().fit(setting) for _ in range(2)]
    assert scored(fitted[0], tables["train"], "accuracy", head.labels) > 0.7  # random layers tell words apart, too
    blind = tables["test"].drop_columns(["target"])
    assert np.array_equal(*(np.array(one.predict(blind)["scores"]) for one in fitted))
    before = dict(load(tiny, sha256="0" * 64).model.named_parameters())
    assert all(torch.equal(parameter, before[name]) for name, parameter in loaded[0].model.named_parameters())
    with pytest.raises(UsageError, match="needs the run's own network"):
        baselines.FrozenHead().fit(Setting(train=tables["train"], validation=tables["validation"], head=head))
