"""Half precision: scaled losses change no step, and what the scaler has learnt is resumed. Without a device for it, on stand-ins."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from fmhub.recipe import Lora, Recipe
from fmhub.task import Known
from fmhub.training import loop, ranks


class Killed(Exception):
    pass


@pytest.fixture
def trained(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Train the tiny backbone; `scaled` as fp16 is (computed in fp32), `bad` steps overflow, killed after `kill` steps."""

    def train(name: str, *, scaled: bool, bad: tuple[int, ...] = (), kill: int | None = None) -> tuple[dict[str, torch.Tensor], float]:
        from fmhub.backbones.adapter import trainable
        from fmhub.backbones.load import load
        from fmhub.heads import Classification
        from fmhub.stems import Text
        from fmhub.training.network import Network

        texts = [f"{'good' if i % 3 else 'bad'} day {'film book news'.split()[i % 3]}" for i in range(40)]
        rows = pa.table({"id": [str(i) for i in range(40)], "text": texts, "target": ["up" if i % 3 else "down" for i in range(40)]})
        recipe = Recipe(epochs=2, batch=8, lr=5e-3, dropout=0.0, l1=1e-3, clip=0.5, patience=0, lora=Lora(rank=2))
        network = Network(load(tiny, sha256="0"), Text(), Classification().fit(Known(train=rows), recipe), recipe)
        accelerator = ranks.accelerator("no")
        if scaled:
            accelerator.scaler = torch.amp.GradScaler("cpu", growth_interval=3)
            accelerator.native_amp, accelerator.state._mixed_precision = True, "fp16"
            accelerator.autocast = contextlib.nullcontext
        original, gradients = loop.step_gradients, loop.step_gradients

        def step(network, train, plan, step, accelerator, parameters):
            if step == kill:
                raise Killed
            found = gradients(network, train, plan, step, accelerator, parameters)
            if step in bad:
                parameters[0].grad[0] = float("inf")
            return found

        monkeypatch.setattr(loop, "step_gradients", step)
        monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
        with contextlib.suppress(Killed):
            loop.fit(network, network.prepare(rows), None, accelerator=accelerator, checkpoint=tmp_path / name, log=lambda *_: None)
        monkeypatch.setattr(loop, "step_gradients", original)
        scale = accelerator.scaler.get_scale() if scaled else 0.0
        ranks.accelerator("no")
        return {name: tensor.detach().clone() for name, tensor in trainable(network).items()}, scale

    return train


def test_a_scaled_loss_gives_the_same_steps(trained):
    (plain, _), (scaled, scale) = trained("plain", scaled=False), trained("scaled", scaled=True)
    assert scale == 2.0**19  # ten good steps, the scale doubled after each third
    for name, tensor in plain.items():
        torch.testing.assert_close(scaled[name], tensor, rtol=1e-4, atol=1e-6)


def test_an_overflow_skips_one_step_and_the_scale_is_resumed(trained):
    whole, scale = trained("whole", scaled=True, bad=(0, 4))
    assert all(bool(tensor.isfinite().all()) for tensor in whole.values()) and scale < 2.0**18
    for kill in (1, 3, 5, 8):
        trained(f"killed-{kill}", scaled=True, bad=(0, 4), kill=kill)
        resumed, again = trained(f"killed-{kill}", scaled=True, bad=(0, 4))
        assert again == scale
        assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


def test_bf16_is_used_where_the_device_has_it_and_stays_near(tiny, reviews, home):
    from fmhub import api

    options = {"data": str(reviews), "columns": {"text": "review", "label": "stars"}, "baseline": False, "backbone": str(tiny)}
    scores = {}
    for precision in ("bf16", "no"):
        record = api.run("text-classification", set={"epochs": 2, "lr": 0.01, "dropout": 0, "precision": precision}, **options)
        assert record["environment"]["precision"] == precision
        scores[precision] = np.stack(pq.read_table(home / "runs" / record["id"] / "predictions.parquet").column("scores").to_pylist())
    from accelerate import Accelerator

    assert Accelerator().mixed_precision == "no"
    assert 0 < np.abs(scores["bf16"] - scores["no"]).max() < 0.1
