"""The contract, for every task of every installed plugin: what it declares is there, and it works on its own sample."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fmhub import hub
from fmhub.data.fingerprint import fingerprint
from fmhub.evaluation import metrics
from fmhub.task import Task

TASKS = {f"{plugin.name}:{task.name}": task for task, plugin in hub.tasks()}


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home for all workers of the session: what tasks need is fetched into it, and converted, once."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "home-of-contracts"


@pytest.fixture
def task(request, shared_home, monkeypatch) -> Task:
    monkeypatch.setenv("FMHUB_HOME", str(shared_home))
    return TASKS[request.param]


every_task = pytest.mark.parametrize("task", sorted(TASKS), indirect=True)


def test_every_first_party_plugin_is_seen():
    folders = {path.name for path in (Path(__file__).parent.parent / "plugins").iterdir() if (path / "pyproject.toml").is_file()}
    assert folders <= {plugin.name for plugin in hub.plugins() if plugin.status == "ok"}


@every_task
def test_metadata_says_what_users_need(task):
    for name in ("title", "summary", "licence", "source", "family", "version"):
        assert getattr(task, name), name
    assert task.baselines and task.sample is not None
    names = [baseline.name for baseline in task.baselines]
    assert len(set(names)) == len(names)
    for metric in task.metrics:
        found = metrics.get(metric)
        assert found.direction in ("max", "min") and found.title


def rows_of(table: pa.Table, task: Task, stem) -> list[tuple]:
    return list(zip(*(table.column(name).to_pylist() for name in stem.fields), strict=True))


def stem_of(task: Task):
    from fmhub import backbones, stems

    cards = {card.name: card for card, _ in hub.backbones()}
    card = backbones.card(task.backbone, cards)
    stem = task.stem or stems.own(card.modality, [file.name for file in card.files])
    return stem.fit(task.sample.load().known())


@every_task
def test_the_sample_is_split_cleanly_and_is_the_same_every_time(task):
    one, other = task.sample.load(), task.sample.load()
    known = {} if one.catalogue is None else {"catalogue": one.catalogue}
    assert one.fingerprint == other.fingerprint == fingerprint({**one.tables, **known})
    ids = [set(table.column("id").to_pylist()) for table in one.tables.values()]
    assert sum(map(len, ids)) == len(set().union(*ids)) == sum(map(len, one.tables.values()))
    seen: dict = {}
    for name, table in one.tables.items():
        for row in rows_of(table, task, stem_of(task)):
            assert seen.setdefault(str(row), name) == name, f"the same example is in {seen[str(row)]} and {name}"
        if "group" in table.column_names:
            groups = {(group, name) for group in table.column("group").to_pylist()}
            assert all(seen.setdefault(("group", group), name) == name for group, _ in groups)


@every_task
def test_it_runs_on_its_sample_and_can_be_loaded(task, shared_home, tmp_path):
    """Data, training, baselines, record, restoring: the whole path, with what the task declares."""
    import pyarrow.parquet as pq

    from fmhub import api
    from fmhub.training.execute import execute
    from fmhub.training.plan import Options, make
    from fmhub.training.reporting import Reporter

    name = next(full for full, one in TASKS.items() if one is task)
    plan = make(name, Options(set={"epochs": "1", "evaluations": "1"}))
    plan = replace(plan, task=replace(plan.task, data=task.sample))
    folder = tmp_path / "run"
    folder.mkdir()
    record = execute(plan, f"{task.name}-contract", folder, Reporter(quiet=True))
    primary = metrics.get(task.metrics[0])
    score = record["scores"]["test"][primary.name]
    assert record["primary"] == primary.name and primary.low <= score["value"] <= primary.high
    assert [row["name"] for row in record["baselines"]] == [baseline.name for baseline in task.baselines]
    predictions = pq.read_table(folder / "predictions.parquet")
    assert set(predictions.column("id").to_pylist()).isdisjoint(task.sample.load().tables["train"].column("id").to_pylist())
    for baseline in task.baselines:
        theirs = pq.read_table(folder / "baselines" / f"{baseline.name}.parquet")
        asked = set(theirs.column("split").to_pylist())
        same = [row["id"] for row in predictions.select(["id", "split"]).to_pylist() if row["split"] in asked]
        assert "test" in asked and theirs.column("id").to_pylist() == same

    rows = task.sample.load().tables["test"]
    predictor = api.load(folder)
    found = predictor.predict(rows.select(list(predictor.fields)).to_pylist())
    kept = {row["id"]: row["prediction"] for row in predictions.to_pylist()}
    for mine, example in zip(found, rows.column("id").to_pylist(), strict=True):
        assert equal(mine["prediction"], kept[example])


@every_task
def test_its_layers_can_be_chosen_by_pilots_and_by_time(task, tmp_path, monkeypatch):
    """What `--fast` and `--budget` decide, of few rows and two numbers of layers."""
    from fmhub.recipe import override
    from fmhub.testing.subject import Subject
    from fmhub.training import choose, ranks
    from fmhub.training.folds import load_rows

    monkeypatch.setattr(choose, "PILOT", (8, 8))
    monkeypatch.setattr(choose, "candidates", lambda count, recipe: ["last:2", "last:1"])
    plugin = next(plugin for one, plugin in hub.tasks() if one.name == task.name)
    it = Subject(plugin, task, tmp_path)
    task = replace(it.task, recipe=override(it.task.recipe, {"epochs": 1, "evaluations": 1, "batch": 2, "accumulate": 1}))
    for options, tried in (({"fast": True}, 2), ({"budget": "1h"}, 1)):
        plan = it.plan(task, **options)
        decided = choose.decide(plan, load_rows(plan), it.load, ranks.accelerator(), lambda line: None)
        assert decided["recipe"]["lora.layers"] in ("last:2", "last:1") and len(decided["tried"]) == tried


def equal(one, other) -> bool:
    """Equal up to what another batch's rounding may change."""
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, float):
        return bool(np.isclose(one, other, atol=1e-4))
    return one == other


def test_a_task_without_a_metric_or_with_a_wrong_part_is_refused():
    from fmhub import UsageError, data, heads

    good = {"name": "x", "title": "X", "data": data.csv("a.csv"), "head": heads.Classification(), "metrics": ["accuracy"]}
    for wrong, said in (({"metrics": []}, "no metric"), ({"head": "classification"}, "`head`"), ({"name": "No Good"}, "not a valid name")):
        with pytest.raises(UsageError, match=said):
            Task(**{**good, **wrong})
