"""The loop: batches, schedule, exact resume, equality with a bare PyTorch loop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fmhub.errors import FmhubError, UntrustedFile
from fmhub.recipe import Lora, Recipe
from fmhub.task import Known
from fmhub.training.batching import epoch_batches, evaluation_batches, parts

lengths = st.lists(st.integers(1, 200), min_size=1, max_size=300).map(np.array)


@given(lengths, st.integers(1, 40), st.integers(0, 2**32 - 1), st.integers(0, 50))
def test_an_epoch_holds_every_row_once_and_depends_on_seed_and_epoch_only(lengths, batch, seed, epoch):
    batches = epoch_batches(lengths, batch, seed, epoch)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    assert max(map(len, batches)) <= batch
    assert all((one == other).all() for one, other in zip(batches, epoch_batches(lengths, batch, seed, epoch), strict=True))


def test_epochs_and_seeds_differ_and_neighbours_in_length_share_a_batch():
    lengths = np.random.default_rng(0).integers(3, 200, 2000)
    first, second = (np.concatenate(epoch_batches(lengths, 32, 0, epoch)) for epoch in (0, 1))
    assert (first != second).any()
    assert (np.concatenate(epoch_batches(lengths, 32, 1, 0)) != first).any()
    padded = sum(len(rows) * lengths[rows].max() for rows in epoch_batches(lengths, 32, 0, 0))
    assert padded < 1.1 * lengths.sum()


@given(lengths, st.integers(1, 5000))
def test_parts_stay_within_the_budget(lengths, budget):
    found = list(parts(np.arange(len(lengths)), lengths, budget))
    assert sorted(np.concatenate(found)) == list(range(len(lengths)))
    assert all(len(rows) == 1 or len(rows) * lengths[rows].max() <= budget for rows in found)
    assert lengths[evaluation_batches(lengths, budget)[0][0]] == lengths.max()


@given(lengths, st.integers(1, 5000))
def test_where_lengths_must_be_alike_a_part_has_one(lengths, budget):
    found = evaluation_batches(lengths, budget, alike=True)
    assert sorted(np.concatenate(found)) == list(range(len(lengths)))
    assert all(len(set(lengths[rows])) == 1 and (len(rows) == 1 or lengths[rows].sum() <= budget) for rows in found)
    assert len(found) <= len(list(parts(np.arange(len(lengths)), lengths, budget))) + len(set(lengths))


def test_examples_that_must_be_alike_are_not_sorted_into_batches():
    from fmhub.training.loop import Schedule

    lengths = np.random.default_rng(0).integers(3, 200, 100)
    plain, alike = (Schedule(lengths, Recipe(batch=10, seed=3), alike) for alike in (False, True))
    same = Schedule(np.full(100, 7), Recipe(batch=10, seed=3))
    assert all((alike.rows(step) == same.rows(step)).all() for step in range(20))
    spread = [np.mean([np.ptp(lengths[one.rows(step)]) for step in range(10)]) for one in (plain, alike)]
    assert spread[0] < 30 < 120 < spread[1]


@pytest.fixture
def rows() -> pa.Table:
    words = "good fine happy bad awful sad day film book the a".split()
    random = np.random.default_rng(1)
    texts = [" ".join(random.choice(words, random.integers(1, 12))) for _ in range(96)]
    return pa.table(
        {
            "id": [str(i) for i in range(96)],
            "text": texts,
            "target": ["up" if "good" in text or "fine" in text else "down" for text in texts],
        }
    )


@pytest.fixture
def build(tiny: Path, rows: pa.Table):
    """A network on the tiny backbone and a training part, fresh at every call."""

    def make(**changes):
        from fmhub.backbones.load import load
        from fmhub.heads import Classification
        from fmhub.stems import Text
        from fmhub.training.network import Network

        recipe = replace(Recipe(epochs=3, batch=8, lr=5e-3, lora=Lora(dropout=0.1), patience=0), **changes)
        head = Classification().fit(Known(train=rows), recipe)
        network = Network(load(tiny, sha256="0"), Text(), head, recipe)
        return network, network.prepare(rows)

    return make


def accuracy(network, part):
    from accelerate import Accelerator

    from fmhub.training.loop import predict

    found = predict(network, part, Accelerator())["prediction"]
    return float(np.mean([one == other for one, other in zip(found, part.table.column("target").to_pylist(), strict=True)]))


def train(network, part, path: Path, *, stop_at: int | None = None, log=None):
    from accelerate import Accelerator

    from fmhub.training.loop import Reading, fit

    class Killed(BaseException):
        pass

    original = torch.optim.AdamW.step
    count = [0]

    def step(self, *arguments, **named):
        if stop_at is not None and count[0] >= stop_at:
            raise Killed
        count[0] += 1
        return original(self, *arguments, **named)

    torch.optim.AdamW.step = step
    try:
        return fit(
            network,
            part,
            lambda: Reading(accuracy(network, part)),
            accelerator=Accelerator(),
            checkpoint=path,
            log=log or (lambda *_: None),
        )
    except Killed:
        return None
    finally:
        torch.optim.AdamW.step = original


def state(network):
    from fmhub.backbones.adapter import trainable

    return {name: tensor.detach().clone() for name, tensor in trainable(network).items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_training_learns_and_the_same_seed_gives_the_same_bits(build, tmp_path):
    learner, part = build(epochs=20)
    before = accuracy(learner, part)
    train(learner, part, tmp_path / "learner")
    assert accuracy(learner, part) > max(before, 0.95)
    network, part = build()
    progress = train(network, part, tmp_path / "a")
    assert progress.step == 36 and len(progress.history) == 3 and progress.best == max(row["validation"] for row in progress.history)
    again, part = build()
    train(again, part, tmp_path / "b")
    assert same(state(network), state(again))
    other, part = build(seed=1)
    train(other, part, tmp_path / "c")
    assert not same(state(network), state(other))


@pytest.mark.parametrize("stop_at", [0, 1, 7, 12, 13, 24, 35])
def test_a_run_killed_at_any_step_and_resumed_ends_in_the_same_bits(build, tmp_path, monkeypatch, stop_at):
    monkeypatch.setattr("fmhub.training.loop.CHECKPOINT_SECONDS", 0.0 if stop_at % 2 else 1e9)
    whole, part = build(augment=0.5)
    train(whole, part, tmp_path / "whole")
    killed, part = build(augment=0.5)
    assert train(killed, part, tmp_path / "killed", stop_at=stop_at) is None
    resumed, part = build(augment=0.5)
    progress = train(resumed, part, tmp_path / "killed")
    assert progress.step == 36
    assert same(state(whole), state(resumed))


def test_a_finished_run_is_not_trained_again(build, tmp_path):
    network, part = build()
    train(network, part, tmp_path / "a")
    again, part = build()
    steps = []
    train(again, part, tmp_path / "a", log=lambda step, *_: steps.append(step))
    assert steps == [] and same(state(network), state(again))


def test_budget_and_accumulation_change_no_result(build, tmp_path):
    recipe = {"lora": Lora(), "dropout": 0.0}
    states = []
    for name, changes in {"whole": {}, "cut": {"budget": 20}, "two": {"batch": 4, "accumulate": 2}}.items():
        network, part = build(**recipe, epochs=1, **changes)
        losses = []
        train(network, part, tmp_path / name, log=lambda step, total, values, rate, losses=losses: losses.append(values["loss"]))
        states.append((state(network), losses))
    for name, tensor in states[0][0].items():
        torch.testing.assert_close(tensor, states[1][0][name], rtol=1e-3, atol=1e-5)
    assert states[2][1][-1] < 0.8


def test_equal_to_a_bare_loop(build, tmp_path):
    from fmhub.backbones.adapter import trainable
    from fmhub.training.loop import Schedule
    from fmhub.training.network import select

    changes = {"lora": Lora(), "dropout": 0.0, "epochs": 1, "clip": 0.0, "weight_decay": 0.0}
    network, part = build(**changes)
    train(network, part, tmp_path / "a")
    bare, part = build(**changes)
    parameters = list(trainable(bare).values())
    optimiser = torch.optim.AdamW(parameters, lr=5e-3, weight_decay=0.0)
    plan = Schedule(part.encoded.lengths, bare.recipe)
    for step in range(plan.total):
        rows = plan.rows(step)
        optimiser.param_groups[0]["lr"] = plan.lr(step)
        loss, weight = bare.head_spec.loss(bare.outputs(part, rows), select(part.targets, rows, torch.device("cpu")), bare.recipe)
        optimiser.zero_grad()
        (loss / weight).backward()
        optimiser.step()
    for name, tensor in state(network).items():
        torch.testing.assert_close(tensor, state(bare)[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_schedules_rise_then_fall(schedule):
    from fmhub.training.loop import Schedule

    plan = Schedule(np.ones(1000, int), Recipe(batch=10, epochs=2, warmup=0.1, schedule=schedule, lr=1.0, evaluations=4))
    rates = [plan.lr(step) for step in range(plan.total)]
    assert plan.total == 200 and plan.readings == {25, 50, 75, 100, 125, 150, 175, 200}
    assert rates[:20] == sorted(rates[:20]) and max(rates) == pytest.approx(1.0)
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[-1] == pytest.approx({"linear": 1 / 180, "cosine": 0.0, "constant": 1.0}[schedule], abs=1e-3)


def test_early_stopping_restores_the_best_step(build, tmp_path):
    from accelerate import Accelerator

    from fmhub.training.loop import Reading, fit

    network, part = build(epochs=10, patience=2)
    scores, seen = iter([0.1, 0.9, 0.5, 0.4, 1.0]), []

    def judge():
        seen.append(state(network))
        return Reading(next(scores))

    progress = fit(network, part, judge, accelerator=Accelerator(), checkpoint=tmp_path / "a", log=lambda *_: None)
    assert (progress.step, progress.best_step, progress.finished) == (48, 24, True)
    assert same(state(network), seen[1])


@pytest.mark.parametrize(("error", "kept"), [(0.0, 12), (0.02, 12), (0.04, 36), (0.2, 48)])
def test_of_readings_that_noise_may_have_ordered_the_latest_is_kept(build, tmp_path, error, kept):
    """All within one standard error of the highest, not of one another."""
    from accelerate import Accelerator

    from fmhub.training.loop import Reading, fit

    network, part = build(epochs=4, patience=0)
    scores, seen = iter([0.80, 0.75, 0.77, 0.70]), []

    def judge():
        seen.append(state(network))
        return Reading(next(scores), error)

    progress = fit(network, part, judge, accelerator=Accelerator(), checkpoint=tmp_path / "a", log=lambda *_: None)
    assert (progress.best, progress.best_step) == (0.80, kept)
    assert same(state(network), seen[kept // 12 - 1])


def test_the_last_step_is_kept_where_the_recipe_says_so(build, tmp_path):
    from accelerate import Accelerator

    from fmhub.training.loop import Reading, fit

    network, part = build(epochs=3, patience=1, keep="last")
    scores, seen = iter([0.9, 0.5, 0.4]), []

    def judge():
        seen.append(state(network))
        return Reading(next(scores))

    progress = fit(network, part, judge, accelerator=Accelerator(), checkpoint=tmp_path / "a", log=lambda *_: None)
    assert (progress.step, progress.best_step, progress.finished) == (36, 36, False)
    assert same(state(network), seen[2])


def test_a_loss_that_is_no_number_stops_the_run(build, tmp_path):
    network, part = build(lr=10.0, clip=0.0, warmup=0.0)
    with torch.no_grad():
        network.head.layer.weight.fill_(float("nan"))
    with pytest.raises(FmhubError, match=r"loss is nan at step 10: lower recipe\.lr"):
        train(network, part, tmp_path / "a")


def test_a_damaged_checkpoint_is_refused(build, tmp_path):
    network, part = build()
    train(network, part, tmp_path / "a")
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:-10])
    with pytest.raises(UntrustedFile, match="cannot be read"):
        train(*build(), tmp_path / "a")


def test_predictions_keep_the_order_of_rows_and_never_see_targets(build, rows, tmp_path):
    from accelerate import Accelerator

    from fmhub.training.loop import predict

    network, part = build()
    train(network, part, tmp_path / "a")
    shuffled = rows.set_column(2, "target", pa.array(rows.column("target").to_pylist()[::-1]))
    one, other = (predict(network, network.prepare(table), Accelerator())["scores"] for table in (rows, shuffled))
    assert np.array_equal(np.stack(one), np.stack(other))
    order = np.random.default_rng(0).permutation(len(rows))
    mixed = predict(network, network.prepare(rows.take(order)), Accelerator())["scores"]
    np.testing.assert_allclose(np.stack(mixed), np.stack(one)[order], atol=1e-6)
