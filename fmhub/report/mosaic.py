"""Heat maps: pieces of a picture put together again, each tinted by how probable the second label is said to be in it.

A row says in `whole` what it is a piece of, and in `corner` where: `left,top` in pixels. As for the contact sheet, the examples
are read again from the task's data, and where these are gone nothing is drawn.
"""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np

from fmhub.errors import FmhubError
from fmhub.report.markup import Markup, join, tag
from fmhub.report.run import Run

MOST = 8
CLEAR = 0.25
"""Probability up to which a piece is not tinted."""
STRONGEST = 0.6
TINT = np.array((230, 25, 75), np.float32)


def mosaic(run: Run) -> Markup | None:
    """Half of them wholes of which most pieces truly have the second label, half those without one where it is said most loudly."""
    if len(run.labels) != 2 or not {"whole", "corner"} <= run.columns.keys():
        return None
    wholes, said = run.columns["whole"], run.columns["scores"][:, 1]
    rows = {str(name): np.flatnonzero(wholes == name) for name in dict.fromkeys(wholes.tolist()) if name is not None}
    true = {name: int((run.columns["target"][where] == run.labels[1]).sum()) for name, where in rows.items()}
    most = sorted((name for name in rows if true[name]), key=lambda name: -true[name])
    loud = sorted((name for name in rows if not true[name]), key=lambda name: -said[rows[name]].max())
    chosen = most[: MOST - min(MOST // 2, len(loud))]
    chosen += loud[: MOST - len(chosen)]
    try:
        wanted = [str(run.columns["id"][row]) for name in chosen for row in rows[name]]
        inputs = dict(zip(wanted, run.inputs(wanted), strict=True))
        figures = [_figure(run, name, rows[name], inputs) for name in chosen]
    except (FmhubError, ValueError, ImportError):
        return None
    words = f"Red: {run.labels[1]} is probable, clear up to {CLEAR:g}. Outlined: it is true."
    return join([tag("p", words), tag("div", *figures, class_="sheet")]) if figures else None


def _figure(run: Run, name: str, rows: np.ndarray, inputs: dict[str, Any]) -> Markup:
    from PIL import Image, ImageDraw

    from fmhub.stems import pictures

    corners = []
    for row in rows:
        left, _, top = str(run.columns["corner"][row]).partition(",")
        corners.append((int(left), int(top)))
    pieces = [pictures.whole(inputs[str(run.columns["id"][row])], name) for row in rows]
    wide, high = (max(corner[axis] + piece.size[axis] for corner, piece in zip(corners, pieces, strict=True)) for axis in (0, 1))
    canvas, boxes = Image.new("RGB", (wide, high)), []
    for row, corner, piece in zip(rows, corners, pieces, strict=True):
        score = float(run.columns["scores"][row, 1])
        canvas.paste(Image.fromarray(_tinted(np.asarray(piece, np.float32), score)), corner)
        if run.columns["target"][row] == run.labels[1]:
            boxes.append((*corner, corner[0] + piece.width - 1, corner[1] + piece.height - 1))
    for box in boxes:  # after all pieces, which may overlap
        ImageDraw.Draw(canvas).rectangle(box, outline="#ffe119")
    out = io.BytesIO()
    canvas.save(out, "PNG")
    source = "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
    highest = float(run.columns["scores"][rows, 1].max())
    words = f"{name}: highest {highest:.2f}, truly {run.labels[1]} in {len(boxes)} of {len(rows)} pieces"
    return tag("figure", tag("img", src=source, alt=words, loading="lazy"), tag("figcaption", words))


def _tinted(pixels: np.ndarray, score: float) -> np.ndarray:
    share = STRONGEST * max(0.0, (score - CLEAR) / (1 - CLEAR))
    mixed: np.ndarray = (pixels * (1 - share) + TINT * share).round().astype(np.uint8)
    return mixed
