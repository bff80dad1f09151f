"""The main job as users run it: through the command line, in processes of their own, on data of their own."""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from cli import env, fmhub, fmhub_json

COLUMNS = ("--columns", "text=review,label=stars")
FAST = ("--set", "recipe.epochs=2", "--set", "recipe.lr=0.01", "--set", "recipe.lora.rank=2")
KEYS = {
    "id", "status", "task", "backbone", "data", "recipe", "seed", "scores", "primary", "normalised", "baselines", "folds", "groups",
    "privacy", "cost", "environment", "test_readings",
}  # fmt: skip
COSTS = {
    "train_seconds", "total_seconds", "samples_per_second", "peak_memory_bytes", "trainable_parameters", "total_parameters",
    "adapter_bytes", "cpu_seconds", "latency_ms",
}  # fmt: skip


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> tuple[Path, dict, Path]:
    """A home with one complete run on the tiny backbone, its record and the csv."""
    place = tmp_path_factory.mktemp("done")
    csv = place / "reviews.csv"
    words = "day film book news the was it is not very we they red blue".split()
    lines = [
        f"{words[i % 7]} {'good' if i % 2 else 'bad'} {words[(i * 5) % 14]} {words[i % 13]} {words[i % 11]},{'up' if i % 2 else 'down'}"
        for i in range(160)
    ]
    csv.write_text("review,stars\n" + "\n".join(dict.fromkeys(lines)) + "\n")
    arguments = ("run", "text-classification", "--backbone", tiny, "--data", csv, *COLUMNS, *FAST, "--json")
    return place / "home", fmhub_json(*arguments, home=place / "home"), csv


def test_the_record_has_the_promised_keys_with_true_values(done):
    home, record, _ = done
    folder = home / "runs" / record["id"]
    assert set(record) >= KEYS and set(record["cost"]) >= COSTS
    assert json.loads((folder / "run.json").read_text()) == record
    for scores in [record["scores"], *(row["scores"] for row in record["baselines"])]:
        for split in scores.values():
            for score in split.values():
                assert score["n"] > 0 and score["low"] <= score["value"] <= score["high"]
    for row in record["baselines"]:
        assert row["difference"]["low"] <= row["difference"]["value"] <= row["difference"]["high"]
    from safetensors import safe_open

    with safe_open(folder / "adapter" / "adapter.safetensors", framework="np") as file:
        sizes = sum(file.get_tensor(name).size for name in file.keys())  # noqa: SIM118
    assert record["cost"]["trainable_parameters"] == sizes
    assert 50 << 20 < record["cost"]["peak_memory_bytes"] < 4 << 30
    assert 0 < record["cost"]["train_seconds"] <= record["cost"]["total_seconds"]
    assert record["test_readings"] == 1 and record["status"] == "done"


def test_scores_can_be_recomputed_from_the_predictions(done):
    from sklearn.metrics import accuracy_score, f1_score

    home, record, _ = done
    table = pq.read_table(home / "runs" / record["id"] / "predictions.parquet").to_pylist()
    for split, scores in record["scores"].items():
        rows = [row for row in table if row["split"] == split]
        truth, found = [row["target"] for row in rows], [row["prediction"] for row in rows]
        assert scores["f1_macro"]["n"] == len(rows)
        assert scores["f1_macro"]["value"] == pytest.approx(f1_score(truth, found, average="macro"), abs=1e-9)
        assert scores["accuracy"]["value"] == pytest.approx(accuracy_score(truth, found), abs=1e-9)


def test_the_same_command_gives_the_same_bytes_and_a_new_process_the_same_predictions(done, tiny, tmp_path):
    home, record, csv = done
    again = fmhub_json(
        "run", "text-classification", "--backbone", tiny, "--data", csv, *COLUMNS, *FAST, "--json", "--no-baseline", home=tmp_path / "h"
    )
    first, second = home / "runs" / record["id"], tmp_path / "h" / "runs" / again["id"]
    assert sha(first / "adapter" / "adapter.safetensors") == sha(second / "adapter" / "adapter.safetensors")
    assert pq.read_table(first / "predictions.parquet").equals(pq.read_table(second / "predictions.parquet"))
    rows = [row for row in pq.read_table(first / "predictions.parquet").to_pylist() if row["split"] == "test"]
    found = fmhub_json("predict", record["id"], *(row["input"] for row in rows), "--json", home=home)
    assert [row["prediction"] for row in found] == [row["prediction"] for row in rows]
    for mine, kept in zip(found, rows, strict=True):
        assert list(mine["scores"].values()) == pytest.approx(kept["scores"], abs=1e-6)


def test_a_run_is_listed_shown_and_on_the_board_and_can_be_removed(done, tmp_path):
    home, record, _ = done
    copy = tmp_path / "home"
    shutil.copytree(home, copy)
    assert [row["id"] for row in fmhub_json("runs", "--json", home=copy)] == [record["id"]]
    assert fmhub_json("runs", "show", record["id"][:30], home=copy) == record
    board = json.dumps(fmhub_json("leaderboard", "text-classification", "--json", home=copy))
    assert record["id"] in board and record["baselines"][0]["name"] in board
    fmhub("runs", "rm", record["id"], home=copy)
    assert fmhub_json("runs", "--json", home=copy) == []


def test_output_names_the_folder_of_the_run(done, tiny, tmp_path):
    _, _, csv = done
    arguments = (
        "run",
        "text-classification",
        "--backbone",
        tiny,
        "--data",
        csv,
        *COLUMNS,
        *FAST,
        "--no-baseline",
        "--output",
        tmp_path / "out",
    )
    shown = fmhub(*arguments, home=tmp_path / "h").stdout
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["id"] in shown
    assert fmhub_json("runs", "--json", home=tmp_path / "h")[0]["folder"] == str(tmp_path / "out")
    assert "not an empty folder" in fmhub(*arguments, home=tmp_path / "h", code=2).stderr
    assert fmhub("predict", tmp_path / "out", "a good day", home=tmp_path / "h").stdout.startswith(("up", "down"))


def lines(path: Path, *rows: str, encoding: str = "utf-8") -> Path:
    path.write_bytes("\n".join(rows).encode(encoding) + b"\n")
    return path


ROWS = [f"some text number {i},{'up' if i % 2 else 'down'}" for i in range(40)]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run", "sentimnt"], 2, "Did you mean sentiment"),
        (["run", "sentiment", "--backbone", "minilm-16"], 2, "Did you mean minilm-l6"),
        (["run", "sentiment", "--set", "recipe.epoch=1"], 2, "Did you mean epochs"),
        (["run", "sentiment", "--set", "recipe.lora.layers=first"], 2, "last:K"),
        (["run", "sentiment", "--set", "recipe.lr"], 2, "NAME=VALUE"),
        (["run", "sentiment", "--set", "recipe.epochs=many"], 2, "float"),
        (["run", "sentiment", "--limit", "0"], 2, "from 1"),
        (["run", "sentiment", "--seeds", "0"], 2, "from 1"),
        (["run", "sentiment", "--columns", "text=a"], 2, "--data"),
        (["run"], 2, "Name one or more tasks"),
        (["run", "text-classification"], 2, "--data"),
        (["run", "text-classification", "--data", "nowhere.csv"], 1, "nowhere.csv"),
        (["run", "sentiment", "--resume", "nothing"], 2, "No run"),
        (["predict", "nothing", "x"], 2, "No run"),
        (["runs", "show", "nothing"], 2, "No run"),
        (["report", "nothing"], 2, "No run"),
        (["rnu"], 2, "Did you mean"),
    ],
)
def test_wrong_usage_is_one_clear_line_and_leaves_nothing(arguments, code, said, home, tiny):
    shown = fmhub(*arguments, home=home, code=code)
    assert said in shown.stderr and shown.stdout == ""
    assert len(shown.stderr.strip().splitlines()) <= 4
    assert not list((home / "runs").glob("*")) if home.exists() else True


@pytest.mark.parametrize(
    ("rows", "columns", "said"),
    [
        (["review,stars", *ROWS], "text=reviw,label=stars", "Did you mean review"),
        (["review,stars", *ROWS[:7], "lonely,", *ROWS[7:]], "text=review,label=stars", "label"),
        (["review,stars", *[row.replace("down", "up") for row in ROWS]], "text=review,label=stars", "one"),
        (["review,stars"], "text=review,label=stars", "no rows"),
        ([""], "text=review,label=stars", "empty"),
    ],
)
def test_unusable_rows_are_one_clear_line_and_leave_nothing(rows, columns, said, home, tiny, tmp_path):
    path = lines(tmp_path / "my.csv", *rows)
    shown = fmhub("run", "text-classification", "--backbone", tiny, "--data", path, "--columns", columns, home=home, code=1)
    assert said in shown.stderr
    assert len(shown.stderr.strip().splitlines()) <= 3 and not list((home / "runs").glob("*"))


def test_a_broken_encoding_and_an_unknown_test_label_are_named(home, tiny, tmp_path):
    broken = lines(tmp_path / "latin.csv", "review,stars", *ROWS, "caf\xe9,up", encoding="latin-1")
    shown = fmhub("run", "text-classification", "--backbone", tiny, "--data", broken, *COLUMNS, home=home, code=1).stderr
    assert "latin.csv" in shown and "UTF-8" in shown
    train, held = (
        lines(tmp_path / "train.csv", "review,stars", *ROWS),
        lines(tmp_path / "held.csv", "review,stars", "fine text,sideways", "more,up"),
    )
    shown = fmhub("run", "text-classification", "--backbone", tiny, "--data", train, "--test", held, *COLUMNS, home=home, code=1).stderr
    assert "sideways" in shown
    assert not list((home / "runs").glob("*"))


def test_a_home_that_cannot_be_written_and_a_full_disk(done, tiny, tmp_path):
    _, _, csv = done
    arguments = ("run", "text-classification", "--backbone", tiny, "--data", csv, *COLUMNS, *FAST, "--no-baseline", "--quiet")
    (tmp_path / "file").write_text("")
    shown = fmhub(*arguments, home=tmp_path / "file" / "home", code=1).stderr
    assert "Cannot write" in shown and "FMHUB_HOME" in shown

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    command = [sys.executable, "-m", "fmhub", *map(str, arguments)]
    done_ = subprocess.run(command, env=env(tmp_path / "home"), capture_output=True, text=True, preexec_fn=small, check=False)
    assert done_.returncode == 1 and "Cannot write" in done_.stderr and "Traceback" not in done_.stderr
    assert not list(tmp_path.glob("home/**/.*.safetensors*"))


def test_ctrl_c_leaves_a_resumable_run_and_an_untouched_board(done, tiny, tmp_path):
    _, _, csv = done
    home = tmp_path / "home"
    arguments = [
        "run",
        "text-classification",
        "--backbone",
        str(tiny),
        "--data",
        str(csv),
        *COLUMNS,
        *FAST,
        "--set",
        "recipe.epochs=60",
        "--no-baseline",
    ]
    patient = ["--set", "recipe.patience=0"]
    started = subprocess.Popen([sys.executable, "-m", "fmhub", *arguments, *patient], env=env(home), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(home.glob("runs/*/checkpoints/*/state.safetensors")):
        assert started.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    started.send_signal(signal.SIGINT)
    said = started.communicate(timeout=60)[1]
    assert started.returncode == 1 and "--resume" in said and "Traceback" not in said
    (run,) = fmhub_json("runs", "--json", home=home)
    assert run["status"] == "stopped"
    assert fmhub_json("leaderboard", "--json", home=home) in ([], {}) or run["id"] not in fmhub("leaderboard", "--json", home=home).stdout
    resumed = fmhub_json("run", "text-classification", "--resume", run["id"], "--json", home=home)
    whole = fmhub_json(*arguments, *patient, "--json", home=tmp_path / "other")
    assert sha(home / "runs" / run["id"] / "adapter" / "adapter.safetensors") == sha(
        tmp_path / "other" / "runs" / whole["id"] / "adapter" / "adapter.safetensors"
    )
    assert resumed["scores"] == whole["scores"]


AUDIT = """
import os, sys
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.bind") or (event == "socket.__new__" and arguments[1] != 1):
        open(os.environ["AUDIT_FILE"], "a").write(f"{event} {arguments}\\n")
sys.addaudithook(hook)
"""


def test_offline_opens_no_socket_and_a_changed_weight_is_refused_by_name(weights, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(weights, home)
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "sitecustomize.py").write_text(AUDIT)
    log = tmp_path / "sockets"
    log.touch()
    arguments = (
        "run",
        "sentiment",
        "--limit",
        "200",
        "--set",
        "recipe.epochs=1",
        "--no-baseline",
        "--set",
        "recipe.lora.layers=head",
        "--json",
    )
    more = {"FMHUB_OFFLINE": "1", "AUDIT_FILE": str(log), "OMP_NUM_THREADS": "2"}
    record = fmhub_json(*arguments, home=home, path=(tmp_path / "audit",), **more)
    assert record["data"]["train"] == 200
    assert log.read_text() == ""
    (path,) = home.glob("backbones/minilm-l6/*/model.safetensors")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(data)
    shown = fmhub(*arguments, home=home, code=1, **more).stderr
    assert "model.safetensors" in shown and "minilm-l6" in shown
