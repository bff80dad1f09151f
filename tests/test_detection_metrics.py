"""Boxes: average precision against hand-computed cases, pycocotools and faster-coco-eval, and resampling against repetition."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from fmhub.errors import DataError
from fmhub.evaluation import evaluate, metrics
from fmhub.evaluation.metrics import detection


def box(*edges: float, score: float | None = None, label: str = "cell") -> dict[str, Any]:
    return {"box": list(edges), "label": label} | ({} if score is None else {"score": score})


def table(*rows: tuple[list[Any], list[Any]]) -> dict[str, Any]:
    """(prediction, target) of each image."""
    columns = {}
    for place, name in enumerate(("prediction", "target")):
        columns[name] = np.empty(len(rows), dtype=object)
        columns[name][:] = [row[place] for row in rows]
    return {"id": np.array([str(number) for number in range(len(rows))], dtype=object), **columns}


def value(name: str, columns: dict[str, Any]) -> float:
    return metrics.get(name).score(columns, None)


TRUE = box(0, 0, 10, 10)
CROWD = {**box(40, 40, 82, 90), "iscrowd": 1}


def test_overlaps_by_hand() -> None:
    found = detection.overlaps(np.array([[0, 0, 10, 10.0]]), np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [3, 3, 3, 3.0]]))
    np.testing.assert_allclose(found, [[1, 50 / 150, 0, 0]])
    assert detection.overlaps(np.zeros((1, 4)), np.zeros((1, 4))) == 0


@pytest.mark.parametrize(
    ("rows", "ap50", "map_"),
    [
        ([([box(0, 0, 10, 10, score=0.9)], [TRUE])], 1, 1),
        ([([box(0, 0, 10, 6, score=0.9)], [TRUE])], 1, 0.3),  # overlap .6: a hit at .50, .55 and .60
        ([([], [TRUE])], 0, 0),
        ([([box(0, 0, 10, 10, score=0.9, label="other")], [TRUE])], 0, 0),
        # one of two found: recalls 0 to .5 (51 of 101) at precision 1
        ([([box(0, 0, 10, 10, score=0.9)], [TRUE, box(20, 20, 30, 30)])], 51 / 101, 51 / 101),
        # a better scored miss first: precision 1/2 everywhere
        ([([box(50, 50, 60, 60, score=0.9), box(0, 0, 10, 10, score=0.8)], [TRUE])], 0.5, 0.5),
        # the same box twice: the second is a miss, after recall 1
        ([([box(0, 0, 10, 10, score=0.9), box(0, 0, 10, 10, score=0.8)], [TRUE])], 1, 1),
        # a miss on an image without a true box lowers precision
        ([([box(0, 0, 10, 10, score=0.8)], [TRUE]), ([box(0, 0, 10, 10, score=0.9)], [])], 0.5, 0.5),
        # what lies in a crowd is neither right nor wrong, however often it is found
        ([([box(50, 50, 60, 60, score=0.9), box(52, 52, 58, 58, score=0.9), box(0, 0, 10, 10, score=0.8)], [TRUE, CROWD])], 1, 1),
        # .6 of it lies in a crowd: wrong from overlap .65 on, where precision is a half
        ([([box(76, 40, 86, 90, score=0.9), box(0, 0, 10, 10, score=0.8)], [TRUE, CROWD])], 1, (3 + 7 / 2) / 10),
        # a thing inside a crowd is found as ever, and a crowd of another label excuses nothing
        ([([box(45, 45, 55, 55, score=0.9)], [box(45, 45, 55, 55), CROWD])], 1, 1),
        ([([box(50, 50, 60, 60, score=0.9), box(0, 0, 10, 10, score=0.8)], [TRUE, {**CROWD, "label": "other"}])], 0.5, 0.5),
    ],
)
def test_average_precision_by_hand(rows: list[Any], ap50: float, map_: float) -> None:
    assert value("ap50", table(*rows)) == pytest.approx(ap50)
    assert value("map", table(*rows)) == pytest.approx(map_)


def test_without_a_true_box_there_is_no_value() -> None:
    assert np.isnan(value("map", table(([box(0, 0, 1, 1, score=1)], []))))
    assert evaluate(table(([], [])), ["map"])["map"]["value"] is None


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (["x"], "Row 0: the prediction is not a list of boxes"),
        (None, "not a list of boxes"),
        ([{"box": [0, 0, 1], "label": "a", "score": 1}], "not a list of boxes"),
        ([box(0, 0, 1, 1)], r"\(box, label, score\)"),
        ([box(0, 0, float("nan"), 1, score=1)], "not finite"),
    ],
)
def test_rows_that_are_no_boxes_are_named(bad: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        value("map", table((bad, [TRUE])))


def scene(random: np.random.Generator, images: int, crowds: float = 0.0) -> dict[str, Any]:
    """Crowded images of two labels: jittered, doubled and missed boxes, with scores on a coarse grid of their own image.

    `crowds` is the share of true boxes that are `iscrowd`.
    """
    rows = []
    for image in range(images):
        corners = random.uniform(0, 60, (random.integers(0, 12), 2))
        true = [box(*corner, *(corner + random.uniform(5, 25, 2)), label=random.choice(["a", "b"])) for corner in corners]
        for one in true:
            one["iscrowd"] = int(random.random() < crowds)
        found = []
        for one in true:
            for _ in range(random.integers(0, 3)):
                edges = np.array(one["box"]) + random.normal(0, 1.5, 4)
                found.append(box(*edges, score=round(float(random.random()), 2) + image * 1e-5, label=one["label"]))
        found += [box(*corner, *(corner + 9), score=float(random.random()), label="a") for corner in random.uniform(0, 60, (3, 2))]
        rows.append((found, true))
    return table(*rows)


def coco(columns: dict[str, Any], library: str) -> list[float]:
    """mAP, AP50 and AP75 as one of the two libraries computes them."""
    if library == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    else:
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as COCOeval

    names = {"a": 1, "b": 2}

    def flat(one: dict[str, Any], image: int) -> dict[str, Any]:
        left, top, right, bottom = one["box"]
        return {"image_id": image + 1, "category_id": names[one["label"]], "bbox": [left, top, right - left, bottom - top]}

    truth = [
        flat(one, image) | {"area": (one["box"][2] - one["box"][0]) * (one["box"][3] - one["box"][1]), "iscrowd": one["iscrowd"]}
        for image, boxes in enumerate(columns["target"]) for one in boxes
    ]  # fmt: skip
    dataset = {
        "info": {}, "images": [{"id": image + 1} for image in range(len(columns["target"]))],
        "categories": [{"id": number, "name": name} for name, number in names.items()],
        "annotations": [{**one, "id": number + 1} for number, one in enumerate(truth)],
    }  # fmt: skip
    found = [flat(one, image) | {"score": one["score"]} for image, boxes in enumerate(columns["prediction"]) for one in boxes]
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = dataset
        known.createIndex()
        run = COCOeval(known, known.loadRes(found), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return [float(run.stats[place]) for place in (0, 1, 2)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("crowds", [0.0, 0.2])
@pytest.mark.parametrize("library", ["pycocotools", "faster_coco_eval"])
def test_equal_to_the_usual_libraries(library: str, crowds: float, seed: int) -> None:
    columns = scene(np.random.default_rng(seed), 30, crowds)
    ours = [value(name, columns) for name in ("map", "ap50", "ap75")]
    assert 0.05 < ours[0] < 0.9
    assert ours == pytest.approx(coco(columns, library), abs=1e-9)
    for boxes in columns["target"]:
        for one in boxes:
            one["iscrowd"] = 0
    assert (ours == pytest.approx([value(name, columns) for name in ("map", "ap50", "ap75")])) == (not crowds)


def test_places_where_only_a_crowd_is_have_no_value() -> None:
    assert np.isnan(value("map", table(([box(50, 50, 60, 60, score=1)], [CROWD]))))


def test_a_resample_is_the_repeated_images() -> None:
    random = np.random.default_rng(5)
    columns = scene(random, 12)
    for found in columns["prediction"]:  # of equal scores the repeated image's would come later
        for one in found:
            one["score"] = float(random.random())
    weighted = metrics.get("map").resample(columns, None)  # type: ignore[misc]
    drawn = random.integers(0, 12, (6, 12))
    counts = np.stack([np.bincount(one, minlength=12) for one in drawn]).astype(float)
    repeated = [value("map", {name: values[np.sort(one)] for name, values in columns.items()}) for one in drawn]
    assert weighted(counts) == pytest.approx(repeated, abs=1e-9) == weighted(counts.astype(int))


def test_a_score_with_its_interval() -> None:
    found = evaluate(scene(np.random.default_rng(1), 20), ["map", "ap50"])
    for one in found.values():
        assert one["low"] < one["value"] < one["high"]
    assert found["map"]["value"] < found["ap50"]["value"]
