"""Every tool against overfitting does what it says: each test fails where the tool is left out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from accelerate import Accelerator
from toy import registered, task, write

from fmhub import Lora, Recipe, api
from fmhub.backbones.adapter import pulled, trainable
from fmhub.backbones.load import load
from fmhub.heads import Classification
from fmhub.recipe import Adapter
from fmhub.stems import Text
from fmhub.task import Known
from fmhub.training.batching import epoch_batches
from fmhub.training.loop import Schedule, fit, predict
from fmhub.training.network import Network, Part, select

PLAIN = Recipe(epochs=4, batch=16, lr=1e-2, clip=0.0, weight_decay=0.0, dropout=0.0, patience=0, lora=Lora(rank=4))


def table(count: int = 96, rare: bool = False) -> pa.Table:
    words = "good fine happy bad awful sad day film book the a was".split()
    draw = np.random.default_rng(3)
    texts = [" ".join(draw.choice(words, draw.integers(2, 12))) for _ in range(count)]
    targets = ["up" if ("awful" in text if rare else "good" in text or "fine" in text) else "down" for text in texts]
    return pa.table({"id": [str(row) for row in range(count)], "text": texts, "target": targets})


@pytest.fixture
def trained(tiny: Path, tmp_path: Path):
    """`trained(rows, key=value)`: a network after training, its part and the progress."""
    count = iter(range(1000))

    def train(rows: pa.Table, judge: Any = None, **changes: Any) -> tuple[Network, Part, Any]:
        network, part = build(tiny, rows, **changes)
        path = tmp_path / f"{next(count)}.safetensors"
        return network, part, fit(network, part, judge, accelerator=Accelerator(), checkpoint=path, log=lambda *_: None)

    return train


def build(tiny: Path, rows: pa.Table, **changes: Any) -> tuple[Network, Part]:
    recipe = replace(PLAIN, **changes)
    network = Network(load(tiny, sha256="0"), Text(), Classification().fit(Known(train=rows), recipe), recipe)
    return network, network.prepare(rows)


def matrices(network: Network) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in trainable(network).values() if parameter.ndim > 1])


class Watch:
    """What the optimiser is given at each step: the gradient's norm, and the learning rate."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.norms: list[float] = []
        self.rates: list[float] = []
        self.gradients: list[list[torch.Tensor]] = []
        original = torch.optim.AdamW.step

        def step(optimiser, *arguments, **named):
            found = [parameter.grad.clone() for group in optimiser.param_groups for parameter in group["params"]]
            self.gradients.append(found)
            self.norms.append(float(torch.cat([gradient.flatten() for gradient in found]).norm()))
            self.rates.append(optimiser.param_groups[0]["lr"])
            return original(optimiser, *arguments, **named)

        monkeypatch.setattr(torch.optim.AdamW, "step", step)


def test_weight_decay_keeps_matrices_small_and_leaves_vectors_alone(trained):
    plain, decayed = (trained(table(), weight_decay=decay)[0] for decay in (0.0, 10.0))
    assert matrices(decayed).norm() < 0.6 * matrices(plain).norm()
    frozen = trained(table(), weight_decay=10.0, epochs=0.0)[0]
    vectors = {name: parameter for name, parameter in trainable(decayed).items() if parameter.ndim == 1}
    assert vectors and all(not torch.equal(parameter, trainable(frozen)[name]) for name, parameter in vectors.items())
    from fmhub.training.loop import _optimiser

    groups = _optimiser(trainable(plain), replace(PLAIN, weight_decay=0.3)).param_groups
    assert {(parameter.ndim > 1, group["weight_decay"]) for group in groups for parameter in group["params"]} == {(True, 0.3), (False, 0.0)}


def test_l1_makes_the_adapter_sparse_and_more_of_it_sparser(trained):
    shares = [float((matrices(trained(table(), l1=amount)[0]) == 0).float().mean()) for amount in (0.0, 0.3, 1.0)]
    assert shares[0] == 0.0 and 0.005 < shares[1] < shares[2] - 0.1, shares


@pytest.mark.parametrize("pull", [{"weight_decay": 30.0}, {"l1": 3.0}], ids=["decay", "l1"])
def test_nothing_pulls_a_scale_to_zero_but_a_lora_of_rank_1_is_pulled(trained, pull):
    def adapter(kind: str, **changes: Any) -> dict[str, torch.Tensor]:
        network = trained(table(48), adapter=Adapter(kind=kind), lora=Lora(rank=1), **changes)[0]
        return {name: one.detach() for name, one in trainable(network).items() if "ia3_" in name or "lora_" in name}

    scales = adapter("ia3", **pull)
    assert len(scales) and all(1 in one.shape and one.ndim == 2 for one in scales.values())
    assert {one.shape[0] == 1 for one in scales.values()} == {True, False}, "rows and columns, both"
    assert min(float(one.mean()) for one in scales.values()) > 0.9
    plain, pulled = adapter("lora"), adapter("lora", **pull)
    assert all(1 in one.shape for one in pulled.values())
    for part in ("lora_A", "lora_B"):
        before, after = (sum(float(one.norm()) for name, one in found.items() if part in name) for found in (plain, pulled))
        assert after < 0.75 * before, part


def test_scales_are_left_alone_in_whatever_shape_and_outputs_of_one_number_are_not(tiny):
    shapes = {
        "q.lora_magnitude_vector.default.weight": (1, 8),
        "q.ia3_l.default": (8, 1),
        "q.lora_A.default.weight": (1, 8),
        "head.out.weight": (1, 8),
        "head.out.bias": (1,),
    }
    named = {name: torch.nn.Parameter(torch.ones(shape)) for name, shape in shapes.items()}
    assert list(pulled(named)) == ["q.lora_A.default.weight", "head.out.weight"]
    named = trainable(build(tiny, table(8), adapter=Adapter(kind="dora"))[0])
    magnitudes = {name for name in named if "magnitude" in name}
    assert magnitudes and not magnitudes & set(pulled(named)) and any("lora_B" in name for name in pulled(named))


def test_dropout_of_the_head_acts_in_training_only(tiny):
    network, part = build(tiny, table(), dropout=0.5)
    rows = np.arange(8)
    network.train()
    with torch.no_grad():
        noisy = [network.outputs(part, rows) for _ in range(2)]
    network.eval()
    with torch.no_grad():
        still = [network.outputs(part, rows) for _ in range(2)]
    assert not torch.equal(*noisy) and torch.equal(*still)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_dropout_of_lora_acts_and_the_frozen_layers_own_does_not(tiny, dropout):
    network, part = build(tiny, table(), lora=Lora(rank=4, dropout=dropout))
    assert network.backbone.model.config.hidden_dropout_prob > 0, "the frozen model has dropout that must stay off"
    with torch.no_grad():
        for name, parameter in trainable(network).items():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
        network.train()
        first, second = (network.outputs(part, np.arange(8)) for _ in range(2))
        assert torch.equal(first, second) == (dropout == 0.0)
        network.eval()
        assert torch.equal(network.outputs(part, np.arange(8)), network.outputs(part, np.arange(8)))


def test_label_smoothing_is_the_papers_loss_and_tempers_confidence(trained):
    head, logits = Classification(labels=("a", "b", "c")), torch.tensor([[2.0, 0.0, -1.0]])
    loss, weight = head.loss(logits, {"label": torch.tensor([0])}, replace(PLAIN, label_smoothing=0.3))
    assert float(weight) == 1 and float(loss) == pytest.approx(float(-(torch.tensor([0.8, 0.1, 0.1]) * logits[0].log_softmax(0)).sum()))
    sure = []
    for smoothing in (0.0, 0.4):
        network, part, _ = trained(table(), label_smoothing=smoothing, epochs=15)
        sure.append(float(np.max(predict(network, part, Accelerator())["scores"], axis=1).mean()))
    assert sure[1] < sure[0] - 0.1 and sure[1] < 0.9


def test_balanced_class_weights_give_every_class_the_same_say(trained):
    rows = table(200, rare=True)
    truth = np.array(rows["target"].to_pylist())
    assert 0.2 < (truth == "up").mean() < 0.45
    head = Classification().fit(Known(train=rows), replace(PLAIN, class_weights="balanced"))
    label = torch.from_numpy(head.targets(rows)["label"])
    weights = {name: float(head.loss(torch.zeros(len(some), 2), {"label": some}, PLAIN)[1]) for name, some in
               {"down": label[label == 0], "up": label[label == 1]}.items()}  # fmt: skip
    assert weights["down"] == pytest.approx(weights["up"]) and sum(weights.values()) == pytest.approx(len(rows))
    found = {}
    for kind in ("none", "balanced"):
        network, part, _ = trained(rows, class_weights=kind, epochs=2, lr=3e-3)
        scores = np.array(predict(network, part, Accelerator())["scores"])[:, 1]
        found[kind] = scores.mean()
    assert found["balanced"] > found["none"] + 0.05, "the rare class is believed in more"


def test_clipping_bounds_the_gradient(trained, monkeypatch):
    free = Watch(monkeypatch)
    trained(table(), clip=0.0, epochs=1)
    monkeypatch.undo()
    assert max(free.norms) > 0.2
    bound = Watch(monkeypatch)
    trained(table(), clip=0.1, epochs=1)
    assert max(bound.norms) <= 0.1 + 1e-5 and len(bound.norms) == len(free.norms)


def test_accumulation_is_the_mean_gradient_of_all_its_batches(tiny, trained, monkeypatch):
    rows = table()
    network, part = build(tiny, rows)
    batches = epoch_batches(part.encoded.lengths, 16, PLAIN.seed, 0)
    together = np.concatenate(batches[:3])
    loss, _ = network.head_spec.loss(network.outputs(part, together), select(part.targets, together, torch.device("cpu")), PLAIN)
    (loss / len(together)).backward()
    named = trainable(network)
    wanted = [parameter.grad for big in (True, False) for parameter in named.values() if (parameter.ndim > 1) == big]
    watch = Watch(monkeypatch)
    trained(rows, accumulate=3, epochs=1)
    assert len(watch.gradients) == 2, "6 batches in 2 steps"
    for found, expected in zip(watch.gradients[0], wanted, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_the_optimiser_gets_the_schedules_rates(trained, monkeypatch, schedule):
    watch = Watch(monkeypatch)
    _, part, _ = trained(table(), schedule=schedule, warmup=0.25)
    plan = Schedule(part.encoded.lengths, replace(PLAIN, schedule=schedule, warmup=0.25))
    assert watch.rates == [plan.lr(step) for step in range(24)]
    assert watch.rates[0] < watch.rates[5] < PLAIN.lr == pytest.approx(max(watch.rates))
    assert (watch.rates[-1] < 0.1 * PLAIN.lr) == (schedule != "constant")


@pytest.mark.parametrize("strength", [0.2, 1.0])
def test_augmentation_masks_that_share_of_words_and_never_the_tokenizers_own(tiny, strength):
    network, part = build(tiny, table(400), augment=strength)
    rows = np.arange(400)
    clean, noisy = (network.stem_spec.batch(part.encoded, rows, random=random, strength=strength)["input_ids"].numpy()
                    for random in (None, np.random.default_rng(0)))  # fmt: skip
    words = clean > 4  # the five special tokens come first in the vocabulary
    assert (noisy[~words] == clean[~words]).all()
    assert set(noisy[noisy != clean]) == {4}
    assert (noisy != clean)[words].mean() == pytest.approx(0.3 * strength, abs=0.02)


def test_augmentation_changes_training_but_not_what_is_predicted(trained):
    plain, noisy = trained(table())[0], trained(table(), augment=1.0)
    assert not torch.equal(matrices(plain), matrices(noisy[0]))
    first, second = (predict(noisy[0], noisy[1], Accelerator())["scores"] for _ in range(2))
    assert np.array_equal(first, second)


def test_patience_stops_and_the_chosen_step_is_what_the_run_keeps(tiny, tmp_path):
    with registered(task(tiny, write(tmp_path / "toy.csv"), baselines=())):
        record = api.run("toy", output=tmp_path / "run", set={"epochs": 40, "patience": 2, "evaluations": 2, "lr": 0.05})
    (size,) = {row["n"] for row in record["scores"]["validation"].values()}
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    readings = [(row["step"], row["validation"]) for row in log if "validation" in row]
    steps, values = zip(*readings, strict=True)
    best = values.index(max(values))
    assert values[-1] < values[best], "it got worse before it stopped"
    assert len(values) == best + 3 and steps[-1] < 40 * 7, "two readings without a new best, then no more"
    error = (values[best] * (1 - values[best]) / size) ** 0.5
    kept = values[steps.index(record["saved"]["step"])]
    assert kept >= values[best] - 1.3 * error, "the latest that noise may have put below the best: about one standard error"
    assert record["scores"]["validation"]["accuracy"]["value"] == kept, "the adapter is that of this step"


@pytest.mark.parametrize(("evaluations", "expected"), [(1, [7, 14]), (2, [4, 7, 10, 14]), (7, list(range(1, 15)))])
def test_validation_is_read_so_many_times_an_epoch(tiny, tmp_path, evaluations, expected):
    with registered(task(tiny, write(tmp_path / "toy.csv"), baselines=())):
        api.run("toy", output=tmp_path / "run", set={"epochs": 2, "evaluations": evaluations})
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log if "validation" in row] == expected
