"""Pictures with boxes as data: a task's own, and in their place the user's COCO, Pascal VOC or YOLO files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from fmhub import data
from fmhub.errors import DataError, UsageError
from fmhub_vision import formats, tiles
from fmhub_vision.formats import Picture

if TYPE_CHECKING:
    import pyarrow as pa

    from fmhub.task import DataSpec, Splits, StemSpec

SMALL = 4
"""Tiles are so large that this many of the median training object fit along a side."""
FIELDS = ("image", "sha256")
"""What makes two pictures or tiles the same."""
TEST = 0.2
"""Share of the pictures of train that are the test part where none is named, as of undivided data."""
SLACK = 1.0
"""Pixels that a box may reach beyond its picture, as rounding makes it; it is cut to it."""


@dataclass(frozen=True)
class Boxes:
    """Rows with `image`, a `target` of {box, label} and `tile`: the side in pixels of the squares that were cut, 0 for whole pictures."""

    rows: DataSpec
    own: tuple[str, str | None, int] | None = None
    """The user's, in place of `rows`: file or folder, the same for the test part, pixels of a side that are read."""

    def load(self) -> Splits:
        """Raises `DataError` naming the picture whose boxes cannot be used."""
        if self.own is None:
            return self.rows.load()
        notes: list[str] = []
        found = data.rows(partial(read, *self.own, notes), fields=FIELDS).load()
        return replace(found, notes=(*notes, *found.notes))

    def opened(self, reference: str, columns: Mapping[str, str], test: str | None, stem: StemSpec | None) -> Boxes:
        """The user's own pictures; `test` is a second file or folder. No picture is in two parts, nor are its tiles."""
        if columns:
            raise UsageError("--columns does not go with boxes: COCO, Pascal VOC and YOLO name their own.")
        return replace(self, own=(reference, test, int(getattr(stem, "size", 0))))


def read(reference: str, test: str | None = None, seen: int = 0, notes: list[str] | None = None) -> pa.Table | dict[str, pa.Table]:
    """Rows by part, or one table where the files name no parts or a single one. `seen` is the side, in pixels, of what is read.

    Where train and validation are named alone, some pictures of train are the test part. `notes` gets what to tell of that.
    """
    from fmhub.data.parts import divide

    told = [] if notes is None else notes
    pictures = formats.read(reference)
    if test:
        pictures = [replace(one, part=one.part if one.part == "validation" else "train") for one in pictures]
        pictures += [replace(one, part="test", name=f"test/{one.name}") for one in formats.read(test)]
    if unlisted := sum(one.part == formats.UNLISTED for one in pictures):
        told.append(f"{unlisted} pictures are in no list of ImageSets/Main and were left out")
    pictures = [_checked(one) for one in pictures if one.part != formats.UNLISTED]
    if not any(not box.get("iscrowd") for one in pictures for box in one.boxes):
        raise DataError(f"{reference} has {len(pictures)} pictures and no box.")
    parts = {one.part for one in pictures}
    tile = tile_of([one for one in pictures if one.part in ("", "train")] or pictures)
    if parts in ({""}, {"train"}, {"validation"}):
        told += [f"the files name the part {part} alone: its pictures were divided" for part in parts if part]
        return table(pictures, tile, seen)
    if "" in parts or not ({"train", "test"} <= parts or parts == {"train", "validation"}):
        raise DataError(f"{reference} names the parts {', '.join(sorted(parts - {''}))} only; name train and test, or none.")
    found = {part: table([one for one in pictures if one.part == part], tile, seen) for part in sorted(parts)}
    if "test" not in parts:
        told.append(f"the files name no test part: {TEST:.0%} of the training pictures, drawn by chance, are it")
        found |= divide(found["train"], {"train": 1 - TEST, "test": TEST}, FIELDS, stratify=True, seed=0)
    return found


def _checked(one: Picture) -> Picture:
    """Boxes in pixels, finite, of some area, inside the picture."""
    import math

    width, height = size(one)
    boxes = []
    for place, box in enumerate(one.boxes, 1):
        edges = [edge * side for edge, side in zip(box["box"], (width, height) * 2, strict=True)] if one.relative else box["box"]
        said = f"Picture {one.name}, box {place} ({', '.join(f'{edge:g}' for edge in edges)})"
        if not all(math.isfinite(edge) for edge in edges) or edges[2] <= edges[0] or edges[3] <= edges[1]:
            raise DataError(f"{said} has no area: it needs left < right and top < bottom.")
        if min(edges[:2]) < -SLACK or edges[2] > width + SLACK or edges[3] > height + SLACK:
            raise DataError(f"{said} is outside the picture of {width} x {height} pixels.")
        inner = [max(0.0, edges[0]), max(0.0, edges[1]), min(float(width), edges[2]), min(float(height), edges[3])]
        boxes.append({**box, "box": inner})
    return replace(one, boxes=boxes, relative=False)


def size(one: Picture) -> tuple[int, int]:
    """Width and height of a picture, upright, from its first bytes."""
    from fmhub.stems import pictures

    return pictures.size(str(one.path), f"Picture {one.name}")


def tile_of(pictures: Sequence[Picture]) -> int:
    """The side of tiles, in pixels, that suits these pictures' objects."""
    import numpy as np

    things = [box["box"] for one in pictures for box in one.boxes if not box.get("iscrowd")]
    sides = [((right - left) * (bottom - top)) ** 0.5 for left, top, right, bottom in things]
    return max(32, round(SMALL * float(np.median(sides)))) if sides else 0


def table(pictures: Sequence[Picture], tile: int, seen: int = 0) -> pa.Table:
    """One row a picture, or where one of them is larger than some tiles, one a tile."""
    import pyarrow as pa

    from fmhub.artifacts import sha256
    from fmhub.stems.image import WHOLE

    side = max((max(size(one)) for one in pictures), default=0)
    if not tile or side <= WHOLE * tile:
        # no pixel of these is lost: a larger picture that comes later is cut into such squares instead of made smaller
        return pa.table({
            "id": [one.name for one in pictures], "image": [str(one.path.absolute()) for one in pictures],
            "sha256": [sha256(one.path) for one in pictures], "target": pa.array([one.boxes for one in pictures], target_type()),
            "group": [one.name for one in pictures], "tile": [side if side <= seen else 0] * len(pictures),
        })  # fmt: skip
    return rows((row for one in pictures for row in _tiled(one, tile)), tile)


def _tiled(one: Picture, tile: int) -> list[dict[str, Any]]:
    import numpy as np

    from fmhub.stems import pictures

    pixels = np.asarray(pictures.whole(str(one.path), f"Picture {one.name}"))
    return [
        {"id": f"{one.name} {left},{top}", "image": pictures.raw(part), "target": boxes, "group": one.name}
        for left, top, part, boxes in tiles.cut(pixels, one.boxes, tile)
    ]


def rows(found: Any, tile: int) -> pa.Table:
    """A table of rows {id, image, target, group} whose pictures are tiles of this side."""
    import pyarrow as pa

    listed = list(found)
    columns = {name: [row[name] for row in listed] for name in ("id", "image", "group")}
    return pa.table({**columns, "target": pa.array([row["target"] for row in listed], target_type()), "tile": [tile] * len(listed)})


def target_type() -> pa.DataType:
    """The type of a column of boxes, which has to be said where a row has none."""
    import pyarrow as pa

    return pa.list_(pa.struct([("box", pa.list_(pa.float64())), ("label", pa.string()), ("iscrowd", pa.int64())]))
