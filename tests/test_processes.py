"""Several processes train as one: same batches, same gradients, one voice; and one that dies ends them all."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pyarrow.parquet as pq
import pytest
import torch
from cli import env, fmhub, fmhub_json

from fmhub.errors import DataError, FmhubError, UsageError
from fmhub.training import launch, ranks

STEPS = """
import sys
from dataclasses import replace
from pathlib import Path
import pyarrow as pa, torch
from safetensors.torch import save_file
from fmhub.backbones.load import load
from fmhub.heads import Classification
from fmhub.recipe import Lora, Recipe
from fmhub.stems import Text
from fmhub.training import launch, loop, ranks
from fmhub.training.network import Network
from fmhub.task import Known

tiny, out = sys.argv[1:]
words = "good fine happy bad awful sad day film book the a was it is".split()
texts = [" ".join(words[(i * 7 + j * (i % 5 + 1)) % 14] for j in range(1 + i * 5 % 11)) for i in range(97)]
rows = pa.table({"id": [str(i) for i in range(97)], "text": texts, "target": ["up" if i % 3 else "down" for i in range(97)]})
recipe = Recipe(epochs=2, batch=8, budget=40, lr=5e-3, dropout=0.0, class_weights="balanced", l1=1e-4, patience=0, lora=Lora(rank=2))
accelerator = ranks.accelerator(recipe.precision)
network = Network(load(Path(tiny), sha256="0"), Text(), Classification().fit(Known(train=rows), recipe), recipe).to(accelerator.device)
found, losses, gradients = {}, [], loop.step_gradients

def watched(network, train, plan, step, accelerator, parameters):
    loss, weight = gradients(network, train, plan, step, accelerator, parameters)
    if step == 0:
        found.update({str(number): parameter.grad.clone() for number, parameter in enumerate(parameters)})
    losses.append(loss / weight)
    return loss, weight

loop.step_gradients = watched
part = network.prepare(rows)
judge = lambda: loop.Reading(float(loop.predict(network, part, accelerator)["scores"][0][0]))
loop.fit(network, part, judge, accelerator=accelerator, checkpoint=Path(out + ".checkpoint"), log=lambda *_: None)
if accelerator.is_main_process:
    save_file({**found, "losses": torch.stack(losses), "ranks": torch.tensor(accelerator.num_processes)}, out)
accelerator.wait_for_everyone()
launch._exit(0)  # as the ranks that fmhub starts do
ranks.leave()
"""


def test_two_processes_have_the_gradients_and_losses_of_one(tiny: Path, tmp_path: Path):
    from safetensors.torch import load_file

    results = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        command = [sys.executable, "-W", "ignore", "-c", STEPS, str(tiny), str(out)]
        ranks = [
            subprocess.Popen(command, env={**environment, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)
            for environment in launch._environments(processes)
        ]
        for one in ranks:
            said = one.communicate(timeout=300)[1]
            assert one.returncode == 0, said
        results.append(load_file(out))
    one, two = results
    assert (int(one.pop("ranks")), int(two.pop("ranks"))) == (1, 2)
    losses, others = one.pop("losses"), two.pop("losses")
    assert len(losses) == 26  # the last step of each epoch holds one row: nothing is left for the second process
    torch.testing.assert_close(others[:20], losses[:20], rtol=1e-4, atol=0)
    assert losses[-5:].mean() < losses[:5].mean()
    assert one.keys() == two.keys() and sum(float(gradient.norm()) > 0 for gradient in one.values()) > 5
    for name, gradient in one.items():
        assert (two[name] - gradient).norm() <= 1e-5 * gradient.norm()


# ------------------------------------------------------------------------------------------------------------------ the command line


def arguments(tiny: Path, reviews: Path, *more: object) -> list[str]:
    words = ["run", "text-classification", "--backbone", tiny, "--data", reviews, "--columns", "text=review,label=stars", "--no-baseline"]
    settings = {"epochs": 4, "lr": 0.01, "dropout": 0, "batch": 8, "evaluations": 12, "patience": 0}
    words += [word for key, value in settings.items() for word in ("--set", f"recipe.{key}={value}")]
    return [str(word) for word in [*words, *more]]


def adapter(home: Path, record: dict) -> str:
    return hashlib.sha256((home / "runs" / record["id"] / "adapter" / "adapter.safetensors").read_bytes()).hexdigest()


def predictions(home: Path, record: dict) -> list[dict]:
    return pq.read_table(home / "runs" / record["id"] / "predictions.parquet").to_pylist()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> tuple[Path, Path, dict]:
    """A home, a csv, and the record of a run of two processes."""
    place = tmp_path_factory.mktemp("two")
    lines = [
        f"{'good' if i % 2 else 'bad'} day {'film book news red blue'.split()[i % 5]} {i},{'up' if i % 2 else 'down'}" for i in range(120)
    ]
    (place / "reviews.csv").write_text("review,stars\n" + "\n".join(lines) + "\n")
    done = fmhub(*arguments(tiny, place / "reviews.csv", "--processes", 2, "--json"), home=place / "home")
    record = json.loads(done.stdout)
    assert done.stderr.count(f"step {record['recipe']['epochs'] * 9:.0f}/") <= 1  # one of them speaks
    return place / "home", place / "reviews.csv", record


def test_a_run_of_two_is_one_run_with_the_scores_of_one_process(two, tiny, tmp_path):
    home, csv, record = two
    assert record["environment"]["processes"] == 2 and record["test_readings"] == 1
    assert [row["id"] for row in fmhub_json("runs", "--json", home=home)] == [record["id"]]
    entries = fmhub_json("leaderboard", "text-classification", "--json", home=home)[0]["entries"]
    assert [entry["run"] for entry in entries if entry["kind"] != "baseline"] == [record["id"]]
    assert "processes" not in json.loads((home / "runs" / record["id"] / "plan.json").read_text())["options"]
    alone = fmhub_json(*arguments(tiny, csv, "--json", "--quiet"), home=tmp_path)
    assert alone["environment"]["processes"] == 1
    ours, theirs = predictions(home, record), predictions(tmp_path, alone)
    assert [row["id"] for row in ours] == [row["id"] for row in theirs]
    assert (
        max(abs(a - b) for one, other in zip(ours, theirs, strict=True) for a, b in zip(one["scores"], other["scores"], strict=True)) < 0.01
    )
    for metric, score in record["scores"]["test"].items():
        assert score["value"] == pytest.approx(alone["scores"]["test"][metric]["value"], abs=0.05)


def test_what_is_decided_is_decided_once_for_all(two, tiny, tmp_path):
    _, csv, _ = two
    words = arguments(tiny, csv, "--processes", 2, "--fast", "--seeds", 2, "--set", "recipe.epochs=1", "--json", "--quiet")
    record = fmhub_json(*words, home=tmp_path)
    assert record["environment"]["processes"] == 2 and record["seeds"] == 2 and record["notes"][0].startswith("--fast: layers=")


def started(command: list[str], home: Path) -> tuple[subprocess.Popen, dict[int, psutil.Process]]:
    """The command with its ranks, once they have written a checkpoint of their own."""
    before = {path: path.stat().st_mtime_ns for path in home.glob("runs/*/checkpoints/*/state.safetensors")}
    process = subprocess.Popen(
        [sys.executable, "-m", "fmhub", *command], env=env(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 240
    while all(before.get(path) == path.stat().st_mtime_ns for path in home.glob("runs/*/checkpoints/*/state.safetensors")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)
    ranks = {int(child.environ()["RANK"]): child for child in psutil.Process(process.pid).children() if "RANK" in child.environ()}
    assert sorted(ranks) == [0, 1]
    return process, ranks


def gone(ranks: dict[int, psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(ranks.values(), timeout=10)
    return not alive


@pytest.mark.slow
def test_whatever_is_killed_all_end_and_the_resumed_run_has_the_same_bits(two, tiny, tmp_path):
    home, csv, record = two
    process, ranks = started(arguments(tiny, csv, "--processes", 2), tmp_path)
    ranks[1].send_signal(signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    run = next(tmp_path.glob("runs/*")).name
    last = said.strip().splitlines()[-2:]
    assert process.returncode == 1 and gone(ranks)
    assert last[0].startswith("Error: Process 1 of 2 was killed by SIGKILL")
    assert last[1] == f"The run can go on: fmhub run text-classification --resume {run} --processes 2"

    command = ["run", "text-classification", "--resume", run, "--processes", "2"]
    process, ranks = started(command, tmp_path)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1 and gone(ranks) and said.strip().endswith(f"--resume {run} --processes 2")
    assert json.loads((tmp_path / "runs" / run / "status.json").read_text())["status"] == "stopped"

    process, ranks = started(command, tmp_path)
    process.kill()
    process.communicate(timeout=60)
    assert gone(ranks)

    resumed = fmhub_json(*command, "--json", "--quiet", home=tmp_path)
    assert adapter(tmp_path, resumed) == adapter(home, record)
    assert predictions(tmp_path, {"id": run}) == [{**row} for row in predictions(home, record)]


@pytest.mark.slow
def test_accelerates_own_launcher_brings_up_what_it_was_asked_for(two, tiny, tmp_path):
    home, csv, record = two
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
    ]
    command += [
        "--dynamo_backend",
        "no",
        "--num_cpu_threads_per_process",
        "1",
        "--module",
        "fmhub",
        *arguments(tiny, csv, "--json", "--quiet"),
    ]
    done = subprocess.run(command, env=env(tmp_path), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["environment"]["processes"] == 2 and adapter(tmp_path, found) == adapter(home, record)


@pytest.mark.slow
def test_ranks_that_a_launcher_started_make_one_run_and_one_speaks(two, tiny, tmp_path):
    home, csv, record = two
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "fmhub", *arguments(tiny, csv, "--json", "--quiet")],
            env=env(
                tmp_path,
                **{name: value for name, value in environment.items() if name.startswith(("WORLD", "LOCAL", "RANK", "MASTER", "GLOO"))},
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for environment in launch._environments(2)
    ]
    (first, _), (second, noise) = (one.communicate(timeout=300) for one in ranks)
    assert [one.returncode for one in ranks] == [0, 0], noise
    found = json.loads(first)
    assert second == "" and noise == ""
    assert found["environment"]["processes"] == 2 and adapter(tmp_path, found) == adapter(home, record)
    assert [path.name for path in tmp_path.glob("runs/*")] == [found["id"]]


# ------------------------------------------------------------------------------------------------------------------ what is refused


OWN = """
from fmhub import data, heads
from fmhub.evaluation import baselines

def rows():
    import pyarrow as pa
    return pa.table({"text": [f"{'good' if i % 2 else 'bad'} day {i}" for i in range(60)], "target": ["down", "up"] * 30})

@hookimpl
def fmhub_tasks():
    yield Task(
        name="own", title="Own", data=data.rows(rows, split=data.Random(), text="text", label="target"), backbone="minilm-l6",
        head=heads.Classification(), metrics=["accuracy"], baselines=(baselines.Untrained(), baselines.FrozenHead()),
    )
"""


def test_baselines_made_of_the_network_wait_for_no_other_rank(tiny, distribution, site, tmp_path):
    """They are the first rank's alone."""
    distribution("fmhub-own", OWN)
    words = ("run", "own", "--backbone", tiny, "--processes", 2, "--set", "recipe.epochs=1", "--json")
    record = fmhub_json(*words, home=tmp_path / "home", path=(site,))
    assert record["environment"]["processes"] == 2
    assert [row["name"] for row in record["baselines"]] == ["zero-shot", "frozen-head"]


def test_a_rank_says_what_a_single_process_would_say(two, tiny, tmp_path):
    _, csv, _ = two
    said = fmhub(*arguments(tiny, csv, "--processes", 2, "--set", "recipe.precision=fp16"), home=tmp_path, code=2).stderr
    assert said.startswith("Error: recipe.precision=fp16 is not possible here: the device cpu has no such arithmetic.")
    assert len(said.splitlines()) == 1 and not list(tmp_path.glob("runs/*"))


def problem(*ranks: tuple[int, dict[str, str]], ended: tuple[int, ...], notes: tuple[bytes, ...] = (b"", b"")) -> FmhubError:
    processes = [SimpleNamespace(returncode=code) for code, _ in ranks]
    return launch._problem(processes, ended, [said for _, said in ranks], [io.BytesIO(text) for text in notes], "RESUME")


def test_the_cause_is_told_not_what_followed_from_it():
    lost = {"kind": "RuntimeError", "message": "RuntimeError: Connection closed by peer", "traceback": "..."}
    known = {"kind": "DataError", "message": "Row 3 is empty.", "traceback": "..."}
    found = problem((1, lost), (1, known), ended=(0, 1))
    assert isinstance(found, DataError) and str(found) == "Row 3 is empty."
    found = problem((1, lost), (-signal.SIGKILL, {}), ended=(0, 1))
    assert str(found) == "Process 1 of 2 was killed by SIGKILL (out of memory?).\nThe run can go on: RESUME"
    found = problem((1, lost), (1, {**lost, "message": "MemoryError: "}), ended=(1, 0))
    assert str(found).startswith("Process 1 of 2 failed: MemoryError: \n") and found.exit_code == 1
    found = problem((0, {}), (3, {}), ended=(0, 1), notes=(b"", b"one\nimport failed\n"))
    assert str(found).startswith("Process 1 of 2 failed: import failed\n")
    found = problem((0, {}), (3, {}), ended=(0, 1))
    assert str(found).startswith("Process 1 of 2 failed: exit code 3\n")
    assert isinstance(problem((1, {**lost, "kind": "nearest"}), (0, {}), ended=(0, 1)), FmhubError)


@pytest.mark.parametrize("number", [0, -1])
def test_a_number_of_processes_is_at_least_one(number):
    with pytest.raises(UsageError, match="from 1"):
        launch.count(number)


def test_fewer_processes_than_asked_for_are_an_error(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(ranks, "asked", lambda: 2)
    monkeypatch.setattr(ranks, "PATIENCE", None)
    with pytest.raises(FmhubError, match="2 processes were asked for, and 1 came up"):
        ranks.join()


def test_a_launcher_inside_a_launcher_and_one_without_a_number_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="leave one of them out"):
        launch.count(2)
    assert launch.count(1) == 1
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(FmhubError, match="asked for several processes and started one"):
        launch.count(1)
    assert launch.count(3) == 3


def test_a_task_of_this_process_only_cannot_run_in_others(tiny, reviews, tmp_path, monkeypatch):
    from fmhub import api, hub

    monkeypatch.setattr(hub, "is_local", lambda name: True)
    with pytest.raises(UsageError, match="registered in this process only"):
        api.run("text-classification", backbone=str(tiny), data=str(reviews), columns={"text": "review", "label": "stars"}, processes=2)
    assert not list((Path(os.environ["FMHUB_HOME"]) / "runs").glob("*"))


def test_precision_is_checked_before_training_and_forgotten_after():
    assert ranks.accelerator("bf16").mixed_precision == "bf16"
    assert ranks.accelerator("no").mixed_precision == "no"
    with pytest.raises(UsageError, match=r"recipe\.precision=fp16 is not possible here"):
        ranks.accelerator("fp16")
    assert ranks.accelerator().mixed_precision == "no"


def test_threads_are_shared_and_ports_free(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    one, two = launch._environments(1)[0], launch._environments(2)
    assert int(two[0]["OMP_NUM_THREADS"]) == max(1, int(one["OMP_NUM_THREADS"]) // 2)
    assert [entry["RANK"] for entry in two] == ["0", "1"] and two[0]["MASTER_PORT"] == two[1]["MASTER_PORT"]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert launch._environments(2)[0]["OMP_NUM_THREADS"] == "3"
