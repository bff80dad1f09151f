"""Every score of the committed reference runs, computed once more from their predictions with scikit-learn and SciPy; README's figures."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.stats as st
import sklearn.metrics as sk
from fmhub_text import fmhub_tasks

from fmhub.home import registry

TASKS = {task.name: task for task in fmhub_tasks() if task.source != "--data"}
PLACE = registry() / "leaderboard" / "fmhub-text"
KEPT = {path.stem: json.loads(path.read_text()) for path in sorted(PLACE.glob("*.json"))}
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def of_labels(truth, scores):
    """`truth` (n,) places of labels, `scores` (n, labels); some metrics are for two labels only."""
    scores = scores / scores.sum(1, keepdims=True)
    said, top = scores.argmax(1), scores.max(1)
    bins = np.minimum((top * 15).astype(int), 14)
    found = {
        "accuracy": sk.accuracy_score(truth, said),
        "f1_macro": sk.f1_score(truth, said, average="macro"),
        "log_loss": sk.log_loss(truth, scores, labels=range(scores.shape[1])),
        "ece": sum(abs((said == truth)[bins == one].sum() - top[bins == one].sum()) for one in range(15)) / len(truth),
    }
    if scores.shape[1] == 2:
        found |= {"auc": sk.roc_auc_score(truth, scores[:, 1]), "brier": sk.brier_score_loss(truth, scores[:, 1])}
    return found


def of_numbers(truth, said):
    constant = np.ptp(said) == 0
    return {
        "pearson": 0.0 if constant else st.pearsonr(truth, said).statistic,
        "spearman": 0.0 if constant else st.spearmanr(truth, said).statistic,
        "r2": sk.r2_score(truth, said),
        "mae": sk.mean_absolute_error(truth, said),
        "rmse": sk.root_mean_squared_error(truth, said),
    }


def compared(name, targets=None):
    record, labels = KEPT[name], list(getattr(TASKS[name].head, "labels", ()))
    files = {"predictions.parquet": record["scores"]["test"]}
    files |= {f"baselines/{row['name']}.parquet": row["scores"]["test"] for row in record["baselines"]}
    for file, told in files.items():
        rows = pq.read_table(PLACE / name / file).to_pandas()
        truth = rows["target"] if targets is None else rows["id"].map(targets)
        if labels:
            mine = of_labels(truth.map(labels.index).to_numpy(), np.array(rows["scores"].tolist(), np.float64))
        else:
            mine = of_numbers(truth.to_numpy(), rows["prediction"].to_numpy())
        assert set(told) <= set(mine)
        for metric, score in told.items():
            if score["value"] is not None:  # the correlation of one constant answer is none
                assert score["value"] == pytest.approx(mine[metric], abs=1e-6), (file, metric)
    assert record["seeds"] == 1 and len(files) == 1 + len(TASKS[name].baselines)


@pytest.mark.parametrize("name", [name for name in KEPT if TASKS[name].redistribute])
def test_the_scores_are_those_of_scikit_learn(name):
    compared(name)


@pytest.mark.real
@pytest.mark.parametrize("name", [name for name in KEPT if not TASKS[name].redistribute])
def test_the_scores_of_what_is_fetched_are_those_of_scikit_learn(name):
    test = TASKS[name].data.load().tables["test"]
    compared(name, dict(zip(test["id"].to_pylist(), test["target"].to_pylist(), strict=True)))


@pytest.mark.parametrize("name", TASKS)
def test_the_declared_reference_is_the_committed_run_and_ahead_of_the_floor(name):
    record, (reference,) = KEPT[name], TASKS[name].references
    simplest = next(row for row in record["baselines"] if row["name"] in ("majority", "mean"))
    floor = simplest["scores"]["test"]
    assert reference.metric == record["primary"]
    assert (reference.floor, reference.reference) == pytest.approx(
        (floor[reference.metric]["value"] or 0.0, record["scores"]["test"][reference.metric]["value"]), abs=5e-4
    )
    assert simplest["difference"]["low"] > 0


def shown(score, sign=""):
    """`.866 [.852, .881]`, `+.140 [+.120, +.160]`."""
    value, low, high = (f"{score[key]:{sign}.3f}".replace("0.", ".", 1) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def rows_of(name, record):
    """The lines of the README's table of figures on one task."""
    yield f"| `{name}` | **the adapter** | {shown(record['scores']['test'][record['primary']])} | |"
    for row in record["baselines"]:
        score = row["scores"]["test"][record["primary"]]
        yield f"| `{name}` | {row['name']} | {shown(score) if score['value'] is not None else 'none'} | {shown(row['difference'], '+')} |"


def test_the_figures_of_the_readme_are_those_of_the_committed_runs():
    lines = [line for line in README.splitlines() if line.startswith("| `") and line.count("|") == 5]
    assert sorted(lines) == sorted(line for name, record in KEPT.items() for line in rows_of(name, record))
