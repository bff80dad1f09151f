"""`lora.layers=auto`, `--budget`, `--fast`: what is chosen, why, and that it is chosen once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import Trap, registered, task, write

from fmhub import Adapter, DataError, Lora, Recipe, UsageError, api, data, heads
from fmhub.errors import Stopped
from fmhub.evaluation import metrics
from fmhub.recipe import layers
from fmhub.task import Reads
from fmhub.training import choose
from fmhub.training.checkpoint import Progress
from fmhub.training.choose import Rate, candidates, pick, tolerance
from fmhub.training.curve import curve_members
from fmhub.training.folds import load_rows
from fmhub.training.member import Trained, members
from fmhub.training.plan import seconds
from fmhub.training.refit import refit_member


@pytest.fixture
def toy(tiny: Path, tmp_path: Path):
    with registered(task(tiny, write(tmp_path / "toy.csv"))) as one:
        yield one


@pytest.mark.parametrize(("text", "expected"), [("90s", 90), ("10m", 600), ("1h", 3600), ("1.5h", 5400), (" 2m ", 120)])
def test_times_are_read(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "10", "m", "-1m", "0s", "1d", "1e9h", "10 m m", "１m", "nan"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(UsageError, match="is not a time"):
        seconds(text)


def test_candidates_are_most_layers_first():
    auto = Recipe(lora=Lora(layers="auto"))
    assert candidates(12, auto) == ["all", "last:6", "last:3", "last:2", "last:1"]
    assert candidates(3, auto) == ["all", "last:2", "last:1"] and candidates(1, auto) == ["all"]
    assert candidates(12, Recipe(lora=Lora(layers="last:4"))) == ["last:4"]
    assert candidates(12, Recipe(lora=Lora(layers="auto"), adapter=Adapter(kind="full"))) == ["all"]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_the_pick_is_within_the_tolerance_and_no_smaller_one_is(values):
    tried = [{"layers": "all" if k == len(values) else f"last:{k}", "validation": value} for k, value in enumerate(values, 1)]
    accuracy = metrics.get("accuracy")
    chosen, best = pick(tried, len(values), accuracy)
    assert best["validation"] == max(values) and best["validation"] - chosen["validation"] <= 0.015 + 1e-9
    fewer = [row for row in tried if layers(row["layers"], len(values)) < layers(chosen["layers"], len(values))]
    assert all(best["validation"] - row["validation"] > 0.015 for row in fewer)


def test_the_tolerance_is_the_metrics_own_unit_or_a_share_of_an_unbounded_one():
    assert tolerance(metrics.get("accuracy"), 0.8) == 0.015
    assert tolerance(metrics.get("mae"), -200.0) == pytest.approx(3.0)
    assert tolerance(metrics.get("chrf"), 60.0) == pytest.approx(1.5), "which goes from 0 to 100"
    assert tolerance(metrics.get("r2"), 0.1) == 0.015


def rates(monkeypatch, **of: float):
    """Seconds a training example, by layers; everything else costs nothing."""
    asked = []

    def measure(plan, recipe, rows, load, accelerator):
        asked.append(recipe.lora.layers)
        return Rate(of[recipe.lora.layers.replace("last:", "last")], 0.0, 0.0)

    monkeypatch.setattr(choose, "measure", measure)
    return asked


@pytest.mark.parametrize(
    ("budget", "chosen", "epochs"), [("1h", "all", 3.0), ("100s", "last:2", 3.0), ("20s", "last:1", 3.0), ("5s", "last:1", 0.89)]
)
def test_as_many_layers_as_fit_then_fewer_epochs(toy, monkeypatch, budget, chosen, epochs):
    asked = rates(monkeypatch, all=1.0, last2=0.1, last1=0.05)  # 112 rows x 3 epochs: 336 s, 33.6 s, 16.8 s
    record = api.run("toy", budget=budget, baseline=False)
    assert record["data"]["train"] == 112 and record["recipe"]["lora"]["layers"] == chosen and record["recipe"]["epochs"] == epochs
    assert asked == ["all", "last:2", "last:1"][: len(asked)] and asked[-1] == chosen
    (line,) = record["decisions"]["why"]
    assert chosen in line and "112 training rows" in line and line in record["notes"]
    assert json.loads(json.dumps(record["decisions"]))["budget_seconds"] == seconds(budget)


def test_seeds_and_folds_share_the_budget(toy, monkeypatch):
    rates(monkeypatch, all=1.0, last2=0.1, last1=0.05)
    assert api.run("toy", budget="350s", baseline=False)["recipe"]["lora"]["layers"] == "all"
    assert api.run("toy", budget="350s", seeds=2, baseline=False)["recipe"]["lora"]["layers"] == "last:2"


def test_layers_that_the_user_names_stay_and_auto_has_a_budget_of_its_own(toy, monkeypatch):
    asked = rates(monkeypatch, all=1.0, last2=2.0, last1=0.05)
    named = api.run("toy", budget="112s", set={"recipe.lora.layers": "last:2"}, baseline=False)
    assert asked == ["last:2"] and named["recipe"]["lora"]["layers"] == "last:2" and named["recipe"]["epochs"] == 0.5
    auto = api.run("toy", set={"recipe.lora.layers": "auto"}, baseline=False)
    assert auto["recipe"]["lora"]["layers"] == "all" and auto["decisions"]["budget_seconds"] == choose.BUDGET


def test_nothing_is_decided_by_default(toy, monkeypatch):
    monkeypatch.setattr(choose, "measure", lambda *_: pytest.fail("measured"))
    record = api.run("toy", baseline=False, set={"epochs": 1})
    assert record["decisions"] == {} and record["recipe"]["lora"]["layers"] == "all"


def test_a_decision_is_frozen_before_the_first_step(toy, tmp_path, monkeypatch):
    rates(monkeypatch, all=1.0, last2=0.1, last1=0.05)
    with monkeypatch.context() as patched:
        Trap(patched, 3, KeyboardInterrupt())
        with pytest.raises(Stopped):
            api.run("toy", budget="5s", output=tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert stored["decisions"]["recipe"] == {"lora.layers": "last:1", "epochs": 0.89} and stored["recipe"]["epochs"] == 0.89
    monkeypatch.setattr(choose, "measure", lambda *_: pytest.fail("decided twice"))
    record = api.run("toy", resume=tmp_path / "run")
    assert record["recipe"] == stored["recipe"] and record["decisions"] == stored["decisions"]


def test_the_real_stopwatch_measures_and_leaves_nothing_behind(toy, home):
    record = api.run("toy", set={"lora.layers": "auto"}, baseline=False, budget="0.001s")
    tried = record["decisions"]["tried"]
    assert [row["layers"] for row in tried] == ["all", "last:2", "last:1"] and all(row["examples_per_second"] > 10 for row in tried)
    assert record["recipe"]["epochs"] == 0.01 and record["saved"]["step"] == 1
    assert len(list((home / "cache" / "prefix").glob("[!.]*"))) == 3, "the run's own train, validation and test parts only"


def test_fast_takes_the_fewest_layers_and_says_what_it_gave_up(toy, monkeypatch):
    values = {"all": 0.9, "last:2": 0.89, "last:1": 0.7}
    original = choose.train_member

    def pilot(member, *arguments):
        trained = original(member, *arguments)
        assert set(member.splits) == {"train", "validation"}, "the test part is not looked at"
        trained.progress.history = [{"step": trained.progress.best_step, "validation": values[member.task.recipe.lora.layers]}]
        return trained

    monkeypatch.setattr(choose, "train_member", pilot)
    record = api.run("toy", fast=True, baseline=False)
    decided = record["decisions"]
    assert decided["recipe"] == {"lora.layers": "last:2"} and record["recipe"]["lora"]["layers"] == "last:2"
    assert decided["gave_up"] == pytest.approx(0.01) and decided["tolerance"] == 0.015 and decided["pilot_rows"] == 112
    assert "gives up 0.010 against all" in decided["why"][0] and record["test_readings"] == 1


def unread():
    pytest.fail("data were read")


@pytest.mark.parametrize(("rule", "options"), [(data.Random(), {"folds": 3}), (data.KFold(k=4, always=True), {})])
def test_fast_does_not_choose_by_rows_that_folds_test(tiny, tmp_path, rule, options):
    one = task(tiny, tmp_path / "toy.csv", data=data.rows(unread, split=rule))
    with registered(one):
        with pytest.raises(UsageError, match=r"--fast would choose by rows that toy's [34] folds score as test: use --budget"):
            api.run("toy", fast=True, **options)
        assert api.plan("toy", budget="10m", **options).folds and api.plan("toy", fast=True, curve=(20, 40))


def test_fast_without_training_is_refused_before_data_are_read(tiny, tmp_path):
    with registered(task(tiny, tmp_path / "toy.csv", data=data.rows(unread))), pytest.raises(UsageError, match=r"recipe\.epochs=0"):
        api.run("toy", fast=True, set={"recipe.epochs": 0})


def test_only_layers_that_the_head_reads_are_tried(tiny, tmp_path, monkeypatch):
    one = task(tiny, write(tmp_path / "toy.csv"), head=heads.Classification(reads=Reads("mean", layers=(-2,))))
    asked = rates(monkeypatch, all=1.0, last1=0.05)
    with registered(one):
        record = api.run("toy", budget="20s", baseline=False)
    assert asked == ["all", "last:1"] and "layers=last:1 of 2:" in record["decisions"]["why"][0]


def test_where_there_is_nothing_to_choose_no_pilot_runs(tiny, tmp_path, monkeypatch):
    one = task(tiny, write(tmp_path / "toy.csv"), head=heads.Classification(reads=Reads("mean", layers=(-3,))))
    monkeypatch.setattr(choose, "train_member", lambda *_: pytest.fail("a pilot"))
    with registered(one):
        record = api.run("toy", fast=True, baseline=False, set={"epochs": 1})
    assert record["recipe"]["lora"]["layers"] == "all" and record["decisions"]["why"] == ["--fast: layers=all: there are no others to try"]


def test_a_validation_part_that_says_nothing_is_said_and_nothing_is_chosen(tiny, tmp_path):
    paths = {name: write(tmp_path / f"{name}.csv", rows=64, seed=seed) for seed, name in enumerate(("train", "validation", "test"))}
    held = paths["validation"]
    held.write_text("\n".join(line for line in held.read_text().splitlines() if ",down," not in line))
    own = data.csv({name: str(path) for name, path in paths.items()}, text="text", label="label")
    with (
        registered(task(tiny, held, data=own, metrics=["auc"])),
        pytest.raises(DataError, match="auc is undefined on the validation part"),
    ):
        api.run("toy", fast=True)


def test_a_training_is_worth_what_its_kept_step_scored():
    """Not its highest reading, which luck may have made."""
    history = [{"step": step, "validation": value} for step, value in ((10, 0.7), (20, 0.9), (30, 0.88))]
    trained = Trained(None, None, None, Progress(step=30, best_step=30, best=0.9, error=0.03, history=history))
    assert trained.validation == 0.88 and Trained(None, None, None, Progress(step=30)).validation == float("-inf")


def test_whatever_is_trained_knows_the_catalogue(toy):
    plan, things = api.plan("toy", curve=(20, 40)), pa.table({"id": ["a"]})
    rows = replace(load_rows(plan), catalogue=things)
    (first,) = members(plan, rows)
    made = [first, *curve_members(plan, rows), refit_member(plan, rows, [Trained(first, None, None, Progress())])]
    assert len(made) == 4 and all(one.catalogue is things and one.fingerprint == rows.fingerprint for one in made)


def test_fast_reads_an_error_the_right_way_round(tiny, tmp_path):
    path = tmp_path / "numbers.csv"
    path.write_text("text,score\n" + "".join(f"{'good ' * (n % 7)}day {n},{n % 7}\n" for n in range(120)))
    one = task(
        tiny,
        path,
        data=data.csv(str(path), text="text", target="score", split=data.Random()),
        head=heads.Regression(),
        metrics=["mae"],
        baselines=(),
    )
    with registered(one):
        decided = api.run("toy", fast=True, set={"epochs": 2})["decisions"]
    values = {row["layers"]: row["validation"] for row in decided["tried"]}
    assert min(values.values()) > 0 and decided["gave_up"] >= 0
    assert values[decided["recipe"]["lora.layers"]] <= min(values.values()) * 1.0151
