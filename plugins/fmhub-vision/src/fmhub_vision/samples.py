"""Made-up pictures that stand in tests for sets that are fetched."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fmhub_vision import emoji, silhouettes

if TYPE_CHECKING:
    import pyarrow as pa


def emoji_like() -> pa.Table:
    """234 pictures, 26 a category."""
    return shapes(emoji.LABELS, 26)


def silhouettes_like() -> pa.Table:
    """240 pictures, 24 a kind."""
    return shapes(silhouettes.LABELS, 24)


def shapes(labels: Sequence[str], count: int) -> pa.Table:
    """`count` pictures a label of 32 x 32 pixels: a polygon whose corners and hue tell the label, of any size, place and turn."""
    import numpy as np
    import pyarrow as pa
    from PIL import Image, ImageColor, ImageDraw

    random = np.random.default_rng(0)
    rows = []
    for number in random.permutation(count * len(labels)).tolist():
        kind = number % len(labels)
        shade, hue = int(random.integers(200, 256)), round(360 * kind / len(labels))
        image = Image.new("RGB", (32, 32), (shade, shade, shade))
        radius = int(random.integers(6, 12))
        centre = random.integers(radius, 32 - radius, 2).tolist()
        fill = ImageColor.getrgb(f"hsl({hue}, 90%, {random.integers(35, 60)}%)")
        ImageDraw.Draw(image).regular_polygon((*centre, radius), 3 + kind % 4, rotation=int(random.integers(360)), fill=fill)
        out = io.BytesIO()
        image.save(out, "PNG")
        rows.append({"id": str(number), "image": out.getvalue(), "target": labels[kind]})
    return pa.Table.from_pylist(rows)


def nuclei_like() -> pa.Table:
    """64 dark pictures of 56 x 56 pixels with one or two bright ovals anywhere, some cut by the edge.

    Anywhere: were they in a few places, or whole in the picture and so mostly in its middle, boxes of another picture would lie on
    bright pixels more often than on dark ones, and a detector would learn that from labels that are dealt out at random.
    """
    import numpy as np

    from fmhub.stems.pictures import raw
    from fmhub_vision.boxes import rows

    random = np.random.default_rng(0)
    down, across = np.mgrid[:56, :56]
    made = []
    for number in range(64):
        pixels, boxes, count = random.normal(20, 4, (56, 56)), [], random.integers(1, 3)
        while len(boxes) < count:
            (x, y), (wide, high) = random.uniform(0, 56, 2), random.uniform(6, 11, 2)
            box = [max(x - wide, 0.0), max(y - high, 0.0), min(x + wide, 56.0), min(y + high, 56.0)]
            if any(box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3] for other in boxes):
                continue
            inside = ((across + 0.5 - x) / wide) ** 2 + ((down + 0.5 - y) / high) ** 2 < 1
            pixels[inside] += random.uniform(60, 200)
            boxes.append(box)
        target = [{"box": box, "label": "nucleus"} for box in boxes]
        made.append({"id": str(number), "image": raw(pixels.clip(0, 255).astype(np.uint8)), "target": target, "group": str(number)})
    return rows(made, 0)
