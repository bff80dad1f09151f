"""Boxes as people keep them: three formats say the same, what cannot be used is named in one line, tiles cut pictures and boxes alike."""

import itertools
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from fmhub_vision import boxes, formats, tiles
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fmhub import DataError, Recipe, UsageError, data, heads, stems
from fmhub.stems import pictures as reader

BOXES = {"a.png": [("cat", [10, 20, 30, 40]), ("dog", [0, 0, 64, 48])], "b.png": [("dog", [5, 5, 25, 45])], "c.png": []}
"""Pictures of 64 x 48 pixels."""


def pictures(folder: Path, names=BOXES, first=0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names, first):
        pixels = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def coco(folder: Path, found=BOXES, name="boxes.json") -> Path:
    kinds = sorted({label for some in found.values() for label, _ in some})
    listed = [
        {"image_id": at, "category_id": kinds.index(label), "bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": 0}
        for at, some in enumerate(found.values())
        for label, (x0, y0, x1, y1) in some
    ]
    if found and any(found.values()):
        listed.append({**listed[0], "iscrowd": 1})
    (folder / name).write_text(json.dumps({
        "images": [{"id": at, "file_name": name} for at, name in enumerate(found)], "annotations": listed,
        "categories": [{"id": at, "name": kind} for at, kind in enumerate(kinds)],
    }))  # fmt: skip
    return folder / name


def voc(folder: Path, found=BOXES) -> Path:
    for name, some in found.items():
        corners = [(label, {"xmin": x0 + 1, "ymin": y0 + 1, "xmax": x1, "ymax": y1}) for label, (x0, y0, x1, y1) in some]
        objects = "".join(
            f"<object><name>{label}</name><bndbox>{''.join(f'<{key}>{edge}</{key}>' for key, edge in at.items())}</bndbox></object>"
            for label, at in corners
        )
        (folder / f"{Path(name).stem}.xml").write_text(f"<annotation><filename>{name}</filename>{objects}</annotation>")
    return folder


def yolo(folder: Path, found=BOXES) -> Path:
    pictures(folder / "images" / "train", found)
    (folder / "labels" / "train").mkdir(parents=True)
    (folder / "data.yaml").write_text("names:\n  0: cat\n  1: dog\n")
    for name, some in found.items():
        lines = [
            f"{['cat', 'dog'].index(label)} {(x0 + x1) / 128} {(y0 + y1) / 96} {(x1 - x0) / 64} {(y1 - y0) / 48}"
            for label, (x0, y0, x1, y1) in some
        ]
        if name != "c.png":
            (folder / "labels" / "train" / f"{Path(name).stem}.txt").write_text("\n".join(lines))
    return folder


def said(reference: Path, crowds=False) -> dict:
    """The boxes of things, or of crowds, by picture."""
    found = {one.path.name: boxes._checked(one).boxes for one in formats.read(str(reference))}
    return {
        name: [(box["label"], [round(edge, 6) for edge in box["box"]]) for box in some if bool(box.get("iscrowd")) == crowds]
        for name, some in found.items()
    }


def test_three_formats_say_the_same(tmp_path):
    pictures(tmp_path / "coco")
    assert said(coco(tmp_path / "coco")) == said(tmp_path / "coco") == BOXES
    assert said(voc(pictures(tmp_path / "voc"))) == BOXES
    assert said(yolo(tmp_path / "yolo")) == BOXES


def test_crowds_of_coco_and_what_is_difficult_in_voc_are_not_judged(tmp_path):
    crowds = {**{name: [] for name in BOXES}, "a.png": [BOXES["a.png"][0]]}
    assert said(coco(pictures(tmp_path / "coco")), crowds=True) == crowds
    folder = voc(pictures(tmp_path / "voc"))
    text = (folder / "a.xml").read_text().replace("</name>", "</name><difficult>1</difficult>", 1)
    (folder / "a.xml").write_text(text.replace("<name>dog</name>", "<name>dog</name><difficult>0</difficult>"))
    assert said(folder, crowds=True) == crowds
    assert said(folder)["a.png"] == BOXES["a.png"][1:]
    assert [one["iscrowd"] for one in boxes.read(str(folder))["target"][0].as_py()] == [1, 0]


def test_pictures_of_crowds_alone_have_no_box(tmp_path):
    folder = voc(pictures(tmp_path, ["a.png"]), {"a.png": [("cat", [1, 2, 30, 40])]})
    (folder / "a.xml").write_text((folder / "a.xml").read_text().replace("</name>", "</name><difficult>1</difficult>"))
    with pytest.raises(DataError, match="has 1 pictures and no box"):
        boxes.read(str(folder))


def test_outlines_of_yolo_become_boxes(tmp_path):
    folder = yolo(tmp_path, {"a.png": []})
    (folder / "labels" / "train" / "a.txt").write_text("1 0.5 0.25 0.75 0.5 0.25 1.0\n")
    assert said(folder) == {"a.png": [("dog", [16, 12, 48, 48])]}


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ([10, 10, 10, 20], "a.png, box 1 .* has no area"),
        ([10, 10, 5, 20], "has no area"),
        ([float("nan"), 0, 5, 5], "has no area"),
        ([40, 10, 80, 20], "is outside the picture of 64 x 48 pixels"),
        ([-3, 10, 20, 20], "is outside the picture"),
    ],
)
def test_a_box_that_cannot_be_is_named_in_one_line(tmp_path, box, words):
    with pytest.raises(DataError, match=words) as caught:
        boxes.read(str(coco(pictures(tmp_path), {"a.png": [("cat", box)]})))
    assert "\n" not in str(caught.value)


def test_a_box_that_rounding_put_over_the_edge_is_cut(tmp_path):
    assert said(coco(pictures(tmp_path), {"a.png": [("cat", [-0.5, 0, 64.5, 48])]})) == {"a.png": [("cat", [0, 0, 64, 48])]}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: (folder / "x.json").write_text("{"), "x.json is not COCO json"),
        (lambda folder: (folder / "x.json").write_text("[" * 99999), "x.json is not COCO json"),
        (lambda folder: coco(folder, {"gone.png": []}), "names the picture 'gone.png', which is not in"),
        (lambda folder: (folder / "x.xml").write_text("<a>"), "x.xml is not Pascal VOC"),
        (lambda folder: (folder / "x.xml").write_text("<a><object><name>x</name></object></a>"), "x.xml is not Pascal VOC"),
        (lambda folder: (folder / "a.txt").write_text("0 0.5 0.5 0.1\n"), "a.txt, line 1 is not a YOLO box"),
        (lambda folder: (folder / "a.txt").write_text("cat 0.5 0.5 0.1 0.2\n"), "a.txt, line 1 is not a YOLO box"),
        (lambda folder: (folder / "nobody.txt").write_text("0 0.5 0.5 0.1 0.1\n"), "no boxes"),
        (lambda folder: coco(folder, {"a.png": [], "b.png": []}), "2 pictures and no box"),
        (lambda folder: None, "neither COCO"),
        (lambda folder: (folder / "a.png").write_bytes(b"no") and coco(folder), "a.png is not a picture"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line(tmp_path, make, words):
    make(pictures(tmp_path))
    with pytest.raises(DataError, match=words) as caught:
        boxes.read(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    outside = pictures(tmp_path / "outside")
    folder = tmp_path / "inside"
    folder.mkdir()
    for name in BOXES:
        (folder / name).symlink_to(outside / name)
    with pytest.raises(DataError, match="a link out of"):
        boxes.read(str(coco(folder)))
    found = {"../outside/a.png": [("cat", [1, 1, 5, 5])]}
    with pytest.raises(DataError, match="a link out of"):
        boxes.read(str(coco(folder, found)))


def test_a_bomb_of_xml_is_no_picture(tmp_path):
    entities = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(12))
    (tmp_path / "x.xml").write_text(f'<!DOCTYPE a [<!ENTITY a0 "ha">{entities}]><a><filename>&a12;</filename></a>')
    with pytest.raises(DataError, match="is not Pascal VOC"):
        boxes.read(str(tmp_path))


@pytest.mark.parametrize("names", [("train", "valid", "test"), ("train", "test")])
def test_folders_name_the_parts(tmp_path, names):
    for at, name in enumerate(names):
        coco(pictures(tmp_path / name, [f"{at}{other}" for other in BOXES]), {f"{at}{other}": some for other, some in BOXES.items()})
    parts = boxes.read(str(tmp_path))
    assert sorted(parts) == sorted("validation" if name == "valid" else name for name in names)
    assert all(len(part) == 3 for part in parts.values())


def test_json_files_name_the_parts(tmp_path):
    for part in ("train2017", "val2017"):
        pictures(tmp_path / part)
    (tmp_path / "annotations").mkdir()
    coco(tmp_path / "annotations", name="instances_train2017.json")
    coco(tmp_path / "annotations", name="instances_val2017.json")
    assert sorted(boxes.read(str(tmp_path))) == ["test", "train", "validation"]
    found = boxes.read(str(tmp_path / "annotations" / "instances_train2017.json"), str(tmp_path / "annotations" / "instances_val2017.json"))
    assert {part: table["id"].to_pylist() for part, table in found.items()} == {
        "train": [f"train2017/{name}" for name in BOXES], "test": [f"test/val2017/{name}" for name in BOXES],
    }  # fmt: skip


def many(first, count=12, label="cat"):
    return {f"{number}.png": [(label, [1, 1, 30, 30])] for number in range(first, first + count)}


def yolo_parts(folder, **parts):
    """`images/PART` and `labels/PART`, pictures as they are numbered."""
    (folder / "data.yaml").write_text("names: [cat, dog]\n")
    for at, name in enumerate(parts):
        found = many(100 * at, parts[name])
        pictures(folder / "images" / name, found, 100 * at)
        (folder / "labels" / name).mkdir(parents=True)
        for one in found:
            (folder / "labels" / name / f"{Path(one).stem}.txt").write_text("0 0.3 0.3 0.4 0.4\n")
    return folder


def voc_lists(folder, **lists):
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    found = many(0, 20)
    pictures(folder / "JPEGImages", found)
    voc(folder / "Annotations", found)
    for name, numbers in lists.items():
        (folder / "ImageSets" / "Main" / f"{name}.txt").write_text("\n".join(map(str, numbers)))
    return folder


def coco_alone(folder, part):
    (folder / "annotations").mkdir(parents=True)
    pictures(folder / part, many(0))
    return coco(folder / "annotations", many(0), f"instances_{part}.json")


CHANCE = "drawn by chance, are it"
ALONE = "alone: its pictures were divided"


@pytest.mark.parametrize(
    ("make", "sizes", "note"),
    [
        (lambda at: yolo_parts(at, train=20, val=5), {"train": 16, "validation": 5, "test": 4}, CHANCE),
        (lambda at: yolo_parts(at, train2017=20), {"train": 14, "validation": 2, "test": 4}, ALONE),
        (lambda at: voc_lists(at / "VOC2012", train=range(12), val=range(12, 16)), {"train": 10, "test": 2, "validation": 4}, CHANCE),
        (lambda at: coco_alone(at, "train2017"), {"train": 9, "validation": 1, "test": 2}, ALONE),
        (lambda at: coco_alone(at, "val2017"), {"train": 9, "validation": 1, "test": 2}, ALONE),
        (lambda at: coco_alone(at, "train2017").parent.parent, {"train": 9, "validation": 1, "test": 2}, ALONE),
    ],
)  # fmt: skip
def test_where_no_test_part_is_named_pictures_of_train_are_it(tmp_path, make, sizes, note):
    spec = boxes.Boxes(data.rows(lambda: None)).opened(str(make(tmp_path)), {}, None, None)
    found = spec.load()
    assert {name: len(table) for name, table in found.tables.items()} == sizes
    groups = [set(table["group"].to_pylist()) for table in found.tables.values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) and any(note in told for told in found.notes)
    if sizes["validation"] > 2:
        assert all("val" in name or "JPEG" in name for name in found.tables["validation"]["group"].to_pylist())
    assert ("4 pictures are in no list of ImageSets/Main and were left out" in found.notes) == (tmp_path / "VOC2012").is_dir()
    assert spec.load().fingerprint == found.fingerprint


def test_a_test_part_alone_is_refused(tmp_path):
    with pytest.raises(DataError, match="names the parts test only"):
        boxes.read(str(yolo_parts(tmp_path, test=5)))


@pytest.mark.parametrize("seed", range(4))
def test_a_rare_label_is_in_the_part_that_is_learnt_from(tmp_path, seed):
    names = {**many(0, 20), **many(20, 1, "bird")}
    spec = boxes.Boxes(data.rows(partial(boxes.read, str(coco(pictures(tmp_path, names), names))), split=data.Random(seed=seed)))
    splits = spec.load()
    assert {one["label"] for row in splits.tables["train"]["target"].to_pylist() for one in row} == {"cat", "bird"}
    head = heads.Detection().fit(splits.known(), Recipe())
    assert all(head.targets(table) for table in splits.tables.values())


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("[[a, b], c]", "ValueError: a label is text"),
        ("[no, yes]", "a label is text .* in quotes"),
        (f"[{'x' * 999}]", "at most 200 characters"),
        ("{0: &a [x, x], 1: *a}", "aliases are not read"),
        ("&a {<<: [*a]}", "aliases are not read"),
    ],
)
def test_names_that_are_none_are_refused_and_aliases_are_not_multiplied(tmp_path, names, words):
    folder = yolo_parts(tmp_path, train=3)
    (folder / "data.yaml").write_text(f"names: {names}\n")
    with pytest.raises(DataError, match=words) as caught:
        boxes.read(str(folder))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_numbers_may_be_names(tmp_path):
    folder = yolo_parts(tmp_path, train=3)
    (folder / "data.yaml").write_text("names: {0: 7, 1: 2.5}\n")
    assert formats._yolo_names(folder) == {0: "7", 1: "2.5"}


def test_a_users_own_data_are_split_by_picture(tmp_path):
    names = {f"{number}.png": [("cat", [1, 1, 4, 4]), ("dog", [30, 20, 34, 24])] for number in range(12)}
    spec = boxes.Boxes(data.rows(lambda: None)).opened(str(coco(pictures(tmp_path, names), names)), {}, None, None)
    splits = spec.load()
    groups = {name: set(table["group"].to_pylist()) for name, table in splits.tables.items()}
    assert sum(map(len, groups.values())) == len(set().union(*groups.values())) == 12
    assert set(splits.tables["train"]["tile"].to_pylist()) == {32}
    with pytest.raises(UsageError, match="--columns"):
        spec.opened("x", {"label": "y"}, None, None)


def test_small_whole_pictures_say_how_large_they_are(tmp_path):
    """A detector trained on them must cut a larger picture later, not shrink it; larger ones may be of any scale."""
    folder = coco(pictures(tmp_path), BOXES)
    assert [set(boxes.read(str(folder), seen=seen)["tile"].to_pylist()) for seen in (0, 56, 64, 224)] == [{0}, {0}, {64}, {64}]
    spec = boxes.Boxes(data.rows(lambda: None)).opened(str(folder), {}, None, stems.Image(size=224))
    assert stems.Image(size=224).fit(spec.load().known()).tile == 64


@given(length=st.integers(1, 3000), tile=st.integers(8, 400), overlap=st.floats(0, 0.5))
def test_tiles_cover_a_side(length, tile, overlap):
    at = reader.places(length, tile, overlap)
    assert at[0] == 0 and at[-1] == max(0, length - tile) and at == sorted(set(at))
    assert all(after - before <= max(1, tile * (1 - overlap)) + 1 for before, after in itertools.pairwise(at))


def test_tiles_of_two_parts_that_show_the_same_place_are_refused():
    parts = {"train": ["train 0 515,48", "train 3 604,81"], "test": ["test 0 48,48"], "shift:other": ["stardist 48,48"]}
    source = {"train 0": "dish", "train 3": "dish", "test 0": "dish"}
    sizes = {"train": (112, 112), "validation": (112, 112), "test": (120, 112), "shift:other": (112, 112)}
    tiles.apart(parts, sizes, lambda name: source.get(name, name))
    parts["train"].append("train 3 165,100")  # of another frame, from the strip that is tested
    with pytest.raises(DataError, match="Tile train 3 165,100 of train and tile test 0 48,48 of test show the same place of dish"):
        tiles.apart(parts, sizes, lambda name: source.get(name, name))
    tiles.apart({"train": ["photo 0,0", "photo 112,0"], "validation": ["photo 224,0"]}, sizes)
    with pytest.raises(DataError, match="the same place of photo"):
        tiles.apart({"train": ["photo 0,0", "photo 112,0"], "validation": ["photo 224,0"], "test": ["photo 300,90"]}, sizes)


def test_a_box_is_a_crowd_where_too_little_of_it_is_seen():
    one = {"box": [90.0, 10.0, 130.0, 30.0], "label": "cat"}
    assert tiles.clipped([one], 0, 0, 100, 100) == [{"box": [90, 10, 100, 30], "label": "cat", "iscrowd": 0}]
    assert tiles.clipped([one], 0, 0, 99, 100) == [{"box": [90, 10, 99, 30], "label": "cat", "iscrowd": 1}]
    assert tiles.clipped([one], 0, 0, 90, 100) == []
    assert tiles.clipped([{**one, "iscrowd": 1}], 100, 0, 100, 100) == [{"box": [0, 10, 30, 30], "label": "cat", "iscrowd": 1}]


def test_raw_pictures_are_read_back(tmp_path):
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert (np.asarray(reader.whole(reader.raw(grey), "x"))[..., 0] == grey).all()
    colours = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    assert (np.asarray(reader.whole(reader.raw(colours), "x")) == colours).all()
    assert reader.size(reader.raw(colours), "x") == (4, 3)


def test_a_label_that_the_test_part_alone_has_is_named(tmp_path):
    for part, labels in (("train", {}), ("test", {"cat": "bird"})):
        found = {f"{part}-{name}": [(labels.get(label, label), box) for label, box in some] for name, some in BOXES.items()}
        coco(pictures(tmp_path / part, found, first=10 * len(labels)), found)
    splits = boxes.Boxes(data.rows(lambda: None)).opened(str(tmp_path), {}, None, None).load()
    head = heads.Detection().fit(splits.known(), Recipe())
    with pytest.raises(DataError, match=r"Row test/test-a\.png: label 'bird' is not one that was trained on\. Labels: .*dog"):
        head.targets(splits.tables["test"])


def test_an_empty_folder_says_what_belongs_into_it(tmp_path):
    with pytest.raises(DataError, match=r"has no boxes: neither COCO \.json, nor Pascal VOC \.xml, nor YOLO labels/\*\.txt"):
        boxes.read(str(tmp_path))
    with pytest.raises(DataError, match="is neither a folder nor a COCO"):
        boxes.read(str(tmp_path / "nowhere"))
