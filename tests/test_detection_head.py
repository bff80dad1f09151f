"""The detection head: arithmetic of boxes, which cell learns what, the loss and the decoding by hand; it learns what it is shown."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from fmhub import heads, stems
from fmhub.errors import DataError
from fmhub.evaluation import evaluate
from fmhub.heads import boxes as room
from fmhub.heads import grid, queries
from fmhub.recipe import Lora, Recipe
from fmhub.task import Known, Reads

B = torch.tensor


@pytest.mark.parametrize(
    ("one", "other", "ratio", "general"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1, 1),
        ((0, 0, 10, 10), (5, 0, 15, 10), 1 / 3, 1 / 3),
        ((0, 0, 10, 10), (20, 0, 30, 10), 0, -1 / 3),  # hull 300, union 200
        ((0, 0, 10, 10), (0, 0, 5, 5), 0.25, 0.25),
    ],
)
def test_overlap_by_hand(one: Any, other: Any, ratio: float, general: float) -> None:
    found = room.overlap(B(one, dtype=torch.float32), B(other, dtype=torch.float32))
    assert [float(value) for value in found] == pytest.approx([ratio, general])


def test_suppression_by_hand() -> None:
    boxes = B([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [5, 0, 15, 10.0]])  # overlaps with the first: .82, 0, .33
    assert room.suppressed(boxes, 0.5).tolist() == [0, 2, 3]
    assert room.suppressed(boxes, 0.3).tolist() == [0, 2]
    assert room.suppressed(boxes, 0.9).tolist() == [0, 1, 2, 3]
    assert room.suppressed(boxes[:0], 0.5).tolist() == []


@settings(deadline=None)
@given(st.floats(0.2, 4), st.floats(0.2, 4), st.floats(-50, 50), st.floats(-50, 50), st.booleans())
def test_a_box_moved_and_back_is_itself(across: float, down: float, left: float, top: float, mirror: bool) -> None:
    frame = B([[-across if mirror else across, 0, left], [0, down, top]], dtype=torch.float64)
    boxes = B([[1, 2, 10, 30], [5, 5, 6, 7]], dtype=torch.float64)
    there = room.moved(boxes, frame)
    assert bool((there[:, 2:] > there[:, :2]).all())
    torch.testing.assert_close(room.moved(there, room.back(frame)), boxes)


def outputs(side: int = 4, stride: float = 10.0, labels: int = 1, *, scale: float = 1.0) -> dict[str, torch.Tensor]:
    """What a silent grid of side x side cells says of one picture that was resized by `scale`."""
    axis = (torch.arange(side) + 0.5) * stride
    cells = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(-1, 2)
    return {
        "kinds": torch.full((1, side * side, labels), -20.0), "cells": cells,
        "boxes": torch.cat([cells - 5, cells + 5], dim=1)[None], "stride": torch.tensor(stride),
        "frame": B([[[scale, 0, 0], [0, scale, 0]]]), "source": torch.tensor([[int(side * stride / scale)] * 2]),
    }  # fmt: skip


def assigned(boxes: list[list[float]], kinds: list[int] | None = None, **options: Any) -> torch.Tensor:
    given_ = np.array(boxes, np.float32).reshape(-1, 4)
    label, _ = grid.assign(outputs(**options), 0, given_, np.array(kinds if kinds is not None else [0] * len(boxes), np.int64), 1.5)
    return label.reshape(4, 4)


def test_cells_near_the_centre_learn_a_box() -> None:
    label = assigned([[0, 0, 40, 40]])  # cells at 5, 15, 25, 35; the centre is 20: 5 and 35 lie 1.5 cells off, which is not less
    assert label.tolist() == [[-1, -1, -1, -1], [-1, 0, 0, -1], [-1, 0, 0, -1], [-1, -1, -1, -1]]


def test_the_smaller_of_two_boxes_wins_a_cell() -> None:
    label = assigned([[10, 10, 20, 20], [0, 0, 40, 40]], [1, 0], labels=2)
    assert label.tolist() == [[-1, -1, -1, -1], [-1, 1, 0, -1], [-1, 0, 0, -1], [-1, -1, -1, -1]]


def test_a_box_between_all_cells_still_has_one() -> None:
    assert int((assigned([[9, 9, 11, 11]]) == 0).sum()) == 1
    assert int((assigned([]) == 0).sum()) == 0
    assert int((assigned([[50, 50, 60, 60]]) == 0).sum()) == 0  # outside the input: augmentation moved it there


def test_in_a_crowd_nothing_is_learnt_but_a_box_of_its_own() -> None:
    label = assigned([[0, 0, 40, 22], [10, 10, 20, 20]], [-1, 0])
    assert label.tolist() == [[-2] * 4, [-2, 0, -2, -2], [-1] * 4, [-1] * 4]
    head = heads.Detection(labels=("a",))
    loud = outputs()
    loud["kinds"][0, 1] = 20.0
    crowd = {"boxes": [np.array([[0, 0, 40, 22]], np.float32)], "kinds": [np.array([-1])]}
    assert float(head.loss(loud, crowd, Recipe())[0]) == pytest.approx(0, abs=1e-5)
    loud["kinds"][0, 9] = 20.0  # outside
    assert float(head.loss(loud, crowd, Recipe())[0]) == pytest.approx(20, rel=1e-3)


def test_boxes_follow_the_frame() -> None:
    assert torch.equal(assigned([[0, 0, 40, 40]]), assigned([[0, 0, 20, 20]], scale=2.0))


def test_focal_and_quality_by_hand() -> None:
    logits, truth = B([0.0, 0.0, math.log(3)]), B([1.0, 0.0, 1.0])
    expected = [0.25 * 0.25 * math.log(2), 0.75 * 0.25 * math.log(2), 0.25 * 0.0625 * math.log(4 / 3)]
    torch.testing.assert_close(grid.focal(logits, truth), B(expected))
    # said 1/2, 1/2 and 3/4, where the boxes fit by 1, 1/2 and not at all: (1/2)^2 log 2, nothing, (3/4)^2 log 4
    expected = [0.25 * math.log(2), 0.0, 0.5625 * math.log(4)]
    torch.testing.assert_close(grid.quality(logits, B([1.0, 0.5, 0.0])), B(expected))


def test_the_loss_of_a_perfect_answer_is_small_and_of_a_wrong_one_is_not() -> None:
    head = heads.Detection(labels=("a",))
    right = outputs()
    right["kinds"][0, 5] = 20.0  # the cell at (15, 15)
    targets = {"boxes": [np.array([[10, 10, 20, 20]], np.float32)], "kinds": [np.array([0])]}
    loss, weight = head.loss(right, targets, Recipe())
    assert (float(loss), float(weight)) == (pytest.approx(0, abs=1e-5), 1.0)
    silent, _ = head.loss(outputs(), targets, Recipe())
    assert float(silent) == pytest.approx(20, rel=1e-3)
    shifted = {**right, "boxes": right["boxes"] + 10}  # no overlap: the sides are wrong, and so is the cell that is sure of them
    assert float(head.loss(shifted, targets, Recipe())[0]) == pytest.approx(20 + 1 - (0 - (400 - 200) / 400), rel=1e-3)
    half = {**right, "boxes": right["boxes"] + B([0.0, 0, 10, 0])}  # 20 x 10 around 10 x 10: half of it is the truth
    half["kinds"][0, 5] = 0.0  # and that is what the cell says
    assert float(head.loss(half, targets, Recipe())[0]) == pytest.approx(1 - 0.5, rel=1e-3)
    empty = {"boxes": [np.zeros((0, 4), np.float32)], "kinds": [np.zeros(0, np.int64)]}
    assert float(head.loss(outputs(), empty, Recipe())[1]) == 1.0


def test_decoding_by_hand() -> None:
    head = heads.Detection(labels=("a", "b"), least=0.3, limit=0.5)
    said = outputs(labels=2, scale=2.0)
    said["kinds"][0, 5, 0] = 4.0
    said["kinds"][0, 6, 0] = 2.0
    said["boxes"][0, 6] = said["boxes"][0, 5] + 1  # nearly the same box, of the same label: dropped
    said["kinds"][0, 5, 1] = 1.0  # the same box, of another label: kept
    said["kinds"][0, 15, 0] = 0.0
    said["boxes"][0, 15] = B([30.0, 30, 99, 99])  # over the edge of the picture
    (found,) = head.decode(said)["prediction"]
    assert [(one["label"], one["box"]) for one in found] == [("a", [5, 5, 10, 10]), ("b", [5, 5, 10, 10]), ("a", [15, 15, 20, 20])]
    assert [one["score"] for one in found] == pytest.approx([1 / (1 + math.exp(-x)) for x in (4, 1, 0)], rel=1e-4)
    assert head.decode(outputs(labels=2)) == {"prediction": [[]]}


def windows(*corners: tuple[int, int]) -> dict[str, torch.Tensor]:
    """What silent grids say of 40 x 40 windows of one picture, 60 wide and 40 high, at these corners."""
    said = outputs()
    many = {name: said[name].repeat(len(corners), *[1] * (said[name].dim() - 1)) for name in ("kinds", "boxes", "frame", "source")}
    places = torch.tensor([[0, left, top, left + 40, top + 40, 60, 40] for left, top in corners])
    return {**said, **many, "windows": places}


def test_windows_learn_what_they_show_of_a_picture() -> None:
    head = heads.Detection(labels=("a",))
    targets = {"boxes": [np.array([[12, 10, 22, 20], [50, 10, 60, 20]], np.float32)], "kinds": [np.array([0, 0])]}
    said = windows((0, 0), (20, 0))
    _, weight = head.loss(said, targets, Recipe())
    alone = [
        head.loss(outputs(), {"boxes": [np.array([box], np.float32)], "kinds": [np.array([0])]}, Recipe())[1]
        for box in ((12, 10, 22, 20), (30, 10, 40, 20))
    ]
    assert float(weight) == float(sum(alone))  # a fifth of the first box is in the second window: too little to be learnt there
    seen = heads.SetDetection(labels=("a",)).loss(
        {**said, "size": torch.tensor(40), "boxes": said["boxes"][:, :4], "kinds": said["kinds"][:, :4]}, targets, Recipe()
    )
    assert float(seen[1]) == 2.0


def test_what_windows_find_is_one_answer_of_the_picture() -> None:
    head = heads.Detection(labels=("a",), least=0.3)
    said = windows((0, 0), (20, 0))
    said["kinds"][0, 5] = said["kinds"][1, 4] = 2.0  # the cells at (15, 15) and, seen from the second window, (5, 15)
    said["boxes"][0, 5], said["boxes"][1, 4] = B([22.0, 10, 32, 20]), B([2.0, 10, 12, 20])  # the same thing
    said["kinds"][1, 7], said["boxes"][1, 7] = 1.0, B([30.0, 10, 40, 20])
    (found,) = head.decode(said)["prediction"]
    assert [one["box"] for one in found] == [[22, 10, 32, 20], [50, 10, 60, 20]]


def test_a_piece_at_an_edge_is_dropped_where_another_window_shows_its_place() -> None:
    """And what is cut in every window is kept."""
    head = heads.Detection(labels=("a",))
    places = np.array([[0, 0, 0, 40, 40, 70, 40], [0, 30, 0, 70, 40, 70, 40]])
    piece, whole = {"box": [33.0, 10, 40, 20], "label": "a", "score": 0.9}, {"box": [5.0, 10, 15, 20], "label": "a", "score": 0.8}
    wide = {"box": [10.0, 25, 40, 35], "label": "a", "score": 0.7}
    (found,) = head.joined({"prediction": [[piece, whole, wide], []]}, places, 1)["prediction"]
    assert [one["box"] for one in found] == [whole["box"], wide["box"]]
    places[1, 1] = 32  # now both windows cut it
    assert len(head.joined({"prediction": [[piece, whole, wide], []]}, places, 1)["prediction"][0]) == 3
    assert len(head.joined({"prediction": [[piece]]}, places[:1], 1)["prediction"][0]) == 1


def scenes(count: int, seed: int) -> pa.Table:
    """Dark discs and bright squares on grey, 64 x 48 pixels, 1 to 3 a picture."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        image, target = Image.new("RGB", (64, 48), (128, 128, 128)), []
        for corner in random.permutation([(2, 2), (34, 2), (2, 26), (34, 26)])[: random.integers(1, 4)]:
            size, disc = int(random.integers(10, 18)), bool(random.integers(2))
            left, top = (int(edge + random.integers(0, 20 - size) if size < 20 else edge) for edge in corner)
            draw = ImageDraw.Draw(image)
            (draw.ellipse if disc else draw.rectangle)(
                (left, top, left + size - 1, top + size - 1), fill=(20, 20, 20) if disc else (240, 240, 240)
            )
            target.append({"box": [float(left), float(top), float(left + size), float(top + size)], "label": "disc" if disc else "square"})
        out = io.BytesIO()
        image.save(out, "PNG")
        rows.append({"id": str(number), "image": out.getvalue(), "target": target})
    return pa.Table.from_pylist(rows)


@pytest.mark.parametrize(
    ("spec", "steps", "least"),
    [
        (heads.Detection(reads=Reads("all", (-1, -2)), hidden=32), 80, 0.8),
        pytest.param(heads.SetDetection(reads=Reads("all", (-1, -2)), hidden=64, queries=9), 200, 0.5, marks=pytest.mark.slow),
    ],
)
def test_it_learns_to_find_what_it_is_shown(shaped: Any, spec: heads.Detection, steps: int, least: float) -> None:
    """On a random tiny backbone, with pictures that are padded to a square, and flips: boxes come back in true pixels."""
    from fmhub.training.network import Network, select

    table = scenes(12, 0)
    recipe = Recipe(lr=3e-3, dropout=0.0, augment=0.2, lora=Lora(layers="head"))
    head = spec.fit(Known(train=table), recipe)
    assert head.labels == ("disc", "square")
    network = Network(shaped("dinov2"), stems.Image(size=48, ground=(128, 128, 128)), head, recipe)
    part = network.prepare(table)
    assert part.targets is not None
    optimiser = torch.optim.AdamW([one for one in network.parameters() if one.requires_grad], lr=recipe.lr)
    rows = np.arange(len(table))
    for step in range(steps):
        random = np.random.default_rng(step)
        loss, weight = head.loss(network.outputs(part, rows, random), select(part.targets, rows, torch.device("cpu")), recipe)
        optimiser.zero_grad()
        (loss / weight).backward()
        optimiser.step()
    network.eval()
    with torch.inference_mode():
        found = head.decode(network.outputs(part, rows))
    columns = {"id": table["id"].to_pylist(), "target": table["target"].to_pylist(), **found}
    assert evaluate(columns, ["ap50"], resamples=10)["ap50"]["value"] > least
    assert all(edge >= 0 for row in found["prediction"] for one in row for edge in one["box"])
    assert max(one["box"][3] for row in found["prediction"] for one in row) <= 48


def answers(boxes: list[list[float]], logits: list[list[float]]) -> dict[str, torch.Tensor]:
    """What some queries say of one picture of 100 x 100 pixels."""
    return {
        "kinds": B([logits]).float(), "boxes": B([boxes]).float(), "size": torch.tensor(100),
        "frame": B([[[1.0, 0, 0], [0, 1, 0]]]), "source": torch.tensor([[100, 100]]),
    }  # fmt: skip


def test_the_cheapest_assignment_is_taken_by_hand() -> None:
    """Query 0 is nearest to both boxes: giving it the nearer one would leave the other to query 1, far off."""
    said = answers([[5, 0, 15, 10], [20, 0, 30, 10], [80, 80, 90, 90]], [[0], [0], [0]])
    assert queries.match(said, 0, B([[9.0, 0, 19, 10], [0, 0, 10, 10]]), B([0, 0])).tolist() == [1, 0]
    true = B([[0.0, 0, 10, 10]])
    assert queries.match(answers([[0.0, 0, 10, 10]] * 2, [[-9.0, 9], [9, -9]]), 0, true, B([0])).tolist() == [1]  # the label decides


def test_the_loss_of_a_set_by_hand() -> None:
    head = heads.SetDetection(labels=("a",), queries=2)
    targets = {"boxes": [np.array([[0, 0, 10, 10]], np.float32)], "kinds": [np.array([0])]}
    loss, weight = head.loss(answers([[0, 0, 10, 10], [50, 50, 60, 60]], [[20.0], [-20.0]]), targets, Recipe())
    assert (float(loss), float(weight)) == (pytest.approx(0, abs=1e-5), 1.0)
    # off by 10 pixels to the right: distance 20 of 100, no overlap in a hull of 200 that the union of 200 fills
    loss, _ = head.loss(answers([[10, 0, 20, 10], [50, 50, 60, 60]], [[20.0], [-20.0]]), targets, Recipe())
    assert float(loss) == pytest.approx(5 * 0.2 + 2 * (1 - 0), rel=1e-4)
    # nothing is true: only what is said of labels counts, as focal loss has it
    none = {"boxes": [np.zeros((0, 4), np.float32)], "kinds": [np.zeros(0, np.int64)]}
    loss, weight = head.loss(answers([[0, 0, 10, 10]] * 2, [[0.0], [0.0]]), none, Recipe())
    assert (float(loss), float(weight)) == (pytest.approx(2 * 0.75 * 0.25 * math.log(2), rel=1e-4), 1.0)


def test_a_query_that_answers_from_a_crowd_learns_nothing() -> None:
    head = heads.SetDetection(labels=("a",), queries=2)
    said = answers([[0, 0, 10, 10], [52, 52, 62, 62]], [[20.0], [20.0]])
    targets = {"boxes": [np.array([[0, 0, 10, 10], [50, 50, 90, 90]], np.float32)], "kinds": [np.array([0, -1])]}
    loss, weight = head.loss(said, targets, Recipe())
    assert (float(loss), float(weight)) == (pytest.approx(0, abs=1e-5), 1.0)
    targets["boxes"][0][1] = [57.1, 50, 90, 90]  # less than half of the answer lies in it
    assert float(head.loss(said, targets, Recipe())[0]) == pytest.approx(0.75 * 20, rel=1e-3)


def test_a_crowd_is_no_label_no_fault_and_no_box_that_is_painted() -> None:
    thing, crowd = {"box": [0.0, 0, 10, 10], "label": "a", "iscrowd": 0}, {"box": [20.0, 20, 40, 40], "label": "a", "iscrowd": 1}
    head = heads.Detection(labels=("a",))
    table = pa.table({"id": ["r0"], "target": [[thing, crowd]]})
    assert head.targets(table)["kinds"][0].tolist() == [0, -1]
    strange = pa.table({"id": ["r0"], "target": [[thing, {**crowd, "label": "of no training picture"}]]})
    assert head.targets(strange)["kinds"][0].tolist() == [0, -1]
    with pytest.raises(DataError, match="holds no box"):
        heads.Detection().fit(Known(train=pa.table({"id": ["r0"], "target": [[crowd]]})), Recipe())
    found = [{**thing, "score": 0.9}, {"box": [22.0, 22, 30, 30], "label": "a", "score": 0.9}]
    assert head.faults(found, [thing, crowd]) == 0
    assert head.faults([{**found[1], "box": [38.0, 38, 50, 50]}], [thing, crowd]) == 2
    picture = io.BytesIO()
    Image.new("RGB", (64, 64)).save(picture, "PNG")
    assert head.drawn([], picture.getvalue(), [thing, crowd]) == head.drawn([], picture.getvalue(), [thing])


def test_a_set_has_more_boxes_than_queries() -> None:
    """The largest are learnt."""
    targets = {"boxes": [np.array([[0, 0, 10, 10], [50, 50, 90, 90]], np.float32)], "kinds": [np.array([0, 0])]}
    loss, weight = heads.SetDetection(labels=("a",), queries=1).loss(answers([[50, 50, 90, 90]], [[20.0]]), targets, Recipe())
    assert (float(loss), float(weight)) == (pytest.approx(0, abs=1e-5), 1.0)


def test_decoding_of_a_set_by_hand() -> None:
    head = heads.SetDetection(labels=("a", "b"), least=0.3)
    said = answers([[0, 0, 10, 10], [0, 0, 10, 11], [95, 95, 120, 120]], [[4.0, -9], [-9, 1], [0, -9]])
    (found,) = head.decode(said)["prediction"]
    assert [(one["label"], one["box"]) for one in found] == [("a", [0, 0, 10, 10]), ("b", [0, 0, 10, 11]), ("a", [95, 95, 100, 100])]
    assert [one["score"] for one in found] == pytest.approx([1 / (1 + math.exp(-x)) for x in (4, 1, 0)], rel=1e-4)


@pytest.mark.parametrize(
    ("one", "says"),
    [
        ({"box": [5.0, 5, 5, 9], "label": "a"}, "Row r0: .* is not a box: it needs left < right"),
        ({"box": [5.0, 9, 6, 5], "label": "a"}, "top < bottom"),
        ({"box": [5.0, float("nan"), 6, 9], "label": "a"}, "is not a box"),
        ({"box": [5.0, 5, 6], "label": "a"}, "is not a box"),
        ({"box": [5.0, 5, 6, 9], "label": "aa"}, "label 'aa' is not one that was trained on. Did you mean a"),
    ],
)
def test_a_target_that_is_no_box_is_named(one: dict[str, Any], says: str) -> None:
    table = pa.table({"id": ["r0"], "target": [[one]]})
    with pytest.raises(DataError, match=says):
        heads.Detection(labels=("a", "ab")).targets(table)


def test_a_training_part_without_a_box_is_refused() -> None:
    table = pa.table({"id": ["r0"], "target": pa.array([[]], pa.list_(pa.struct({"box": pa.list_(pa.float64()), "label": pa.string()})))})
    with pytest.raises(DataError, match="holds no box"):
        heads.Detection().fit(Known(train=table), Recipe())
    assert heads.Detection(labels=("a",)).targets(table)["boxes"][0].shape == (0, 4)
