"""The plugin's tasks: metadata, light import, samples, the credit data, and the real prices with their reference figures."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fmhub_finance import credit, fmhub_api, fmhub_tasks

from fmhub.evaluation.metrics import get
from fmhub.task import Setting

TASKS = {task.name: task for task in fmhub_tasks()}


def test_every_task_says_what_users_need():
    assert fmhub_api == (1, 0)
    assert list(TASKS) == ["volatility", "volatility-level", "direction", "credit-risk", "credit-risk-text", "mortgage"]
    for task in TASKS.values():
        for name in ("title", "summary", "version", "licence", "source", "citation", "sample"):
            assert getattr(task, name), (task.name, name)
        assert task.family == "finance" and len(task.baselines) >= 3
    assert [name for name, task in TASKS.items() if task.expects == "chance"] == ["direction"]
    assert [name for name, task in TASKS.items() if task.redistribute] == ["credit-risk", "credit-risk-text"]


def test_import_is_light():
    code = "import sys, fmhub_finance; list(fmhub_finance.fmhub_tasks()); print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"numpy", "pyarrow", "torch", "transformers", "sklearn", "pandas"} & set(loaded) == set()


@pytest.mark.parametrize("name", sorted(TASKS))
def test_samples_load_offline(name, monkeypatch, tmp_path):
    monkeypatch.setenv("FMHUB_OFFLINE", "1")
    monkeypatch.setenv("FMHUB_HOME", str(tmp_path))
    assert len(TASKS[name].sample.load().tables["test"]) > 50


def test_the_credit_data_and_who_is_in_them():
    table = credit.applications()
    assert len(table) == 1000 and len(table.column_names) == 23
    assert table["outcome"].to_pylist().count("bad") == 300
    assert sorted(set(table["sex"].to_pylist())) == ["female", "male"] and table["sex"].to_pylist().count("female") == 310
    task = TASKS["credit-risk"]
    fitted = task.stem.fit(task.data.load().known())
    assert len(fitted.numbers) + len(fitted.categories) == 20 and not {*credit.SLICES} & {*fitted.fields}


def test_rows_as_text():
    task = TASKS["credit-risk-text"]
    splits = task.data.load()
    first = task.stem.fit(splits.known()).texts(splits.tables["test"])[0]
    assert first.startswith("checking account: ") and "; purpose: " in first and "sex:" not in first


@pytest.mark.real
def test_baselines_give_the_reference_figures():
    found = {}
    for name in ("volatility", "volatility-level"):
        task = TASKS[name]
        parts = task.data.load().tables
        assert {part: len(table) for part, table in parts.items()} == {
            "train": 5160,
            "validation": 1001,
            "test": 2007,
            "shift:others": 8020,
        }
        setting = Setting(train=parts["train"], validation=parts["validation"], head=task.head)
        for spec in task.baselines:
            said = spec.fit(setting).predict(parts["test"].drop_columns(["target"]))
            columns = {**{key: np.array(values) for key, values in said.items()}, "target": np.array(parts["test"]["target"].to_pylist())}
            found[name, spec.name] = get(task.metrics[0]).score(columns, getattr(task.head, "labels", None))
    wanted = {("volatility", "har"): 0.8485, ("volatility-level", "persistence"): 0.245, ("volatility-level", "month"): 0.332}
    assert {key: found[key] for key in wanted} == pytest.approx(wanted, abs=1e-3)
    assert found["volatility-level", "har"] == pytest.approx(0.4226, abs=1e-3)


def test_the_registry_knows_every_task():
    import tomllib

    entry = tomllib.loads((Path(__file__).parents[3] / "registry" / "plugins" / "fmhub-finance.toml").read_text())
    assert set(entry["tasks"]) == set(TASKS)
