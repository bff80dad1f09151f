"""Every score of the committed reference runs, computed once more from their predictions, with scikit-learn instead of fmhub's metrics."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import sklearn.metrics as sk
from fmhub_medical import fmhub_tasks

from fmhub.home import registry

TASKS = {task.name: task for task in fmhub_tasks()}
PLACE = registry() / "leaderboard" / "fmhub-medical"
KEPT = {path.stem: json.loads(path.read_text()) for path in sorted(PLACE.glob("*.json"))}
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8").splitlines()
WORSE = {"breast-cancer": 10, "heart-disease": 5, "heart-disease-text": 5, "flchain": 3}


def gaps(truth, scores):
    """The calibration error over 15 equal bins of the top probability."""
    top, right = scores.max(1), scores.argmax(1) == truth
    bins = np.minimum((top * 15).astype(int), 14)
    return sum(abs(right[bins == one].sum() - top[bins == one].sum()) for one in range(15)) / len(truth)


def found_at(rate, rows, second):
    """The share of lesions with a tile above the highest score that would be one false positive too many."""
    healthy = np.sort(second[(rows["target"] == "none").to_numpy()])[::-1]
    allowed = int(rate * rows["whole"].nunique())
    limit = healthy[allowed] if allowed < len(healthy) else -np.inf
    best = rows.assign(second=second).dropna(subset="lesion").groupby("lesion")["second"].max()
    return float((best > limit).mean())


def mine(name, rows):
    """Every metric of one seed's rows, those of all folds together."""
    labels = list(TASKS[name].head.labels)
    scores, truth = np.array(rows["scores"].tolist(), np.float64), rows["target"].map(labels.index).to_numpy()
    second = scores[:, 1]
    found = {
        "auc": sk.roc_auc_score(truth, second),
        "accuracy": sk.accuracy_score(truth, scores.argmax(1)),
        "brier": sk.brier_score_loss(truth, second / scores.sum(1)),
        "log_loss": sk.log_loss(truth, second / scores.sum(1)),
        "ece": gaps(truth, scores),
    }
    if worse := WORSE.get(name):
        acts = second / scores.sum(1) >= 1 / (1 + worse)
        found[f"cost_{worse}"] = (worse * ((truth == 1) & ~acts) + ((truth == 0) & acts)).mean()
    else:
        found |= {f"sensitivity_{rate}_a_slice": found_at(rate, rows, second) for rate in (1, 4)}
    return found


@pytest.mark.parametrize("name", KEPT)
def test_the_scores_are_those_of_scikit_learn(name):
    record = KEPT[name]
    files = {"predictions.parquet": record["scores"]["test"]}
    files |= {f"baselines/{row['name']}.parquet": row["scores"]["test"] for row in record["baselines"]}
    for file, told in files.items():
        table = pq.read_table(PLACE / name / file).to_pandas()
        table = table[table["split"] == "test"]
        seeds = [mine(name, rows) for _, rows in table.groupby("seed")]
        assert set(told) <= set(seeds[0])
        for metric, score in told.items():
            assert score["value"] == pytest.approx(np.mean([one[metric] for one in seeds]), abs=1e-6), (file, metric)
    assert record["seeds"] == 3 and len(files) == 1 + len(TASKS[name].baselines)
    assert "Research use only, not a medical device." in record["notes"]


@pytest.mark.parametrize("name", TASKS)
def test_the_declared_references_are_those_of_the_committed_run(name):
    told = {one.metric: one for one in TASKS[name].references}
    assert bool(told) == (name in KEPT)
    for metric, one in told.items():
        score = KEPT[name]["scores"]["test"][metric]
        assert (metric, one.floor) == ("auc", 0.5) and one.reference == pytest.approx(score["value"], abs=5e-5)


@pytest.mark.parametrize("name", KEPT)
def test_the_network_is_better_than_the_floor_beyond_the_interval(name):
    gap = next(row["difference"] for row in KEPT[name]["baselines"] if row["name"] == "majority")
    assert gap["low"] > 0


def shown(value, sign=""):
    """`.866`, `-.012`, `+.140`."""
    said = f"{value:{sign}.3f}"
    return said.replace("0.", ".", 1) if abs(value) < 1 else said


def ends(score, sign=""):
    return f"{shown(score['value'], sign)} [{shown(score['low'], sign)}, {shown(score['high'], sign)}]"


def rows_of(name, record):
    """The lines of the README's table of figures on one task: AUC over all rows, its mean over folds, and the paired difference."""
    each = [one["value"] for one in record["folds"]["each"]]
    yield f"| `{name}` | **the network** | {ends(record['scores']['test']['auc'])} | {shown(np.mean(each))} | |"
    for row in record["baselines"]:
        table = pq.read_table(PLACE / name / "baselines" / f"{row['name']}.parquet").to_pandas()
        second = table["scores"].map(lambda one: one[1]).to_numpy()
        positive = (table["target"] == TASKS[name].head.labels[1]).to_numpy()
        groups = table.groupby(["seed", "fold"]).indices.values()
        mean = np.mean([sk.roc_auc_score(positive[at], second[at]) for at in groups])
        yield f"| `{name}` | {row['name']} | {ends(row['scores']['test']['auc'])} | {shown(mean)} | {ends(row['difference'], '+')} |"


def test_the_figures_of_the_readme_are_those_of_the_committed_runs():
    lines = [line for line in README if line.startswith("| `") and line.count("|") == 6 and "[" in line]
    assert sorted(lines) == sorted(line for name, record in KEPT.items() for line in rows_of(name, record))
