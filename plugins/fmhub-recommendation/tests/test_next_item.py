"""The plugin: metadata, light import, the made-up sample, and MovieLens-100k with its stated counts and reference figures."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fmhub_recommendation import fmhub_api, fmhub_tasks, movielens, samples

from fmhub import FetchError, artifacts, data
from fmhub.evaluation.metrics import get
from fmhub.home import registry
from fmhub.task import Setting
from fmhub.testing import data_checks
from fmhub.testing.subject import Fixed, Subject

(TASK,) = fmhub_tasks()
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


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
    passed, said = planted()
    assert passed and said.startswith("train 120, validation 120, test 120")
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


NAMES = {
    "popularity": "popularity", "item kNN, cosine": "item-knn", "EASE": "ease", "EASE, older events count less": "ease-recent",
    "windowed Markov": "windowed-markov", "windowed Markov both ways, popular items discounted": "markov-both-ways",
}  # fmt: skip
"""Of the README's rows, and of the baselines."""


def test_the_figures_of_the_readme_are_the_reference_runs():
    kept = registry() / "leaderboard" / "fmhub-recommendation"
    runs = {path.stem: json.loads(path.read_text()) for path in kept.glob("*.json")}
    reference = runs["next-item"]
    names = {"next-item": "**the network**", "next-item@random": "the network from random weights"}
    records = {names[name]: run["scores"] for name, run in runs.items()}
    records |= {row["name"]: row["scores"] for row in reference["baselines"]}
    lines = [line.strip("| ").split(" | ") for line in README.splitlines() if line.count("|") == 7 and ".0" in line]
    assert len(lines) == len(records) == 6 + len(runs)
    for name, *shown in lines:
        scores = records[NAMES.get(name, name)]["test"]
        values = [scores[metric]["value"] for metric in ("hr_1", "hr_5", "hr_10", "ndcg_10", "coverage")]
        assert shown == [f"{value:.3f}".lstrip("0") for value in values], name
    assert {run["seeds"] for run in runs.values()} == {3}
    for one in TASK.references:
        ends = (records["popularity"]["test"][one.metric]["value"], reference["scores"]["test"][one.metric]["value"])
        assert (one.floor, one.reference) == pytest.approx(ends, abs=5e-5)
    assert reference["scores"]["test"]["ndcg_10"]["value"] > max(0.110, *(records[name]["test"]["ndcg_10"]["value"] for name in REFERENCE))


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


def recounted(file, last, films):
    """The scores of a stored prediction table by the words of the README, each the mean over the seeds."""
    found = []
    table = pq.read_table(file).to_pandas()
    for _, rows in table.groupby("seed"):
        pairs = [(list(said), last[name.removeprefix("test-")]) for name, said in zip(rows["id"], rows["prediction"], strict=True)]
        ranks = np.array([said.index(truth) + 1 if truth in said[:100] else np.inf for said, truth in pairs])
        shown = {item for said, _ in pairs for item in said[:10]}
        one = {f"hr_{k}": (ranks <= k).mean() for k in (1, 5, 10)}
        gain = np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0).mean()
        found.append({**one, "ndcg_10": gain, "mrr": (1 / ranks).mean(), "coverage": len(shown) / films})
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


@pytest.mark.real
def test_every_score_of_the_committed_runs_is_a_recount_from_the_file_of_ratings():
    from fmhub.artifacts import fetch

    lines = (fetch(movielens.ARTIFACT) / "ml-100k.inter").read_text(encoding="utf-8").splitlines()[1:]
    events = [line.split("\t") for line in lines]
    last = {user: item for user, item, _, time in sorted(events, key=lambda event: float(event[3]))}  # stable: file order
    films = len({item for _, item, *_ in events})
    kept = registry() / "leaderboard" / "fmhub-recommendation"
    for record in sorted(kept.glob("*.json")):
        told = json.loads(record.read_text())
        parts = {"predictions.parquet": told} | {f"baselines/{row['name']}.parquet": row for row in told["baselines"]}
        for file, one in parts.items():
            mine = recounted(record.with_suffix("") / file, last, films)
            assert {name: score["value"] for name, score in one["scores"]["test"].items()} == pytest.approx(mine, abs=1e-6), file
