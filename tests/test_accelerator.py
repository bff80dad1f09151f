"""On a GPU or its like: the same code, the same scores, resumed to the same bits. `pytest -m accelerator` where there is one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from cli import env, fmhub_json
from test_processes import STEPS, adapter, arguments, predictions

pytestmark = pytest.mark.accelerator
PROCESSOR = {"ACCELERATE_USE_CPU": "true"}


@pytest.fixture(autouse=True)
def present():
    assert torch.accelerator.is_available(), "These tests need an accelerator that torch finds."


def scores(home: Path, record: dict) -> np.ndarray:
    return np.stack([row["scores"] for row in predictions(home, record)])


def test_an_accelerator_has_the_gradients_and_losses_of_a_processor(tiny: Path, tmp_path: Path):
    from safetensors.torch import load_file

    results = []
    for name, environment in (("here", {}), ("processor", PROCESSOR)):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", STEPS, str(tiny), str(tmp_path / name)], env=env(tmp_path, **environment), check=False
        )
        assert done.returncode == 0
        results.append(load_file(tmp_path / name))
    here, processor = results
    torch.testing.assert_close(here.pop("losses")[:20], processor.pop("losses")[:20], rtol=1e-4, atol=0)
    for name in here.keys() - {"ranks"}:
        assert (here[name] - processor[name]).norm() <= 1e-4 * processor[name].norm()


@pytest.mark.parametrize("layers", ["all", "last:1"])
def test_a_run_uses_it_and_scores_as_on_a_processor(layers, tiny, reviews, tmp_path):
    words = arguments(tiny, reviews, "--set", f"recipe.lora.layers={layers}", "--json", "--quiet")
    here, processor = fmhub_json(*words, home=tmp_path / "here"), fmhub_json(*words, home=tmp_path / "processor", **PROCESSOR)
    assert here["environment"]["device"] != "cpu" == processor["environment"]["device"]
    assert np.abs(scores(tmp_path / "here", here) - scores(tmp_path / "processor", processor)).max() < 0.01
    answers = fmhub_json("predict", here["id"], "good day", "awful day", "--json", home=tmp_path / "here")
    assert [answer["prediction"] for answer in answers] == ["up", "down"]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_scores_nearly_as_whole(precision, tiny, reviews, tmp_path):
    whole = fmhub_json(*arguments(tiny, reviews, "--json", "--quiet"), home=tmp_path)
    half = fmhub_json(*arguments(tiny, reviews, "--set", f"recipe.precision={precision}", "--json", "--quiet"), home=tmp_path)
    assert half["environment"]["precision"] == precision
    assert 0 < np.abs(scores(tmp_path, half) - scores(tmp_path, whole)).max() < 0.2
    assert half["scores"]["test"]["accuracy"]["value"] >= whole["scores"]["test"]["accuracy"]["value"] - 0.1


@pytest.mark.parametrize("precision", ["no", "fp16"])
def test_what_is_killed_and_resumed_has_the_same_bits(precision, tiny, reviews, tmp_path):
    words = arguments(tiny, reviews, "--set", f"recipe.precision={precision}")
    whole = fmhub_json(*words, "--json", "--quiet", home=tmp_path / "whole")
    process = subprocess.Popen([sys.executable, "-m", "fmhub", *words], env=env(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 240
    while not list(tmp_path.glob("runs/*/checkpoints/*/state.safetensors")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    run = next(tmp_path.glob("runs/*")).name
    assert json.loads((tmp_path / "runs" / run / "status.json").read_text())["status"] != "done"
    resumed = fmhub_json("run", "text-classification", "--resume", run, "--json", "--quiet", home=tmp_path)
    assert adapter(tmp_path, resumed) == adapter(tmp_path / "whole", whole)
    assert predictions(tmp_path, resumed) == predictions(tmp_path / "whole", whole)
