"""Pictures with boxes as people keep them: COCO json, Pascal VOC xml, YOLO txt. Nothing of the pictures is decoded here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmhub import stems
from fmhub.errors import DataError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

LARGEST = 1 << 29
"""Bytes of the largest file of annotations (512 MiB)."""
PARTS = {"train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}
SUFFIXES = stems.Image().files
UNLISTED = "unlisted"
"""The part of a picture that lists of parts leave out."""
LONGEST = 200
"""Characters of a label."""


@dataclass
class Picture:
    """One picture: where it lies, and its boxes [left, top, right, bottom] in pixels, or in shares of its sides (`relative`).

    Of a box with `iscrowd` it is not judged what is found there, as COCO has it.
    """

    path: Path
    name: str
    boxes: list[dict[str, Any]] = field(default_factory=list)
    part: str = ""
    relative: bool = False


def read(reference: str) -> list[Picture]:
    """The pictures of a COCO .json, or of a folder with COCO, Pascal VOC or YOLO annotations. Raises `DataError`."""
    path = Path(reference).expanduser()
    if path.is_file() and path.suffix.lower() == ".json":
        return coco(path, path.parent.parent if path.parent.name == "annotations" else path.parent)
    if not path.is_dir():
        raise DataError(f"{reference} is neither a folder nor a COCO .json file.")
    kinds: tuple[tuple[str, Callable[[Path, list[Path]], list[Picture]]], ...] = (
        ("*.json", _coco_folder), ("*.xml", voc), ("*.txt", yolo),
    )  # fmt: skip
    for pattern, reader in kinds:
        if files := [file for file in sorted(path.rglob(pattern)) if file.is_file() and not file.name.startswith(".")]:
            return reader(path, files)
    raise DataError(f"{path} has no boxes: neither COCO .json, nor Pascal VOC .xml, nor YOLO labels/*.txt.")


def coco(path: Path, root: Path, part: str = "") -> list[Picture]:
    """`images`, `annotations` with `bbox` [left, top, width, height], `categories`; `iscrowd` is kept."""
    try:
        found = json.loads(_text(path))
        labels = {one["id"]: _label(one["name"]) for one in found["categories"]}
        pictures = {}
        for one in found["images"]:
            file = _beside(path, root, str(one["file_name"]))
            pictures[one["id"]] = Picture(file, file.relative_to(root).as_posix(), part=part or part_of(file.relative_to(root)))
        for one in found["annotations"]:
            left, top, width, height = (float(edge) for edge in one["bbox"])
            boxes = pictures[one["image_id"]].boxes
            crowd = int(bool(one.get("iscrowd")))
            boxes.append({"box": [left, top, left + width, top + height], "label": labels[one["category_id"]], "iscrowd": crowd})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path.name} is not COCO json with images, annotations and categories ({_say(error)}).") from None
    return list(pictures.values())


def _coco_folder(root: Path, files: list[Path]) -> list[Picture]:
    """Every json below, its part named by its folder or its own name (`instances_train2017.json`)."""
    return [one for file in files for one in coco(file, root, part_of(file.relative_to(root)))]


def voc(root: Path, files: list[Path]) -> list[Picture]:
    """One xml a picture, whose corners count from 1; `ImageSets/Main/train.txt` and its like name the parts. What is `difficult` is
    as a crowd: not judged."""
    from xml.etree import ElementTree

    parts: dict[str, str] = {}
    for name, part in PARTS.items():
        for listed in root.rglob(f"ImageSets/Main/{name}.txt"):
            parts |= {line.split()[0]: part for line in _text(listed).splitlines() if line.strip()}
    found = []
    for file in files:
        try:
            tree = ElementTree.fromstring(_text(file))
            named = str(tree.findtext("filename") or "").strip()
            boxes = [_voc_box(one) for one in tree.iter("object")]
        except (ElementTree.ParseError, ValueError, TypeError, AttributeError) as error:
            raise DataError(f"{file.name} is not Pascal VOC xml ({_say(error)}).") from None
        path = _beside(file, root, named, file.stem)
        inside = path.relative_to(root)
        part = parts.get(file.stem) or part_of(inside) or (UNLISTED if parts else "")
        found.append(Picture(path, inside.as_posix(), boxes, part))
    return found


def _voc_box(one: Element) -> dict[str, Any]:
    at = one.find("bndbox")
    left, top, right, bottom = (float(at.findtext(name)) for name in ("xmin", "ymin", "xmax", "ymax"))  # type: ignore[union-attr,arg-type]
    difficult = int((one.findtext("difficult") or "").strip() == "1")
    return {"box": [max(left - 1, 0.0), max(top - 1, 0.0), right, bottom], "label": str(one.findtext("name")).strip(), "iscrowd": difficult}


def yolo(root: Path, files: list[Path]) -> list[Picture]:
    """`images/**/NAME.jpg` with `labels/**/NAME.txt`, or both side by side; names in data.yaml or classes.txt, else numbers."""
    labels = _yolo_names(root)
    known = set(files)
    pictures = [file for file in sorted(root.rglob("*")) if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")]
    found, used = [], 0
    for path in pictures:
        inside = _inside(path, root).relative_to(root)
        swapped = ["labels" if part == "images" else part for part in inside.parts[:-1]]
        text = next((file for file in (root.joinpath(*swapped, path.stem + ".txt"), path.with_suffix(".txt")) if file in known), None)
        boxes = [] if text is None else [_yolo_box(text, number, line, labels) for number, line in _lines(text)]
        used += text is not None
        found.append(Picture(path, inside.as_posix(), boxes, part_of(inside), relative=True))
    if not used:
        raise DataError(f"{root} has no boxes: no labels/NAME.txt belongs to a picture images/NAME.jpg.")
    return found


def _yolo_names(root: Path) -> dict[int, str]:
    import yaml  # type: ignore[import-untyped]

    for file in (*sorted(root.glob("*.yaml")), *sorted(root.glob("*.yml"))):
        try:
            text = _text(file)
            if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):  # a few lines would become millions
                raise ValueError("aliases are not read")
            names = yaml.safe_load(text)["names"]
            return {int(key): _label(name) for key, name in (names.items() if isinstance(names, dict) else enumerate(names))}
        except (yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise DataError(f"{file.name} does not list `names` as YOLO's data.yaml does ({_say(error)}).") from None
    for name in ("classes.txt", "obj.names", "labels/classes.txt"):
        if (root / name).is_file():
            return dict(enumerate(line.strip() for line in _text(root / name).splitlines() if line.strip()))
    return {}


def _label(name: Any) -> str:
    """A name as text. Raises `ValueError` for what is no name."""
    if type(name) not in (str, int, float) or len(str(name)) > LONGEST:
        raise ValueError(f"a label is text of at most {LONGEST} characters, in quotes where it reads as something else")
    return str(name)


def _yolo_box(file: Path, number: int, line: str, labels: dict[int, str]) -> dict[str, Any]:
    """`class x y width height` in shares, the centre first; or `class x y x y x y ...`, an outline."""
    try:
        kind, *values = line.split()
        label = labels[int(kind)] if labels else str(int(kind))
        sides = [float(value) for value in values]
        if len(sides) == 4:
            x, y, width, height = sides
            return {"box": [x - width / 2, y - height / 2, x + width / 2, y + height / 2], "label": label}
        if len(sides) < 6 or len(sides) % 2:
            raise ValueError("5 numbers, or an outline")
        return {"box": [min(sides[::2]), min(sides[1::2]), max(sides[::2]), max(sides[1::2])], "label": label}
    except (ValueError, KeyError) as error:
        raise DataError(f"{file.name}, line {number} is not a YOLO box ({_say(error)}): {line[:60]!r}.") from None


def _lines(file: Path) -> Iterable[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(_text(file).splitlines(), 1) if line.strip())


def part_of(inside: Path) -> str:
    """`train`, `validation` or `test` where a folder of the path, or the name of a file of annotations, says so."""
    for name in inside.parts[:-1]:
        if name.lower().rstrip("0123456789") in PARTS:
            return PARTS[name.lower().rstrip("0123456789")]
    if inside.suffix.lower() == ".json":
        last = inside.stem.lower().rstrip("0123456789").rpartition("_")[2]
        return PARTS.get(last, "")
    return ""


def _beside(annotations: Path, root: Path, *names: str) -> Path:
    """The picture that a file of annotations names, beside it or in one of the usual folders."""
    near = (annotations.parent, annotations.parent.parent)
    part = annotations.stem.rpartition("_")[2]  # COCO's own: annotations/instances_train2017.json beside train2017/
    usual = ("", "images", "JPEGImages", part, f"images/{part}")
    folders = [folder / below for folder in near for below in usual if folder.is_relative_to(root)]
    for name in (name for name in names if name):
        for folder in folders:
            for path in (folder / name, *(folder / (name + suffix) for suffix in SUFFIXES if not Path(name).suffix)):
                if path.is_file():
                    return _inside(path, root)
    raise DataError(f"{annotations.name} names the picture {names[0]!r}, which is not in {root}.")


def _inside(path: Path, root: Path) -> Path:
    if not path.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{path} is a link out of {root}: copy the file, or leave the link out.")
    return root / path.resolve().relative_to(root.resolve()) if ".." in path.parts else path


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None
    if len(data) > LARGEST:
        raise DataError(f"{path} is larger than {LARGEST >> 20} MiB.")
    return data.decode("utf-8-sig", "replace")


def _say(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:80]}"
