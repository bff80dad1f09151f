"""The scores in a record, computed again from its predictions.parquet by other people's code: pycocotools and scikit-learn."""

import contextlib
import io
import json
import types
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fmhub_vision import BOXED, LABELLED, fmhub_tasks
from fmhub_vision.blobs import Blobs

from fmhub import Recipe, Task, api, heads, hookimpl, hub, stems
from fmhub.evaluation import baselines
from fmhub.home import registry
from fmhub.recipe import Lora
from fmhub.runs import folder
from fmhub.task import Reads

TASKS = {task.name: task for task in fmhub_tasks()}
PLACE = registry() / "leaderboard" / "fmhub-vision"
KEPT = {path.stem: json.loads(path.read_text()) for path in sorted(PLACE.glob("*.json"))}
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """The folder of a random DINOv2 of three layers, 32 wide."""
    import transformers

    shape = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 16, "patch_size": 4, "mlp_ratio": 2}
    transformers.set_seed(0)
    folder = tmp_path_factory.mktemp("backbone")
    transformers.AutoModel.from_config(transformers.AutoConfig.for_model("dinov2", **shape)).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def run(backbone):
    """`run(head, of=TASK, ...)`: the record and the folder of a run on that task's sample and a random backbone of three layers."""

    def make(head, of, **changes):
        recipe = Recipe(epochs=3, lr=3e-3, batch=8, lora=Lora(layers="last:1"))
        stem = stems.Image(size=56, ground=(0, 0, 0))
        task = Task(name="made", title="Made", data=TASKS[of].sample, backbone=backbone, stem=stem, head=head, recipe=recipe, **changes)
        module = types.ModuleType("made_plugin")
        module.fmhub_tasks = hookimpl(lambda: [task], specname="fmhub_tasks")
        hub.register(module)
        try:
            record = api.run("made")
        finally:
            hub.unregister()
        return record, folder.find(record["id"])

    return make


def rows(path, split):
    return [row for row in pq.read_table(path).to_pylist() if row["split"] == split]


def coco(found):
    """mAP, AP50 and AP75 as pycocotools computes them."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    labels = sorted({one["label"] for row in found for one in row["target"] if not one.get("iscrowd")})

    def flat(one, image):
        left, top, right, bottom = one["box"]
        return {"image_id": image, "category_id": labels.index(one["label"]) + 1, "bbox": [left, top, right - left, bottom - top]}

    truth = [{**flat(one, image), "iscrowd": one.get("iscrowd") or 0} for image, row in enumerate(found, 1) for one in row["target"]]
    said = [{**flat(one, image), "score": one["score"]} for image, row in enumerate(found, 1) for one in row["prediction"]]
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = {
            "info": {}, "images": [{"id": image + 1} for image in range(len(found))],
            "categories": [{"id": number + 1, "name": name} for number, name in enumerate(labels)],
            "annotations": [{**one, "id": at, "area": one["bbox"][2] * one["bbox"][3]} for at, one in enumerate(truth, 1)],
        }  # fmt: skip
        known.createIndex()
        judge = COCOeval(known, known.loadRes(said), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return dict(zip(BOXED, judge.stats[:3].tolist(), strict=True))


def labelled(found, labels):
    """What scikit-learn says of labels and their probabilities."""
    from sklearn.metrics import accuracy_score, f1_score, log_loss, top_k_accuracy_score

    truth, said = [row["target"] for row in found], [row["prediction"] for row in found]
    scores = np.array([row["scores"] for row in found], np.float64)
    order = np.argsort(labels)
    sorted_scores, names = scores[:, order], [labels[place] for place in order]
    return {
        "accuracy": accuracy_score(truth, said),
        "f1_macro": f1_score(truth, said, labels=sorted(set(truth) | set(said)), average="macro", zero_division=0),
        "top3_accuracy": top_k_accuracy_score(truth, sorted_scores, k=3, labels=names),
        "log_loss": log_loss(truth, sorted_scores / sorted_scores.sum(1, keepdims=True), labels=names),
    }


def test_boxes_are_scored_as_pycocotools_scores_them(run):
    head = heads.Detection(reads=Reads("all", (-1, -2)), hidden=32)
    record, place = run(head, "object-detection", metrics=BOXED, baselines=(Blobs(), TASKS["object-detection"].baselines[1]))
    held = {"adapter": (place / "predictions.parquet", record["scores"])}
    held |= {one["name"]: (place / "baselines" / f"{one['name']}.parquet", one["scores"]) for one in record["baselines"]}
    assert list(held) == ["adapter", "blobs", "frozen-shallow"]
    for name, (path, scores) in held.items():
        for split in ("validation", "test"):
            again = coco(rows(path, split))
            assert {metric: scores[split][metric]["value"] for metric in BOXED} == pytest.approx(again, abs=1e-6), name
    assert held["blobs"][1]["test"]["map"]["value"] > 0.5  # so that it is not nothing that agrees


def test_labels_are_scored_as_scikit_learn_scores_them(run):
    labels = TASKS["image-classification"].head.labels
    record, place = run(
        heads.Classification(labels=labels), "image-classification", metrics=LABELLED, baselines=(baselines.FrozenLogistic(),)
    )
    for path, scores in (
        (place / "predictions.parquet", record["scores"]),
        (place / "baselines" / "frozen-logistic.parquet", record["baselines"][0]["scores"]),
    ):
        for split in ("validation", "test"):
            for metric, value in labelled(rows(path, split), list(labels)).items():
                assert scores[split][metric]["value"] == pytest.approx(value, abs=1e-6), metric


@pytest.mark.parametrize("name", KEPT)
def test_the_scores_of_committed_runs_are_those_of_others(name):
    record, task = KEPT[name], TASKS[name]
    files = {"predictions.parquet": record["scores"]["test"]}
    files |= {f"baselines/{row['name']}.parquet": row["scores"]["test"] for row in record["baselines"]}
    assert len(files) == 1 + len(task.baselines)
    for file, told in files.items():
        found = rows(PLACE / name / file, "test")
        seeds = [[row for row in found if row["seed"] == seed] for seed in sorted({row["seed"] for row in found})]
        each = [labelled(one, list(task.head.labels)) if "accuracy" in told else coco(one) for one in seeds]
        for metric in each[0]:
            assert told[metric]["value"] == pytest.approx(np.mean([one[metric] for one in each]), abs=1e-6), (file, metric)
    simplest = record["baselines"][0]  # always the same label, or threshold and watershed
    assert simplest["difference"]["low"] > 0


def shown(score, sign=""):
    """`.866 [.852, .881]`, `+.140 [+.120, +.160]`."""
    value, low, high = (f"{score[key]:{sign}.3f}".replace("0.", ".", 1) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def rows_of(name, record):
    """The lines of the README's table of figures on one task with labels."""
    splits = [split for split in record["scores"] if split.startswith("shift:")]
    for who, row in [("**the network**", record), *((row["name"], row) for row in record["baselines"])]:
        shift = shown(row["scores"][splits[0]]["accuracy"]) if splits else ""
        gap = shown(row["difference"], "+") if row is not record else ""
        yield f"| `{name}` | {who} | {shown(row['scores']['test']['accuracy'])} | {shift} | {gap} |".replace("  |", " |")


def test_the_figures_of_the_readme_are_those_of_the_committed_runs():
    lines = [line for line in README if line.startswith("| `") and line.count("|") == 6]
    told = {name: record for name, record in KEPT.items() if record["primary"] == "accuracy"}
    assert sorted(lines) == sorted(line for name, record in told.items() for line in rows_of(name, record))
