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
