"""Boxes painted over their picture, for people to look at."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#42d4f4", "#f032e6", "#bfef45")
LEAST = 640
"""Pixels of the longer side below which a picture is enlarged, so that lines and words do not hide it."""


def boxes(source: Any, found: Sequence[dict[str, Any]], labels: Sequence[str], truth: Sequence[dict[str, Any]] = ()) -> bytes:
    """A PNG of the picture (a path or the bytes of a file) with every box of `found` and its score; `truth` is dashed white.

    Colours go by label. Raises `DataError` for a picture that cannot be read.
    """
    from PIL import ImageDraw, ImageFont

    from fmhub.stems import pictures

    image = pictures.whole(source, "The picture")
    scale = max(1, round(LEAST / max(image.size)))
    image = image.resize((image.width * scale, image.height * scale))
    draw, width = ImageDraw.Draw(image), max(1, round(max(image.size) / 320))
    font = ImageFont.load_default(max(11, round(max(image.size) / 50)))
    for one in truth:
        _dashed(draw, [edge * scale for edge in one["box"]], width)
    for one in reversed(found):  # the best ones are painted last
        left, top, right, bottom = (edge * scale for edge in one["box"])
        colour = COLOURS[labels.index(one["label"]) % len(COLOURS)]
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=width)
        words = f"{one['label']} {one['score']:.2f}" if len(labels) > 1 else f"{one['score']:.2f}"
        draw.text((left + width + 1, top + width), words, fill=colour, font=font)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _dashed(draw: Any, box: Sequence[float], width: int) -> None:
    left, top, right, bottom = box
    step = 4 * width
    for start in range(int(left), int(right), 2 * step):
        for y in (top, bottom):
            draw.line((start, y, min(start + step, right), y), fill="white", width=width)
    for start in range(int(top), int(bottom), 2 * step):
        for x in (left, right):
            draw.line((x, start, x, min(start + step, bottom)), fill="white", width=width)
