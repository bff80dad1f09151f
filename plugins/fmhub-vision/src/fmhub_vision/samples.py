"""Made-up pictures that stand in tests for sets that are fetched."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


def shapes() -> pa.Table:
    """240 pictures of 32 x 32 pixels: a disc or a square of any colour, size and place on a plain ground."""
    import numpy as np
    import pyarrow as pa
    from PIL import Image, ImageDraw

    random = np.random.default_rng(0)
    rows = []
    for number in range(240):
        label = ("disc", "square")[number % 2]
        colours = random.integers(0, 256, (2, 3))
        while np.abs(colours[0] - colours[1]).sum() < 150:  # a shape that can be seen
            colours = random.integers(0, 256, (2, 3))
        image = Image.new("RGB", (32, 32), tuple(colours[0].tolist()))
        size = int(random.integers(10, 20))
        left, top = random.integers(1, 31 - size, 2).tolist()
        draw = ImageDraw.Draw(image)
        (draw.ellipse if label == "disc" else draw.rectangle)((left, top, left + size, top + size), fill=tuple(colours[1].tolist()))
        out = io.BytesIO()
        image.save(out, "PNG")
        rows.append({"id": str(number), "image": out.getvalue(), "target": label})
    return pa.Table.from_pylist(rows)
