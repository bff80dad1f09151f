"""A run from plan to record: what stands in it is true, what is asked wrongly leaves nothing, what is interrupted goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from cli import env
from toy import RECIPE, Trap, adapter, registered, same_end, task, write

from fmhub import Adapter, Lora, Reads, api, data, heads
from fmhub.backbones.packed import Packed
from fmhub.cli import main
from fmhub.errors import DataError, FmhubError, Stopped, UsageError
from fmhub.leaderboard import store
from fmhub.report import run as report_run
from fmhub.runs import folder as run_folder
from fmhub.training.folds import load_rows
from fmhub.training.targets import targets_of, with_targets

KEYS = {
    "id", "status", "started", "task", "backbone", "data", "recipe", "seed", "seeds", "scores", "units", "primary", "normalised",
    "baselines", "folds", "groups", "curve", "decisions", "saved", "privacy", "cost", "environment", "test_readings", "notes",
}  # fmt: skip


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return write(tmp_path / "toy.csv")


@pytest.fixture
def toy(tiny: Path, csv: Path):
    with registered(task(tiny, csv)) as one:
        yield one


def scores(value: Any):
    """Every {value, low, high} inside a record."""
    if isinstance(value, dict):
        if {"value", "low", "high"} <= value.keys():
            yield value
        for one in value.values():
            yield from scores(one)
    elif isinstance(value, list):
        for one in value:
            yield from scores(one)


def test_the_record_has_the_contracts_keys_with_true_values(toy, tmp_path):
    record = api.run("toy", output=tmp_path / "run", groups="year")
    folder = tmp_path / "run"
    assert record.keys() == KEYS and json.loads((folder / "run.json").read_text()) == record
    assert record["status"] == "done" and record["privacy"] is None and record["folds"] is None and record["curve"] is None
    found = list(scores(record))
    assert len(found) > 10 and all(one["low"] <= one["value"] <= one["high"] for one in found)
    predictions = pq.read_table(folder / "predictions.parquet")
    assert predictions.num_rows == record["data"]["validation"] + record["data"]["test"]
    assert record["data"]["train"] + predictions.num_rows == 160
    cost, tensors = record["cost"], adapter(folder)
    assert cost["trainable_parameters"] == sum(tensor.numel() for tensor in tensors.values())
    assert cost["total_parameters"] > cost["trainable_parameters"] > 0
    assert cost["adapter_bytes"] == sum(path.stat().st_size for path in (folder / "adapter").iterdir())
    assert 1e8 < cost["peak_memory_bytes"] < 1e11
    assert cost["total_seconds"] > cost["train_seconds"] > 0 and cost["samples_per_second"] > 1 and cost["latency_ms"] > 0
    assert record["test_readings"] == 1
    assert set(record["groups"]["year"]["values"]) == {"2000", "2001", "2002"}
    assert sum(one["accuracy"]["n"] for one in record["groups"]["year"]["values"].values()) == record["data"]["test"]
    assert not (folder / "checkpoints").exists()
    board = store.board("toy")[0]
    assert {entry["name"] for entry in board["entries"]} == {record["id"], "majority"}
    assert next(e for e in board["entries"] if e["kind"] == "run")["scores"]["test"] == record["scores"]["test"]


def test_a_task_that_fails_stops_no_other_one(toy, monkeypatch, capsys):
    one, whole = api.run, iter([FmhubError("the disk is full"), None, Stopped("Stopped.")])

    def run(name, **options):
        if error := next(whole):
            raise error
        return one(name, **options)

    monkeypatch.setattr(api, "run", run)
    assert main(["run", "toy", "local:toy", "--set", "epochs=1", "--quiet", "--json"]) == 1
    told = capsys.readouterr()
    assert [record["task"]["name"] for record in json.loads(told.out)] == ["toy"] and "toy: the disk is full" in told.err
    assert main(["run", "toy", "toy"]) == 1 and capsys.readouterr().err == "Stopped.\n", "Ctrl-C is for all"


def test_seeds_are_averaged_and_the_best_on_validation_is_saved(toy, tmp_path):
    record = api.run("toy", output=tmp_path / "run", seeds=3, seed=5)
    predictions = pq.read_table(tmp_path / "run" / "predictions.parquet").to_pandas()
    test = predictions[predictions["split"] == "test"]
    each = (test["prediction"] == test["target"]).groupby(test["seed"]).mean()
    assert list(each.index) == [5, 6, 7] and record["seeds"] == 3 and record["seed"] == 5
    assert record["scores"]["test"]["accuracy"]["value"] == pytest.approx(each.mean())
    assert record["scores"]["test"]["accuracy"]["n"] == record["data"]["test"]
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    readings = [(row["member"], row["validation"]) for row in log if "validation" in row]
    best = {member: max(value for name, value in readings if name == member) for member, _ in readings}
    assert best[record["saved"]["member"]] == max(best.values())
    alone = api.run("toy", output=tmp_path / "alone", seed=record["saved"]["seed"])
    left, right = adapter(tmp_path / "run"), adapter(tmp_path / "alone")
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert alone["scores"]["test"]["accuracy"]["value"] == each[record["saved"]["seed"]]


def test_limit_cuts_the_training_part_only_and_knows_labels_it_has_not_seen(tiny, tmp_path):
    path = write(tmp_path / "toy.csv")
    lines = path.read_text().splitlines() + [f"the news {n},{('left', 'right')[n % 2]},r{n},a,2000" for n in range(40)]
    path.write_text("\n".join(lines) + "\n")
    with registered(task(tiny, path)):
        plan = api.plan("toy", limit=2)
        cut = api.run("toy", limit=2, set={"epochs": 1}, output=tmp_path / "run")
    test = plan.task.data.load().tables["test"]
    assert load_rows(plan).counts["train"] == cut["data"]["train"] == 2 and cut["data"]["test"] == len(test)
    assert (
        set(test["target"].to_pylist()) == {"up", "down", "left", "right"} == set(run_folder.read_plan(tmp_path / "run")["head"]["labels"])
    )


@pytest.mark.parametrize(
    "options",
    [
        {"limit": 0}, {"limit": -3}, {"seeds": 0}, {"folds": 1}, {"folds": 0}, {"curve": [1]}, {"curve": [0, 30]}, {"curve": [5000]},
        {"budget": "10"}, {"budget": "0m"}, {"budget": "-5m"}, {"budget": ""}, {"fast": True, "budget": "1m"}, {"folds": 3, "curve": [30]},
        {"fast": True, "set": {"recipe.lora.layers": "last:1"}}, {"groups": "yaer"}, {"seed": -1}, {"set": {"lora.rnk": 3}}, {"folds": 500},
    ],
)  # fmt: skip
def test_what_is_asked_wrongly_is_refused_and_leaves_nothing(toy, home, tmp_path, options):
    with pytest.raises((UsageError, DataError)) as error:
        api.run("toy", output=tmp_path / "run", **options)
    assert "\n" not in str(error.value) and len(str(error.value)) > 20
    assert not (tmp_path / "run").exists()
    assert not list((home / "runs").glob("*")) if (home / "runs").exists() else True


def test_a_near_name_is_shown_for_a_column_that_is_not_there(toy):
    with pytest.raises(UsageError, match="year"):
        api.run("toy", groups="yaer")


def test_a_target_that_does_not_fit_is_refused_before_a_folder_is_made(tiny, csv, home):
    with registered(task(tiny, csv, head=heads.Classification(labels=["up", "sideways"]))), pytest.raises(DataError, match="down"):
        api.run("toy")
    assert not list((home / "runs").iterdir())


def test_ctrl_c_stops_a_run_that_goes_on_from_elsewhere_and_ends_in_the_same_bits(toy, tmp_path, monkeypatch):
    api.run("toy", output=tmp_path / "whole", seeds=2)
    before = store.board("toy")
    with monkeypatch.context() as patched:
        Trap(patched, 30, KeyboardInterrupt())
        with pytest.raises(Stopped, match="--resume"):
            api.run("toy", output=tmp_path / "cut", seeds=2)
    identity = run_folder.read_plan(tmp_path / "cut")["id"]
    assert run_folder.read_status(tmp_path / "cut") == "stopped" and store.board("toy") == before
    monkeypatch.chdir("/")
    with pytest.raises(UsageError, match="own options"):
        api.run("toy", resume=identity, seeds=3)
    record = api.run("toy", resume=identity)
    assert record["id"] == identity and record["status"] == "done"
    assert same_end(tmp_path / "whole", tmp_path / "cut")
    log = [json.loads(line) for line in (tmp_path / "cut" / "log.jsonl").read_text().splitlines()]
    finished = [row["step"] for row in log if row["member"] == "seed-0" and "validation" in row]
    assert finished == sorted(set(finished)), "the seed that was done is not trained again"
    monkeypatch.setattr("fmhub.training.execute.execute", lambda *_, **__: pytest.fail("a complete run is not run again"))
    assert api.run("toy", resume=tmp_path / "cut") == record
    assert api.run("toy", resume=identity) == record
    monkeypatch.setattr("fmhub.api.replan", lambda stored: pytest.fail("a complete run needs no plugin"))
    assert api.run("toy", resume=identity) == record


def test_a_failed_run_says_so_and_can_go_on(toy, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        Trap(patched, 3, FmhubError("the roof fell in"))
        with pytest.raises(FmhubError, match="roof"):
            api.run("toy", output=tmp_path / "run")
    assert run_folder.read_status(tmp_path / "run") == "failed"
    assert api.run("toy", resume=tmp_path / "run")["status"] == "done"


def test_a_resumed_run_must_find_the_same_data(toy, csv, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        Trap(patched, 3, KeyboardInterrupt())
        with pytest.raises(Stopped):
            api.run("toy", output=tmp_path / "run")
    write(csv, seed=1)
    with pytest.raises(UsageError, match="data is no longer the same"):
        api.run("toy", resume=tmp_path / "run")


def test_ctrl_c_before_the_plan_leaves_nothing(toy, tmp_path, monkeypatch):
    def load(plan):
        raise KeyboardInterrupt

    monkeypatch.setattr("fmhub.training.execute.load_rows", load)
    with pytest.raises(Stopped, match="before anything began"):
        api.run("toy", output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["lora", "rslora", "dora", "ia3", "full"])
def test_every_kind_of_adapter_trains_resumes_and_comes_back(tiny, csv, tmp_path, monkeypatch, kind):
    recipe = replace(RECIPE, epochs=2, adapter=Adapter(kind=kind))
    with registered(task(tiny, csv, recipe=recipe, baselines=())):
        record = api.run("toy", output=tmp_path / "whole")
        with monkeypatch.context() as patched:
            Trap(patched, 11, KeyboardInterrupt())
            with pytest.raises(Stopped):
                api.run("toy", output=tmp_path / "cut")
        api.run("toy", resume=tmp_path / "cut")
        assert same_end(tmp_path / "whole", tmp_path / "cut")
        table = pq.read_table(tmp_path / "whole" / "predictions.parquet").to_pylist()
        test = api.plan("toy").task.data.load().tables["test"]
    texts = dict(zip(test["id"].to_pylist(), test["text"].to_pylist(), strict=True))
    rows = [row for row in table if row["split"] == "test"]
    answers = api.load(record["id"]).predict([texts[row["id"]] for row in rows])
    assert [answer["prediction"] for answer in answers] == [row["prediction"] for row in rows]
    for answer, row in zip(answers, rows, strict=True):
        assert list(answer["scores"].values()) == pytest.approx(row["scores"], abs=1e-6)
    if kind == "full":
        assert record["cost"]["trainable_parameters"] == record["cost"]["total_parameters"]
    else:
        assert record["cost"]["trainable_parameters"] < 0.6 * record["cost"]["total_parameters"]


def test_a_cached_prefix_changes_no_bit_when_warm_and_is_switched_off_by_augmentation(toy, tmp_path, capsys):
    options: dict[str, Any] = {"set": {"lora.layers": "last:1"}, "baseline": False}
    api.run("toy", output=tmp_path / "cold", quiet=False, **options)
    assert "frozen layers once" in capsys.readouterr().err
    api.run("toy", output=tmp_path / "warm", quiet=False, **options)
    assert "frozen layers once" not in capsys.readouterr().err
    assert same_end(tmp_path / "cold", tmp_path / "warm")
    api.run("toy", output=tmp_path / "noisy", quiet=False, set={"lora.layers": "last:1", "augment": "0.5"}, baseline=False)
    assert "No prefix cache: recipe.augment" in capsys.readouterr().err


def test_a_head_may_read_a_summary(tiny, csv, tmp_path, monkeypatch):
    head = heads.Classification(reads=Reads("summary"))
    with registered(task(tiny, csv, head=head, recipe=replace(RECIPE, epochs=6, lora=Lora(rank=2, layers="last:2")))):
        record = api.run("toy", output=tmp_path / "run", baseline=False)
        assert record["scores"]["test"]["accuracy"]["value"] > 0.9
        assert {name for name in adapter(tmp_path / "run") if name.startswith("head.pooler.")} == {"head.pooler.weight", "head.pooler.bias"}
        test, table = api.plan("toy").task.data.load().tables["test"], predictions(tmp_path / "run")
        for answer, row in zip(api.load(record["id"]).predict(test["text"].to_pylist()), table, strict=True):
            assert list(answer["scores"].values()) == pytest.approx(row["scores"], abs=1e-5)
        monkeypatch.setattr(Packed, "of", lambda structure: None)
        api.run("toy", output=tmp_path / "modules", baseline=False)
        for one, other in zip(table, predictions(tmp_path / "modules"), strict=True):
            assert one["scores"] == pytest.approx(other["scores"], abs=0.02)


def predictions(folder: Path) -> list[dict[str, Any]]:
    return [row for row in pq.read_table(folder / "predictions.parquet").to_pylist() if row["split"] == "test"]


@dataclass(frozen=True)
class TwoLayers(heads.Classification):
    """Joins what several layers say."""

    def build(self, backbone, stem, recipe):
        layer = torch.nn.Linear(2 * backbone.width, len(self.labels))
        layer.register_forward_pre_hook(lambda _, inputs: torch.cat(inputs[0].x, -1))
        return layer


def test_a_head_that_reads_lower_layers_is_cached_below_them(tiny, csv, tmp_path, monkeypatch, capsys):
    options: dict[str, Any] = {"set": {"lora.layers": "last:1"}, "baseline": False, "quiet": False}
    with registered(task(tiny, csv, head=TwoLayers(reads=Reads("mean", (-1, -2))))):
        api.run("toy", output=tmp_path / "cached", **options)
        assert "Computing 2 frozen layers once" in capsys.readouterr().err
        monkeypatch.setenv("FMHUB_CACHE_LIMIT", "0")
        api.run("toy", output=tmp_path / "plain", **options)
    left, right = adapter(tmp_path / "cached"), adapter(tmp_path / "plain")
    assert max(float((left[name] - right[name]).abs().max()) for name in left) < 0.02


def test_targets_of_the_users_own_rows_are_found_again(tiny, csv, tmp_path, monkeypatch):
    twin = csv.read_text().splitlines()
    csv.write_text("\n".join([*twin, *(line.replace("20", "19") for line in twin[1:9])]) + "\n")  # same text, another year
    monkeypatch.chdir(csv.parent)
    with registered(task(tiny, write(tmp_path / "own.csv", seed=2), baselines=())):
        record = api.run("toy", data=csv.name, columns={"label": "label"}, output=tmp_path / "run", set={"epochs": 1})
        monkeypatch.chdir("/")
        table = pq.read_table(tmp_path / "run" / "predictions.parquet").to_pylist()
        found = targets_of(tmp_path / "run")
    assert {(row["split"], row["id"]): row["target"] for row in table} == {
        (split, name): target for split, part in found.items() for name, target in part.items()
    }
    assert record["data"]["test"] == len(found["test"])


def test_rows_under_a_licence_stay_out_of_the_run_but_can_be_joined(tiny, csv, tmp_path):
    with registered(task(tiny, csv)):
        free = api.run("toy", output=tmp_path / "free", groups="site", curve=[30])
    with registered(task(tiny, csv, redistribute=False)):
        bound = api.run("toy", output=tmp_path / "bound", groups="site", curve=[30])
        for path in sorted((tmp_path / "bound").rglob("*.parquet")):
            assert not {"target", "input", "site", "year", "document", "text"} & set(pq.read_schema(path).names), path
        for key in ("scores", "groups", "curve"):
            assert bound[key] == free[key]
        truth = targets_of(tmp_path / "bound")["test"]
        table = pq.read_table(tmp_path / "free" / "predictions.parquet")
        assert {row["id"]: row["target"] for row in table.to_pylist() if row["split"] == "test"} == truth
        joined = with_targets(tmp_path / "bound", pq.read_table(tmp_path / "bound" / "predictions.parquet"))
        assert joined["target"].to_pylist() == table["target"].to_pylist()
        run = report_run.read(bound["id"])
        assert set(run.columns["target"]) == {"up", "down"}
        entries = store.board("toy")[0]["entries"]
        assert len(entries) == 3 and not any(entry["problem"] for entry in entries)


def go_on(output: Path, tiny: Path, csv: Path, options: dict[str, Any], home: Path, kill_after: float | None = None) -> int:
    """One process of the toy run; killed so many seconds after its plan stands."""
    script = Path(__file__).with_name("toy.py")
    command = [sys.executable, str(script), str(tiny), str(csv), str(output), json.dumps(options)]
    process = subprocess.Popen(command, env=env(home), stderr=subprocess.PIPE)
    if kill_after is not None:
        deadline = time.monotonic() + 120
        while not (output / "plan.json").is_file() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(kill_after)
        process.send_signal(signal.SIGKILL)
    _, errors = process.communicate(timeout=300)
    assert process.returncode in (0, -signal.SIGKILL), errors.decode()
    return process.returncode


def kill_and_resume(tiny: Path, csv: Path, tmp_path: Path, home: Path, options: dict[str, Any], kills: int) -> None:
    assert go_on(tmp_path / "whole", tiny, csv, options, home) == 0
    draw, done, number = random.Random(os.environ.get("FMHUB_TEST_SEED", "0")), 0, 0
    while done < kills:
        output = tmp_path / f"killed-{number}"
        number += 1
        for _ in range(3):
            done += go_on(output, tiny, csv, options, home, kill_after=draw.uniform(0, 2.5)) != 0
        while not (output / "run.json").is_file():
            go_on(output, tiny, csv, options, home)
        assert same_end(tmp_path / "whole", output)


def test_a_run_of_seeds_that_is_killed_goes_on_to_the_same_bits(tiny, csv, tmp_path, home):
    assert go_on(tmp_path / "whole", tiny, csv, {"seeds": 2}, home) == 0
    assert go_on(tmp_path / "cut", tiny, csv, {"seeds": 2}, home, kill_after=0.6) == -signal.SIGKILL
    assert not (tmp_path / "cut" / "run.json").exists()
    assert go_on(tmp_path / "cut", tiny, csv, {"seeds": 2}, home) == 0
    assert same_end(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"seeds": 2}, {"folds": 3}, {"set": {"lora.layers": "last:1", "epochs": 12}}])
def test_thirty_kills_end_in_the_same_bits(tiny, csv, tmp_path, home, options):
    kill_and_resume(tiny, csv, tmp_path, home, options, kills=10)


def test_a_folder_named_relative_is_found_again_from_elsewhere(tiny, csv, tmp_path, monkeypatch):
    monkeypatch.chdir(csv.parent)
    with registered(task(tiny, csv, backbone="none", data=data.csv("absent.csv", text="text", label="label"))):
        plan = api.plan("toy", data=csv.name, backbone=os.path.relpath(tiny), columns={"text": "text", "label": "label"})
    assert Path(plan.options.data) == csv and Path(plan.options.backbone).resolve() == tiny.resolve()
    assert Path(plan.options.backbone).is_absolute()


@dataclass(frozen=True)
class Warned(heads.Classification):
    """A head with something to say."""

    @property
    def notes(self) -> tuple[str, ...]:
        return ("Not for use at sea.",)


def test_what_a_head_has_to_say_stands_in_record_report_and_beside_predictions(tiny, csv, tmp_path, capsys):
    from fmhub.cli import main

    with registered(task(tiny, csv, head=Warned(), recipe=replace(RECIPE, epochs=1))):
        record = api.run("toy", output=tmp_path / "run")
        capsys.readouterr()
        assert main(["predict", str(tmp_path / "run"), "a good day"]) == 0
        said = capsys.readouterr()
        assert main(["report", str(tmp_path / "run")]) == 0
    assert "Not for use at sea." in record["notes"] and "Not for use at sea." in (tmp_path / "run" / "report.html").read_text()
    assert said.out.startswith(("up", "down")) and "note  Not for use at sea.\n" in said.err
