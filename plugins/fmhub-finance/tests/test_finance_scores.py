"""Every score of the committed reference runs, computed once more from their predictions, with scikit-learn instead of fmhub's metrics."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import sklearn.metrics as sk
from fmhub_finance import fmhub_tasks
from scipy.stats import spearmanr

from fmhub.home import registry

TASKS = {task.name: task for task in fmhub_tasks()}
SHIPPED = [name for name, task in TASKS.items() if task.redistribute]
FETCHED = [name for name in TASKS if name not in SHIPPED]


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
        "spearman": spearmanr(truth, said).statistic,
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
    place = registry() / "leaderboard" / "fmhub-finance" / name
    record = json.loads(place.with_suffix(".json").read_text())
    labels = list(getattr(TASKS[name].head, "labels", ()))
    files = {"predictions.parquet": record["scores"]["test"]}
    files |= {f"baselines/{row['name']}.parquet": row["scores"]["test"] for row in record["baselines"]}
    for file, told in files.items():
        mine = again(place / file, labels, targets)
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
def test_the_declared_references_are_the_committed_runs(name):
    record = json.loads((registry() / "leaderboard" / "fmhub-finance" / f"{name}.json").read_text())
    told = {one.metric: one for one in TASKS[name].references}
    assert TASKS[name].metrics[0] in told
    floor = next(row["scores"]["test"] for row in record["baselines"] if row["name"] in ("majority", "mean", "always-up"))
    for metric, one in told.items():
        assert one.reference == pytest.approx(record["scores"]["test"][metric]["value"], abs=5e-4)
        assert one.floor == pytest.approx(floor[metric]["value"], abs=5e-4)
