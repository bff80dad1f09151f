"""The disease tasks: metadata, light import, samples, and the sets themselves with their stated counts."""

import subprocess
import sys
from pathlib import Path

import pytest
from fmhub_medical import disease, findings, fmhub_api, fmhub_tasks

from fmhub.evaluation.metrics import get

TASKS = {task.name: task for task in disease.tasks()}


def test_every_task_says_what_users_need_and_that_it_is_no_device():
    assert fmhub_api == (1, 0) and {*TASKS} <= {task.name for task in fmhub_tasks()}
    assert list(TASKS) == ["breast-cancer", "heart-disease", "heart-disease-text", "flchain"]
    for task in TASKS.values():
        for name in ("title", "summary", "version", "licence", "source", "citation", "sample"):
            assert getattr(task, name), (task.name, name)
        assert task.family == "medicine" and "not a medical device" in task.summary and "research use, not a device" in task.title
        assert task.head.notes == ("Research use only, not a medical device.",)
        assert [baseline.name for baseline in task.baselines] == ["majority", "table-linear", "table-boosting"]
        assert get(task.metrics[1]).direction == "min" and not {*task.stem.skip} & {"age", "sex"}


def test_import_is_light():
    code = "import sys, fmhub_medical; list(fmhub_medical.fmhub_tasks()); print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"numpy", "pyarrow", "torch", "transformers", "sklearn", "pandas"} & set(loaded) == set()


@pytest.mark.parametrize("name", sorted(TASKS))
def test_samples_load_offline(name, monkeypatch, tmp_path):
    monkeypatch.setenv("FMHUB_OFFLINE", "1")
    monkeypatch.setenv("FMHUB_HOME", str(tmp_path))
    splits = TASKS[name].sample.load()
    assert set(splits.tables["train"]["target"].to_pylist()) == set(TASKS[name].head.labels)
    assert {*TASKS[name].slices} <= {*splits.tables["test"].column_names}


def test_every_set_is_judged_in_ten_folds():
    rules = {name: task.data.split for name, task in TASKS.items()}
    assert {name: rule.k for name, rule in rules.items()} == dict.fromkeys(TASKS, 10)
    assert all(rule.always for rule in rules.values())


def test_breast_masses():
    table = findings.breast_cancer()
    assert len(table) == 569 and len(table.column_names) == 31 and table["outcome"].to_pylist().count("malignant") == 212
    splits = TASKS["breast-cancer"].data.load()
    assert splits.rule == "KFold" and len(splits.tables["test"]) == 57


def test_a_file_of_the_fields_own_kinds_becomes_a_table(monkeypatch, tmp_path):
    from fmhub import artifacts

    (tmp_path / "heart_disease.tab").write_text(
        "age\tgender\tthal\tdiameter narrowing\nc\td\td\td\n\t\t\tclass\n63\tmale\tnormal\t0\n67\tfemale\t?\t1\n"
    )
    (tmp_path / "flchain.arff").write_text(
        "@relation flchain\n@attribute age numeric\n@attribute sex {F,M}\n@attribute sample.yr {1995}\n@attribute kappa numeric\n"
        "@attribute lambda numeric\n@attribute flc.grp {1}\n@attribute creatinine numeric\n@attribute mgus {no,yes}\n"
        "@attribute futime numeric\n@attribute death {alive,dead}\n@attribute chapter {Blood}\n@data\n"
        "97,F,1995,5.7,4.8,1,?,no,85,dead,Blood\n51,M,1995,0.7,0.8,1,1.1,no,4000,alive,?\n"
    )
    monkeypatch.setattr(artifacts, "fetch", lambda artifact: tmp_path)
    assert findings.heart_disease().to_pylist()[1] == {
        "age": 67.0, "gender": "female", "thal": None, "age group": "65 and over", "outcome": "narrowed",
    }  # fmt: skip
    first, second = findings.flchain().to_pylist()
    assert first["creatinine"] is None and first["outcome"] == "dead" and second["age group"] == "50 to 64"
    assert not {"futime", "chapter", "death"} & {*first}  # what is known only afterwards


@pytest.mark.real
def test_the_fetched_sets():
    heart, chains = findings.heart_disease(), findings.flchain()
    assert len(heart) == 303 and heart["outcome"].to_pylist().count("narrowed") == 139 and len(heart.column_names) == 15
    assert len(chains) == 7874 and chains["outcome"].to_pylist().count("dead") == 2169 and chains["creatinine"].null_count == 1350


def test_the_registry_knows_every_task():
    import tomllib

    entry = tomllib.loads((Path(__file__).parents[3] / "registry" / "plugins" / "fmhub-medical.toml").read_text())
    assert set(entry["tasks"]) == {task.name for task in fmhub_tasks()}
