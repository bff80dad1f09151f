"""Every score of the committed reference runs, computed once more from their predictions with scikit-learn and SciPy; the goal."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.stats as st
import sklearn.metrics as sk
from fmhub_education import fmhub_tasks

from fmhub.home import registry

TASKS = {task.name: task for task in fmhub_tasks()}
PLACE = registry() / "leaderboard" / "fmhub-education"
KEPT = {path.stem: json.loads(path.read_text()) for path in sorted(PLACE.glob("*.json"))}


def of_numbers(true, said):
    constant = np.ptp(said) == 0
    return {
        "rmse": sk.root_mean_squared_error(true, said),
        "mae": sk.mean_absolute_error(true, said),
        "r2": sk.r2_score(true, said),
        "pearson": 0.0 if constant else st.pearsonr(true, said).statistic,
        "spearman": 0.0 if constant else st.spearmanr(true, said).statistic,
        "kappa_quadratic": sk.cohen_kappa_score(*(np.floor(one + 0.5).astype(int) for one in (true, said)), weights="quadratic"),
    }


def of_labels(true, said, scores, labels):
    right, top = true == said, scores.max(1)
    yes, chance = true == labels[1], scores[:, 1]
    bins = np.minimum((top * 15).astype(int), 14)
    return {
        "auc": sk.roc_auc_score(yes, chance),
        "accuracy": right.mean(),
        "log_loss": sk.log_loss(yes, chance),
        "brier": sk.brier_score_loss(yes, chance),
        "ece": sum(abs(right[bins == one].sum() - top[bins == one].sum()) for one in range(15)) / len(true),
    }


def again(file, labels):
    """Each metric as the mean over the seeds."""
    rows, found = pq.read_table(file).to_pylist(), []
    for seed in sorted({row["seed"] for row in rows}):
        own = [row for row in rows if row["seed"] == seed]
        true, said = (np.array([row[name] for row in own]) for name in ("target", "prediction"))
        if labels:
            found.append(of_labels(true, said, np.array([row["scores"] for row in own], np.float64), labels))
        else:
            found.append(of_numbers(true.astype(np.float64), said.astype(np.float64)))
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


@pytest.mark.parametrize("name", KEPT)
def test_the_scores_are_those_of_scikit_learn(name):
    record, task = KEPT[name], TASKS[name]
    labels = sorted(set(pq.read_table(PLACE / name / "predictions.parquet")["target"].to_pylist())) if name == "item-response" else []
    files = {"predictions.parquet": record["scores"]["test"]}
    files |= {f"baselines/{row['name']}.parquet": row["scores"]["test"] for row in record["baselines"]}
    assert len(files) == 1 + len(task.baselines)
    for file, told in files.items():
        mine = again(PLACE / name / file, labels)
        assert set(told) <= set(mine)
        for metric, score in told.items():
            if score["value"] is not None:
                assert score["value"] == pytest.approx(mine[metric], abs=1e-6), (file, metric)


def test_every_task_is_ahead_of_its_floor_and_references_are_the_committed_runs():
    assert set(KEPT) == set(TASKS)
    for name, record in KEPT.items():
        score, (reference,) = record["scores"]["test"][record["primary"]], TASKS[name].references
        assert reference.metric == record["primary"] and reference.reference == pytest.approx(score["value"], abs=1e-3)
        assert (score["high"] < reference.floor) if record["primary"] == "rmse" else (score["low"] > reference.floor)


def test_answers_are_foreseen_better_than_by_a_rasch_model():
    record = KEPT["item-response"]
    (rasch,) = [row for row in record["baselines"] if row["name"] == "rasch"]
    assert record["seeds"] == 3 and rasch["difference"]["low"] > 0 and record["scores"]["test"]["auc"]["value"] > 0.819
