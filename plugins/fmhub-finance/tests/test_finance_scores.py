"""Every score of the committed reference runs, computed once more from their predictions, with scikit-learn instead of fmhub's metrics."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import sklearn.metrics as sk
from fmhub_finance import fmhub_tasks
from scipy.stats import spearmanr

from fmhub.home import registry

TASKS = {task.name: task for task in fmhub_tasks()}
PLACE = registry() / "leaderboard" / "fmhub-finance"
KEPT = {path.stem: json.loads(path.read_text()) for path in sorted(PLACE.glob("*.json"))}
SHIPPED = [name for name in KEPT if TASKS[name].redistribute]
FETCHED = [name for name in KEPT if name not in SHIPPED]
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8").splitlines()


def gaps(truth, scores):
    """The calibration error over 15 equal bins of the top probability."""
    top, right = scores.max(1), scores.argmax(1) == truth
    bins = np.minimum((top * 15).astype(int), 14)
    return sum(abs(right[bins == one].sum() - top[bins == one].sum()) for one in range(15)) / len(truth)


def of_labels(truth, scores):
    second = scores[:, 1] / scores.sum(1)
    missed, alarm = (truth == 1) & (scores[:, 1] < 1 / 6), (truth == 0) & (scores[:, 1] >= 1 / 6)
    return {
        "auc": sk.roc_auc_score(truth, scores[:, 1]),
        "accuracy": sk.accuracy_score(truth, scores.argmax(1)),
        "brier": sk.brier_score_loss(truth, second),
        "log_loss": sk.log_loss(truth, second),
        "ece": gaps(truth, scores),
        "cost_5": (5 * missed + alarm).mean(),
    }


def of_numbers(truth, said):
    return {
        "r2": sk.r2_score(truth, said),
        "rmse": sk.root_mean_squared_error(truth, said),
        "mae": sk.mean_absolute_error(truth, said),
        "spearman": spearmanr(truth, said).statistic if np.ptp(said) else 0.0,
    }


def again(file, labels, targets):
    """Each metric as the mean over the seeds; the rows of all folds are scored together."""
    table = pq.read_table(file).to_pandas()
    truth = table["target"] if targets is None else table["id"].map(targets)
    found = []
    for seed in sorted(set(table["seed"])):
        rows = table["seed"] == seed
        if labels:
            scores = np.array(table["scores"][rows].tolist(), np.float64)
            found.append(of_labels(truth[rows].map(labels.index).to_numpy(), scores))
        else:
            found.append(of_numbers(truth[rows].to_numpy(), table["prediction"][rows].to_numpy()))
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def compared(name, targets=None):
    record = KEPT[name]
    labels = list(getattr(TASKS[name].head, "labels", ()))
    files = {"predictions.parquet": record["scores"]["test"]}
    files |= {f"baselines/{row['name']}.parquet": row["scores"]["test"] for row in record["baselines"]}
    for file, told in files.items():
        mine = again(PLACE / name / file, labels, targets)
        assert set(told) <= set(mine)
        for metric, score in told.items():
            if score["value"] is not None:  # the correlation of one constant answer is none
                assert score["value"] == pytest.approx(mine[metric], abs=1e-6), (file, metric)
    assert record["seeds"] == 3 and len(files) == 1 + len(TASKS[name].baselines)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_scores_of_applications_are_those_of_scikit_learn(name):
    compared(name)


@pytest.mark.real
@pytest.mark.parametrize("name", FETCHED)
def test_the_scores_of_what_is_fetched_are_those_of_scikit_learn(name):
    test = TASKS[name].data.load().tables["test"]
    compared(name, dict(zip(test["id"].to_pylist(), test["target"].to_pylist(), strict=True)))


@pytest.mark.parametrize("name", TASKS)
def test_the_declared_references_are_those_of_the_committed_run(name):
    told = {one.metric: one for one in TASKS[name].references}
    assert bool(told) == (name in KEPT and TASKS[name].expects == "skill")
    for metric, one in told.items():
        record = KEPT[name]
        floor = next(row["scores"]["test"] for row in record["baselines"] if row["name"] in ("majority", "mean"))
        ends = floor[metric]["value"], record["scores"]["test"][metric]["value"]
        assert (one.floor, one.reference) == pytest.approx(ends, abs=5e-4)


def shown(value, sign=""):
    """`.866`, `-.012`, `+.140`."""
    said = f"{value:{sign}.3f}"
    return said.replace("0.", ".", 1) if abs(value) < 1 else said


def rows_of(name, record):
    """The lines of the README's table of figures on one task: the network and its baselines on the metric that ranks."""
    metric = record["primary"]
    yield f"| `{name}` | **the network** | {_ends(record['scores']['test'][metric])} | |"
    for row in record["baselines"]:
        yield f"| `{name}` | {row['name']} | {_ends(row['scores']['test'][metric])} | {_ends(row['difference'], '+')} |"


def _ends(score, sign=""):
    return f"{shown(score['value'], sign)} [{shown(score['low'], sign)}, {shown(score['high'], sign)}]"


def test_the_figures_of_the_readme_are_those_of_the_committed_runs():
    lines = [line for line in README if line.startswith("| `") and line.count("|") == 5]
    assert sorted(lines) == sorted(line for name, record in KEPT.items() for line in rows_of(name, record))
