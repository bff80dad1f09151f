"""Large pictures cut into squares, with the boxes that are seen in each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

SEEN = 0.25
"""Share of an object that a tile must show for it to count there."""
WHOLE = 1.5
"""A picture whose longer side is at most this many tiles is not cut."""


def places(length: int, tile: int, overlap: float = 0.25) -> list[int]:
    """Where tiles begin along a side: evenly spread, the first at 0, the last at the end, sharing at least `overlap` of a tile."""
    if length <= tile:
        return [0]
    count = -(-(length - tile) // max(1, round(tile * (1 - overlap))))
    return [round(place * (length - tile) / count) for place in range(count + 1)]


def cut(
    pixels: np.ndarray, boxes: Sequence[Mapping[str, Any]], tile: int, overlap: float = 0.25
) -> Iterator[tuple[int, int, np.ndarray, list[dict[str, Any]]]]:
    """(left, top, pixels, boxes in pixels of the tile) of every tile of a picture (height, width, 3)."""
    height, width = pixels.shape[:2]
    for top in places(height, tile, overlap):
        for left in places(width, tile, overlap):
            part = pixels[top : top + tile, left : left + tile]
            yield left, top, part, clipped(boxes, left, top, part.shape[1], part.shape[0])


def clipped(boxes: Sequence[Mapping[str, Any]], left: float, top: float, width: float, height: float) -> list[dict[str, Any]]:
    """The boxes of which at least `SEEN` lies inside a window, cut to it and counted from its corner."""
    kept = []
    for one in boxes:
        x0, y0, x1, y1 = one["box"]
        inner = [max(x0 - left, 0.0), max(y0 - top, 0.0), min(x1 - left, width), min(y1 - top, height)]
        area = max(0.0, inner[2] - inner[0]) * max(0.0, inner[3] - inner[1])
        if area > 0 and area >= SEEN * (x1 - x0) * (y1 - y0):
            kept.append({"box": [float(edge) for edge in inner], "label": one["label"]})
    return kept


def raw(pixels: np.ndarray) -> bytes:
    """Grey (height, width) or RGB (height, width, 3) uint8 as a file that is the same bytes wherever it is made: PGM or PPM."""
    kind = b"P5" if pixels.ndim == 2 else b"P6"
    return kind + f"\n{pixels.shape[1]} {pixels.shape[0]}\n255\n".encode() + pixels.tobytes()
