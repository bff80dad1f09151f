"""Pictures larger than what a run was trained on: cut into tiles, found boxes put together, painted."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from fmhub import heads, stems
from fmhub.errors import DataError
from fmhub.heads.boxes import together
from fmhub.stems import pictures
from fmhub.task import Known


def found(box, score, label="cat", cut=False):
    return {"box": list(map(float, box)), "label": label, "score": score}, cut


def test_the_stem_learns_how_large_the_tiles_were():
    train = pa.table({"id": ["a"], "tile": [112]})
    assert stems.Image(size=224).fit(Known(train=train)).tile == 112
    assert stems.Image(size=224, tile=50).fit(Known(train=train.drop_columns(["tile"]))).tile == 50


def test_every_pixel_is_in_a_tile_and_small_pictures_stay_whole():
    large = np.random.default_rng(0).integers(0, 256, (100, 130, 3), dtype=np.uint8)
    small = large[:50, :60]
    table = pa.table({"id": ["large", "small"], "image": [pictures.raw(large), pictures.raw(small)]})
    pieces, windows = stems.Image(tile=40).cut(table)
    assert windows[-1].tolist() == [1, 0, 0, 60, 50, 60, 50] and (windows[:-1, 0] == 0).all()
    again = np.zeros_like(large)
    for image, (_, left, top, right, bottom, width, height) in zip(pieces["image"].to_pylist()[:-1], windows[:-1].tolist(), strict=True):
        assert (width, height) == (130, 100) and (right - left, bottom - top) == (40, 40)
        again[top:bottom, left:right] = np.asarray(pictures.whole(image, "tile"))
    assert (again == large).all()
    whole, windows = stems.Image().cut(table)
    assert whole["image"].to_pylist() == table["image"].to_pylist() and len(windows) == 2


def test_too_many_tiles_are_refused_in_one_line():
    table = pa.table({"id": ["0"], "image": [pictures.raw(np.zeros((900, 900), np.uint8))]})
    with pytest.raises(DataError, match="Row 0 has 900 x 900 pixels, 8100 tiles of 16"):
        stems.Image(tile=16).cut(table)


def test_one_box_of_each_thing():
    whole = found((10, 10, 30, 30), 0.5)
    assert together([whole, found((11, 10, 31, 30), 0.4)], 0.5) == [whole[0]]  # found in two tiles
    assert together([found((10, 10, 22, 30), 0.9, cut=True), whole], 0.5) == [whole[0]]  # a tile saw a part of it
    assert together([found((10, 10, 22, 30), 0.9, "dog", cut=True), whole], 0.5) == [found((10, 10, 22, 30), 0.9, "dog")[0], whole[0]]
    inner = found((15, 15, 20, 20), 0.9)  # whole in its tile: something of its own
    assert together([inner, whole], 0.5) == [inner[0], whole[0]]
    alone = found((50, 10, 60, 30), 0.3, cut=True)  # larger than what two tiles share: better a part than nothing
    assert together([whole, alone], 0.5) == [whole[0], alone[0]]
    assert together([], 0.5) == []


def test_boxes_of_tiles_are_in_pixels_of_the_picture():
    windows = np.array([[0, 0, 0, 40, 40, 64, 40], [0, 24, 0, 64, 40, 64, 40], [1, 0, 0, 20, 20, 20, 20]])
    columns = {"prediction": [
        [{"box": [26.0, 5.0, 40.0, 20.0], "label": "cat", "score": 0.9}, {"box": [0.0, 0.0, 9.0, 9.0], "label": "cat", "score": 0.5}],
        [{"box": [2.0, 5.0, 30.0, 20.0], "label": "cat", "score": 0.6}],
        [],
    ]}  # fmt: skip
    joined = heads.Detection(labels=("cat",)).joined(columns, windows, 2)["prediction"]
    assert [one["box"] for one in joined[0]] == [[26, 5, 54, 20], [0, 0, 9, 9]]
    assert joined[1] == []


def test_a_picture_that_was_not_cut_keeps_what_was_found_in_it():
    """Cut to the picture, two boxes that the head kept apart may overlap by more than its limit: they were scored so."""
    boxes = [found((0, 0, 20, 20), 0.9)[0], found((1, 0, 20, 20), 0.8)[0]]
    windows = np.array([[0, 0, 0, 20, 20, 20, 20]])
    assert heads.Detection(labels=("cat",)).joined({"prediction": [boxes]}, windows, 1) == {"prediction": [boxes]}


def test_sure_boxes_are_counted_and_painted():
    head = heads.Detection(labels=("cat", "dog"), sure=0.5)
    boxes = [found((10, 10, 30, 20), 0.9)[0], found((40, 5, 60, 25), 0.7, "dog")[0], found((1, 1, 5, 5), 0.2)[0]]
    assert head.readable(boxes) == "1 cat, 1 dog"
    assert head.readable(boxes[2:]) == "nothing"
    image = np.asarray(Image.open(io.BytesIO(head.drawn(boxes, pictures.raw(np.zeros((32, 64), np.uint8))))))
    assert image.shape == (320, 640, 3)
    red, green = (230, 25, 75), (60, 180, 75)
    for at, colour in (((150, 100), red), ((199, 299), red), ((50, 400), green), ((249, 599), green), ((20, 12), (0, 0, 0))):
        assert tuple(image[at]) == colour, at
