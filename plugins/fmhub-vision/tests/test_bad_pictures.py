"""What people's folders hold, by both roads of `--data` (folders by label, pictures with boxes): mended, or named in one line."""

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from fmhub_vision import fmhub_tasks
from PIL import Image

from fmhub import DataError, data, heads, stems

TASKS = {task.name: task for task in fmhub_tasks()}
WIDE, HIGH = 64, 48
ROADS = ("image-classification", "object-detection")


def half() -> Image.Image:
    """White on the left, black on the right."""
    image = Image.new("RGB", (WIDE, HIGH))
    image.paste((255, 255, 255), (0, 0, WIDE // 2, HIGH))
    return image


def file(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # people see 48 x 64 pixels, white above
    return file(half(), "JPEG", exif=exif, quality=95)


def bomb() -> bytes:
    """A PNG of 200 bytes that says it has 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def album(folder: Path, road: str, odd: bytes) -> Path:
    """12 plain pictures and the odd one, as that task's users keep them."""
    plain = [file(Image.effect_noise((WIDE, HIGH), 60 + number).convert("RGB"), "PNG") for number in range(12)]
    pictures = {**{f"{number}.png": content for number, content in enumerate(plain)}, "odd.png": odd}
    if road == "image-classification":
        for number, (name, content) in enumerate(pictures.items()):
            place = folder / ("cat", "dog")[number % 2] / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        return folder
    folder.mkdir()
    for name, content in pictures.items():
        (folder / name).write_bytes(content)
    boxes = [{"image_id": at, "category_id": 0, "bbox": [2, 2, 30, 30]} for at in range(len(pictures))]
    images = [{"id": at, "file_name": name} for at, name in enumerate(pictures)]
    (folder / "boxes.json").write_text(json.dumps({"images": images, "annotations": boxes, "categories": [{"id": 0, "name": "cat"}]}))
    return folder


def read(road: str, folder: Path) -> dict[str, np.ndarray]:
    """Every picture as a run reads it, by its file's name: uint8 (32, 32, 3)."""
    task = TASKS[road]
    spec = task.data.opened(str(folder), {}, None, task.stem)
    found = {}
    for table in spec.load().tables.values():
        pixels, _ = stems.Image(size=32, shape="stretch").decoded(table)
        found |= dict(zip((Path(name).name for name in table["id"].to_pylist()), pixels, strict=True))
    return found


def odd(road: str, folder: Path) -> np.ndarray:
    return next(pixels for name, pixels in read(road, folder).items() if name.startswith("odd"))


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(lambda: file(Image.fromarray(np.asarray(half().convert("L"), np.uint16) * 4), "PNG"), id="16 bits, dark"),
        pytest.param(lambda: file(half().convert("CMYK"), "JPEG", quality=95), id="CMYK"),
        pytest.param(lambda: file(half().convert("RGBA"), "PNG"), id="alpha"),
        pytest.param(lambda: file(half().convert("1"), "PNG"), id="1 bit"),
    ],
)
def test_odd_kinds_of_pictures_are_read(tmp_path, road, content):
    found = odd(road, album(tmp_path / "album", road, content())).astype(int)
    assert found[:, :14].min() > 240 and found[:, 18:].max() < 15


@pytest.mark.parametrize("road", ROADS)
def test_a_camera_that_was_turned_is_believed(tmp_path, road):
    found = odd(road, album(tmp_path / "album", road, turned())).astype(int)
    assert found[:14].min() > 240 and found[18:].max() < 15


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(lambda: file(Image.effect_noise((640, 480), 50), "JPEG")[:-3000], "is a damaged picture", id="truncated JPEG"),
        pytest.param(bomb, "has more than 89,478,485 pixels", id="decompression bomb"),
        pytest.param(lambda: b"hello", "is not a picture", id="text"),
        pytest.param(lambda: b"", "is not a picture", id="empty file"),
    ],
)
def test_what_is_no_picture_is_named_in_one_line(tmp_path, road, content, says):
    folder = album(tmp_path / "album", road, content())
    with pytest.raises(DataError, match=rf"odd\.png.*{says}") as caught:
        read(road, folder)
    assert "\n" not in str(caught.value)


def test_boxes_are_those_of_the_turned_picture(tmp_path):
    """Width and height are told as people see them: a box of the lower half is inside, one of the right of 64 pixels is not."""
    folder = album(tmp_path / "album", "object-detection", turned())
    found = json.loads((folder / "boxes.json").read_text())
    for box, inside in (([2, 50, 40, 12], True), ([50, 2, 12, 40], False)):
        found["annotations"][-1]["bbox"] = box
        (folder / "boxes.json").write_text(json.dumps(found))
        if inside:
            read("object-detection", folder)
        else:
            with pytest.raises(DataError, match=r"Picture odd\.png, box 1 \(50, 2, 62, 42\) is outside the picture of 48 x 64 pixels"):
                read("object-detection", folder)


def test_a_label_of_the_test_part_alone_is_named(tmp_path):
    for part, labels in (("train", ("cat", "dog")), ("test", ("cat", "dog", "bird"))):
        for at, label in enumerate(labels * 4):
            place = tmp_path / part / label / f"{at}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file(Image.effect_noise((8, 8), 20 + at + 30 * (part == "test")), "PNG"))
    task = TASKS["image-classification"]
    splits = task.data.opened(str(tmp_path), {}, None, task.stem).load()
    head = heads.Classification().fit(splits.known(), task.recipe)
    with pytest.raises(DataError, match=r"bird.* is not one that was trained on.*Labels: cat, dog") as caught:
        head.targets(splits.tables["test"])
    assert "\n" not in str(caught.value)


def test_a_group_that_crosses_a_split_is_refused():
    """The motif of an emoji, the region of a dish and the site of a photo are columns `group`, and this is what holds them apart."""

    def parts():
        image = [file(Image.effect_noise((8, 8), 20 + at), "PNG") for at in range(12)]
        rows = pa.table({"id": [str(at) for at in range(12)], "image": image, "target": ["a", "b"] * 6, "group": ["g0", "g1"] * 6})
        return {"train": rows.slice(0, 8), "test": rows.slice(8)}

    with pytest.raises(DataError, match="Group 'g0' is both in train and in test; a group must not cross a split"):
        data.rows(parts, image="image", target="target", split=data.Given()).load()
