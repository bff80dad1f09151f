"""Crowns of trees on colour photos from the air (10 cm a pixel), by place: the hard task.

Training and validation are two ends of one photo of Yellowstone, the test is another photo 13 km away, and two photos of
other forests (Ordway-Swisher in Florida, Soaproot Saddle in California) are shifts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fmhub.artifacts import Artifact, File, Wheel

if TYPE_CHECKING:
    import pyarrow as pa

LABEL = "tree"
TILE = 224
"""Large enough that most crowns stand whole in a tile, with what is around them."""
YELLOWSTONE, ELSEWHERE = "2019_YELL_2_528000_4978000_image_crop2", "2019_YELL_2_541000_4977000_image_crop"
FILES = (
    File(f"{YELLOWSTONE}.png", "a9bdb0f4447fdd899d22f567e0e20ba8320c5413b2ad0cd0ac8d9f3b6e0f9767", 15_333_493),
    File(f"{YELLOWSTONE}.xml", "bd431af6a5086d721eb731b22f5ea28cd8a8eab06883efc1c665391acbc68e11"),
    File(f"{ELSEWHERE}.png", "178e58a23cc2642226a364a30f71bd9258ddc1b012c826f12250914a90c7a131"),
    File(f"{ELSEWHERE}.xml", "cefe4b96888bacbf8af1674f000082e549aa707aa6590d545effb23e43f26631"),
    File("OSBS_029.png", "d9477c6a00e4902c7bee487d4c5582c3b8b9a2f77f3908a29628b816b291e6ee"),
    File("OSBS_029.xml", "1f68c4011d7b351c29ca755072e77f3d16e6fd1f995bd05a9dd4eb952b55373c"),
    File("SOAP_061.png", "256508f1a62149bec4a80879077a865caf50e8cace095e6564c76befa480d424"),
    File("SOAP_061.xml", "4833280af75fd9c47965a93e38945282835e9e725cac412bdb9469d63480947c"),
)
CROWNS = Artifact(name="tree-crowns", files=FILES, sources=(Wheel("deepforest==2.1.0", path="deepforest/data/"),))
ENDS = {"train": (0, 1800), "validation": (1860, 2472)}
"""Rows of pixels of the Yellowstone photo, with a gap wider than half a crown between them."""


def tiles() -> dict[str, pa.Table]:
    """Tiles of 224 x 224 pixels with boxes; a group is a row of tiles of one photo."""
    from fmhub_vision.boxes import rows
    from fmhub_vision.tiles import apart

    tables = {
        "train": rows(_photo(YELLOWSTONE, ENDS["train"], overlap=0.25), TILE),
        "validation": rows(_photo(YELLOWSTONE, ENDS["validation"]), TILE),
        "test": rows(_photo(ELSEWHERE), TILE),
        "shift:florida": rows(_photo("OSBS_029"), TILE),
        "shift:california": rows(_photo("SOAP_061"), TILE),
    }
    apart({part: table["id"].to_pylist() for part, table in tables.items()}, dict.fromkeys(tables, (TILE, TILE)))
    return tables


def _photo(name: str, ends: tuple[int, int] | None = None, overlap: float = 0.0) -> Iterator[dict[str, Any]]:
    import numpy as np

    from fmhub.artifacts import fetch
    from fmhub.stems import pictures
    from fmhub_vision import formats
    from fmhub_vision import tiles as squares

    folder = fetch(CROWNS)
    (one,) = formats.voc(folder, [folder / f"{name}.xml"])
    pixels = np.asarray(pictures.whole(str(folder / f"{name}.png"), name))
    start, stop = ends or (0, len(pixels))
    boxes = squares.clipped([{**box, "label": LABEL} for box in one.boxes], 0, start, pixels.shape[1], stop - start)
    for left, top, part, found in squares.cut(pixels[start:stop], boxes, TILE, overlap):
        yield {"id": f"{name} {left},{start + top}", "image": pictures.raw(part), "target": found, "group": f"{name} {start + top}"}
