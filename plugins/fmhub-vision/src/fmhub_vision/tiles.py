"""Large pictures cut into squares, with the boxes that are seen in each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from fmhub.errors import DataError

if TYPE_CHECKING:
    import numpy as np

SEEN = 0.25
"""Share of an object that a tile must show for it to count there; what shows less is neither right nor wrong to find."""


def cut(
    pixels: np.ndarray, boxes: Sequence[Mapping[str, Any]], tile: int, overlap: float = 0.25
) -> Iterator[tuple[int, int, np.ndarray, list[dict[str, Any]]]]:
    """(left, top, pixels, boxes in pixels of the tile) of every tile of a picture (height, width, 3)."""
    from fmhub.stems import pictures

    for left, top, right, bottom in pictures.windows(pixels.shape[1], pixels.shape[0], tile, overlap):
        yield left, top, pixels[top:bottom, left:right], clipped(boxes, left, top, right - left, bottom - top)


def apart(parts: Mapping[str, Iterable[str]], sizes: Mapping[str, tuple[int, int]], source: Callable[[str], str] = str) -> None:
    """`DataError` where tiles of two parts show the same place of one source, which no `group` of theirs would tell.

    `parts` are the ids of tiles, `NAME LEFT,TOP`, and `sizes` how wide and high those of each part are; `source(NAME)` is what they
    were cut from: the photo, or the dish of all frames.
    """
    places: dict[tuple[str, str, int, int], str] = {}
    for part, ids in parts.items():
        for one in ids:
            name, _, corner = one.rpartition(" ")
            left, top = map(int, corner.split(","))
            places[part, source(name), left, top] = one
    for (this, name, left, top), (that, other, right, below) in combinations(places, 2):
        (width, height), (wide, high) = sizes[this], sizes[that]
        across, down = -width < left - right < wide, -height < top - below < high
        if this != that and name == other and across and down:
            first, second = places[this, name, left, top], places[that, other, right, below]
            raise DataError(f"Tile {first} of {this} and tile {second} of {that} show the same place of {name}.")


def clipped(boxes: Sequence[Mapping[str, Any]], left: float, top: float, width: float, height: float) -> list[dict[str, Any]]:
    """The boxes that reach into a window, cut to it and counted from its corner; those of which less than `SEEN` does are `iscrowd`."""
    kept = []
    for one in boxes:
        x0, y0, x1, y1 = one["box"]
        inner = [max(x0 - left, 0.0), max(y0 - top, 0.0), min(x1 - left, width), min(y1 - top, height)]
        area = max(0.0, inner[2] - inner[0]) * max(0.0, inner[3] - inner[1])
        if area > 0:
            crowd = bool(one.get("iscrowd")) or area < SEEN * (x1 - x0) * (y1 - y0)
            kept.append({"box": [float(edge) for edge in inner], "label": one["label"], "iscrowd": int(crowd)})
    return kept
