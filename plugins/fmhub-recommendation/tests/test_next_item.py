"""The plugin: metadata, light import, the made-up sample, and MovieLens-100k with its stated counts and reference figures."""

import subprocess
import sys
from dataclasses import replace

import pyarrow as pa
import pytest
from fmhub_recommendation import fmhub_api, fmhub_tasks, movielens, samples

from fmhub import FetchError, artifacts, data
from fmhub.evaluation.metrics import get
from fmhub.task import Setting
from fmhub.testing import data_checks
from fmhub.testing.subject import Fixed, Subject

(TASK,) = fmhub_tasks()


def test_the_task_says_what_users_need_and_forbids_copies():
    assert fmhub_api == (1, 0) and TASK.name == "next-item" and TASK.family == "recommendation"
    for name in ("title", "summary", "version", "licence", "source", "citation"):
        assert getattr(TASK, name), name
    assert not TASK.redistribute
    assert {*REFERENCE, "markov-both-ways"} == {baseline.name for baseline in TASK.baselines}
    assert get(TASK.metrics[0]).title == "NDCG@10"


def test_import_is_light():
    code = "import sys, fmhub_recommendation; list(fmhub_recommendation.fmhub_tasks()); print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"numpy", "pyarrow", "torch", "transformers", "sklearn", "pandas"} & set(loaded) == set()


def test_the_sample_is_the_same_every_time_and_loads_offline(monkeypatch, tmp_path):
    monkeypatch.setenv("FMHUB_OFFLINE", "1")
    monkeypatch.setenv("FMHUB_HOME", str(tmp_path))
    splits = TASK.sample.load()
    assert splits.fingerprint == data.Histories(data.rows(samples.events), window=20).load().fingerprint
    assert {name: len(table) for name, table in splits.tables.items()} == {"train": 120, "validation": 120, "test": 120}
    assert len(splits.catalogue) == 48 and splits.catalogue["text"][0].as_py() == "Bridge bakery. bakery, Bridge Street"
    with pytest.raises(FetchError, match="FMHUB_OFFLINE"):
        TASK.data.load()


def planted(**parts):
    """What `fmhub check` says of the sample's splits with other rows in some of them."""
    splits = TASK.sample.load()
    splits = replace(splits, tables={**splits.tables, **{name: change(splits.tables) for name, change in parts.items()}})
    return data_checks.splits_disjoint(Subject(None, replace(TASK, sample=Fixed(splits)), None))


def with_ids(table, name):
    return table.set_column(0, "id", pa.array([f"{name}-{row}" for row in range(len(table))]))


def test_the_check_finds_a_user_whose_held_out_event_is_learnt_and_planted_duplicates():
    assert planted() == (True, "train 120, validation 120, test 120")
    for parts, said in (
        ({"train": lambda tables: pa.concat_tables([tables["train"], with_ids(tables["test"][:3], "again")])}, "events are in more than"),
        ({"validation": lambda tables: pa.concat_tables([tables["validation"], with_ids(tables["test"][5:6], "again")])}, "1 events are"),
        ({"train": lambda tables: pa.concat_tables([tables["train"], tables["test"][:1]])}, "1 ids are in more than one split"),
    ):
        ok, figure = planted(**parts)
        assert not ok and said in figure, figure


def test_titles_years_and_genres_come_from_the_item_file(monkeypatch, tmp_path):
    (tmp_path / "ml-100k.item").write_text("item_id:token\tmovie_title\trelease_year\tclass\n7\tToy Story\t1995\tAnimation Comedy\n")
    (tmp_path / "ml-100k.inter").write_text("user\titem\trating\ttime\n196\t7\t3\t881250949\n")
    monkeypatch.setattr(artifacts, "fetch", lambda artifact: tmp_path)
    row = {"user": "196", "item": "7", "time": 881250949.0, "title": "Toy Story (1995)", "genres": "Animation, Comedy"}
    assert movielens.ratings().to_pylist() == [row]


REFERENCE = {
    "popularity": (0.086, 0.045), "item-knn": (0.134, 0.073), "ease": (0.149, 0.072), "ease-recent": (0.195, 0.103),
    "windowed-markov": (0.197, 0.110),
}  # fmt: skip
"""HR@10 and NDCG@10 measured elsewhere on the same protocol."""


@pytest.mark.real
def test_movielens_has_the_stated_counts_and_the_baselines_their_reference_figures():
    from fmhub.evaluation import evaluate

    splits = TASK.data.load()
    assert {name: len(table) for name, table in splits.tables.items()} == {"train": 2412, "validation": 943, "test": 943}
    assert len(splits.catalogue) == 1682 and splits.notes == ()
    tables = splits.tables
    same = [row["times"][-1] == row["time"] for row in tables["test"].to_pylist()]
    assert sum(same) / len(same) == pytest.approx(0.44, abs=0.005)

    class Head:
        labels = tuple(splits.catalogue["id"].to_pylist())

    for baseline in TASK.baselines:
        fitted = baseline.fit(Setting(train=tables["train"], validation=tables["validation"], head=Head(), seed=0))
        table = {**fitted.predict(tables["test"].drop_columns(["target"])), "target": tables["test"]["target"].to_pylist()}
        found = evaluate(table, ["hr_10", "ndcg_10"], Head.labels)
        for name, reference in zip(("hr_10", "ndcg_10"), REFERENCE.get(baseline.name, ()), strict=False):
            assert found[name]["low"] <= reference <= found[name]["high"], (baseline.name, name, found[name])
