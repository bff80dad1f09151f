"""Every score of the committed reference runs, computed once more from their predictions with jiwer and scikit-learn; the goals."""

import json
from pathlib import Path

import jiwer
import numpy as np
import pyarrow.parquet as pq
import pytest
import sklearn.metrics as sk
from fmhub_speech import fmhub_tasks

from fmhub.evaluation.metrics.transcripts import english, exact, folded
from fmhub.home import registry

TASKS = {task.name: task for task in fmhub_tasks()}
PLACE = registry() / "leaderboard" / "fmhub-speech"
KEPT = {path.stem: json.loads(path.read_text()) for path in sorted(PLACE.glob("*.json"))}
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8").splitlines()


def of_texts(true, said):
    folds = {"wer": folded, "wer_exact": exact, "wer_english": english}
    rates = {name: jiwer.wer([fold(text) for text in true], [fold(text) for text in said]) for name, fold in folds.items()}
    return {**rates, "cer": jiwer.cer(list(map(folded, true)), list(map(folded, said)))}


def of_labels(true, said, scores, labels):
    top, right = scores.max(1), np.array(true) == said
    bins = np.minimum((top * 15).astype(int), 14)
    return {
        "accuracy": sk.accuracy_score(true, said),
        "f1_macro": sk.f1_score(true, said, average="macro", labels=labels, zero_division=0),
        "log_loss": -np.log(np.maximum(scores[range(len(true)), [labels.index(one) for one in true]], 1e-15)).mean(),
        "ece": sum(abs(right[bins == one].sum() - top[bins == one].sum()) for one in range(15)) / len(true),
    }


def again(file, labels):
    """Each metric as the mean over the seeds."""
    rows, found = pq.read_table(file).to_pylist(), []
    for seed in sorted({row["seed"] for row in rows}):
        own = [row for row in rows if row["seed"] == seed]
        true, said = [row["target"] for row in own], [row["prediction"] for row in own]
        found.append(
            of_labels(true, said, np.array([row["scores"] for row in own], np.float64), labels) if labels else of_texts(true, said)
        )
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


@pytest.mark.parametrize("name", KEPT)
def test_the_scores_are_those_of_jiwer_and_scikit_learn(name):
    task, record = TASKS[name.partition("@")[0]], KEPT[name]
    files = {"predictions.parquet": record["scores"]["test"]}
    files |= {f"baselines/{row['name']}.parquet": row["scores"]["test"] for row in record["baselines"]}
    assert len(files) == 1 + len(task.baselines)
    for file, told in files.items():
        mine = again(PLACE / name / file, list(getattr(task.head, "labels", ())))
        assert set(told) <= set(mine)
        for metric, score in told.items():
            assert score["value"] == pytest.approx(mine[metric], abs=1e-6), (file, metric)


def baseline(record, name):
    return next(row for row in record["baselines"] if row["name"] == name)


def test_english_at_five_seconds_is_no_worse_than_untouched_at_thirty():
    record = KEPT["speech-recognition"]
    untouched = baseline(record, "zero-shot-30s")["scores"]["test"]["wer"]["value"]
    assert record["seeds"] == 3 and record["recipe"]["length"] == 500 and record["scores"]["test"]["wer"]["value"] <= untouched


@pytest.mark.parametrize("language", ["es", "ru"])
def test_spanish_and_russian_have_two_fifths_fewer_errors_than_untouched(language):
    record = KEPT[f"speech-recognition-{language}"]
    untouched = baseline(record, "zero-shot-30s")["scores"]["test"]["wer"]["value"]
    assert record["seeds"] == 3 and record["scores"]["test"]["wer"]["value"] <= 0.6 * untouched


@pytest.mark.parametrize("name", TASKS)
def test_the_declared_references_are_those_of_the_committed_run(name):
    assert bool(TASKS[name].references) == (name in KEPT)
    for one in TASKS[name].references:
        record = KEPT[name]
        floor = 1.0 if one.metric == "wer" else baseline(record, "majority")["scores"]["test"][one.metric]["value"]  # nothing written
        assert (one.floor, one.reference) == pytest.approx((floor, record["scores"]["test"][one.metric]["value"]), abs=5e-5)
        assert record["scores"]["test"][one.metric]["high" if one.metric == "wer" else "low"] != floor


def shown(value, sign=""):
    """`.866`, `-.012`, `+.140`."""
    said = f"{value:{sign}.3f}"
    return said.replace("0.", ".", 1) if abs(value) < 1 else said


def ends(score, sign=""):
    return f"{shown(score['value'], sign)} [{shown(score['low'], sign)}, {shown(score['high'], sign)}]"


def rows_of(name, record):
    """The lines of the README's table of figures on one run: the network and its baselines on the metric that ranks."""
    metric, others = record["primary"], ["cer", "wer_exact"] if record["primary"] == "wer" else ["f1_macro"]
    for who, row in [("**the network**", record), *((row["name"], row) for row in record["baselines"])]:
        scores = row["scores"]["test"]
        beside = " / ".join(shown(scores[one]["value"]) for one in others)
        gap = ends(row["difference"], "+") if row is not record else ""
        yield f"| `{name}` | {who} | {ends(scores[metric])} | {beside} | {gap} |".replace("  |", " |")


def test_the_figures_of_the_readme_are_those_of_the_committed_runs():
    lines = [line for line in README if line.startswith("| `") and line.count("|") == 6 and "[" in line]
    assert sorted(lines) == sorted(line for name, record in KEPT.items() for line in rows_of(name, record))
