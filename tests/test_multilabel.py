"""Any number of labels a row: the head against numbers worked out by hand, and a probe of one model a label."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from fmhub import DataError, Recipe, heads
from fmhub.evaluation.baselines.probe import fit_logistic
from fmhub.task import Known, Setting
from fmhub.training.plan import _absolute


def rows(*targets: list[str]) -> pa.Table:
    return pa.table({"id": [str(row) for row in range(len(targets))], "target": pa.array(targets, pa.list_(pa.string()))})


def test_labels_are_those_of_the_training_part_in_their_natural_order() -> None:
    head = heads.MultiLabel().fit(Known(train=rows(["10"], [], ["2", "10"])), Recipe())
    assert head.labels == ("2", "10")
    assert head.targets(rows(["10", "2"], []))["applies"].tolist() == [[1, 1], [0, 0]]
    with pytest.raises(DataError, match="Row 1: label '3' is not one that was trained on"):
        head.targets(rows([], ["3"]))
    with pytest.raises(DataError, match="holds no label"):
        heads.MultiLabel().fit(Known(train=rows([], [])), Recipe())


def test_loss_and_decoding_by_hand() -> None:
    head = heads.MultiLabel(labels=("a", "b"))
    outputs = torch.tensor([[0.0, math.log(3)], [-math.log(3), -math.log(3)]])  # probabilities .5 and .75; .25 and .25
    total, weight = head.loss(outputs, {"applies": torch.tensor([[1.0, 0.0], [0.0, 0.0]])}, Recipe())
    assert total.item() == pytest.approx((math.log(2) + math.log(4)) / 2 + math.log(4 / 3)) and weight.item() == 2
    found = head.decode(outputs)
    assert found["prediction"] == [["a", "b"], []] and np.allclose(found["scores"], [[0.5, 0.75], [0.25, 0.25]])
    assert head.readable(["a", "b"]) == "a, b" and head.readable([]) == "none"


def test_a_probe_has_one_model_a_label_and_a_share_where_there_is_nothing_to_tell_apart() -> None:
    random = np.random.default_rng(0)
    numbers = random.normal(size=(200, 2)).astype(np.float32)
    targets = [[name for name, value in zip("ab", row, strict=True) if value > 0] + ["always"] for row in numbers]
    table = rows(*targets).append_column("row", pa.array(range(200)))
    setting = Setting(train=table.slice(0, 120), validation=table.slice(120, 40), head=heads.MultiLabel(labels=("a", "always", "b")))
    fitted = fit_logistic(lambda some: numbers[some["row"].to_numpy()], setting, (0.1, 10.0))
    found = fitted.predict(table.slice(160).drop_columns(["target"]))
    right = [set(one) == set(other) for one, other in zip(found["prediction"], targets[160:], strict=True)]
    assert np.mean(right) > 0.85 and [row[1] for row in found["scores"]] == [1.0] * 40


def test_a_kind_before_a_file_stays_and_the_file_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd:name.csv").touch()
    assert _absolute("medmnist:a/b.npz") == f"medmnist:{tmp_path}/a/b.npz" and _absolute("hf:imdb:plain") == "hf:imdb:plain"
    assert _absolute("odd:name.csv") == f"{tmp_path}/odd:name.csv" and _absolute("a.csv") == f"{tmp_path}/a.csv" and _absolute(None) is None
