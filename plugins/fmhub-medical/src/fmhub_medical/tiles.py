"""Slices cut into squares of 32 mm: the same piece of a body is the same number of pixels in every scan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fmhub.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from fmhub_medical.readers.scan import Scan

PIXEL = 0.8
"""Millimetres of a side of a pixel."""
TILE = 40
"""Pixels of a side of a tile: 32 mm."""
DARK = 20
"""Grey (0 to 255) up to which a pixel may be the air around a body."""
INSIDE = 0.5
"""Share of a tile that must lie in the body."""
LARGEST = 4096
"""Pixels of the longest side of a slice at `PIXEL` mm: 3.3 m."""


def flat(scan: Scan, name: str = "The scan") -> tuple[np.ndarray, np.ndarray]:
    """Grey slices (uint8) and where the body is (bool), both (slices, rows, columns) at `PIXEL` mm. Raises `DataError`."""
    import numpy as np
    from scipy import ndimage

    if scan.spacing is None:
        raise DataError(f"{name} does not say how large its pixels are (spacing): a square of 32 mm cannot be found in it.")
    if max(side * step for side, step in zip(scan.voxels.shape[1:], scan.spacing[1:], strict=True)) > LARGEST * PIXEL:
        raise DataError(f"{name} would be more than {LARGEST * PIXEL / 1000:.1f} m wide: its spacing cannot be right.")
    grey = resampled(scan.grey(), scan.spacing)
    body = np.stack([ndimage.binary_fill_holes(ndimage.binary_opening(one > DARK, iterations=2)) for one in grey])
    return grey, body


def resampled(slices: np.ndarray, spacing: tuple[float, float, float] | None) -> np.ndarray:
    """(slices, rows, columns) uint8 or bool at `PIXEL` mm: area means where it gets coarser; of a mask what is more than half in it."""
    import numpy as np
    from PIL import Image

    assert spacing is not None
    high, wide = (max(1, round(side * step / PIXEL)) for side, step in zip(slices.shape[1:], spacing[1:], strict=True))
    if (high, wide) == slices.shape[1:]:
        return slices
    pixels = slices.astype(np.uint8) * (255 if slices.dtype == bool else 1)
    made = np.stack([np.asarray(Image.fromarray(one).resize((wide, high), Image.Resampling.BILINEAR, reducing_gap=None)) for one in pixels])
    return made > 127 if slices.dtype == bool else made


def grown(body: np.ndarray, steps: int = 6) -> np.ndarray:
    """The body with a rim of that many pixels in each slice."""
    import numpy as np
    from scipy import ndimage

    return np.stack([ndimage.binary_dilation(one, iterations=steps) for one in body])


def corners(body: np.ndarray, stride: int = TILE) -> Iterator[tuple[int, int]]:
    """(top, left) of the tiles of one slice (rows, columns) that lie in the body, the last of each row and column at the edge."""
    high, wide = body.shape
    for top in _places(high, stride):
        for left in _places(wide, stride):
            if body[top : top + TILE, left : left + TILE].mean() >= INSIDE:
                yield top, left


def _places(side: int, stride: int) -> list[int]:
    """Every `stride` pixels; what is left at the end is a tile of its own."""
    last = max(0, side - TILE)
    return [*range(0, last, stride), last]


def piece(slice_: np.ndarray, top: int, left: int) -> np.ndarray:
    """(TILE, TILE), black where it reaches beyond the slice."""
    import numpy as np

    found = np.zeros((TILE, TILE), slice_.dtype)
    part = slice_[top : top + TILE, left : left + TILE]
    found[: part.shape[0], : part.shape[1]] = part
    return found
