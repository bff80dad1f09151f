"""Heat maps in the report: pieces lie where they belong, probable ones are red, true ones outlined."""

from __future__ import annotations

import base64
import io
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fmhub.errors import DataError
from fmhub.report import mosaic as heat
from fmhub.stems import pictures


def run(rows: list[tuple[str, str, float, str]], inputs: Any = None, **more: Any) -> Any:
    """Rows of (whole, corner, score, target); the piece of row n is all of grey 10 * n."""
    columns = {name: np.empty(len(rows), dtype=object) for name in ("id", "whole", "corner", "target")}
    for place, (whole, corner, _, target) in enumerate(rows):
        for name, value in (("id", str(place)), ("whole", whole), ("corner", corner), ("target", target)):
            columns[name][place] = value
    columns["scores"] = np.array([[1 - score, score] for _, _, score, _ in rows])

    def greys(names: list[str]) -> list[bytes]:
        return [pictures.raw(np.full((20, 20), 10 * int(name), np.uint8)) for name in names]

    return SimpleNamespace(columns={**columns, **more}, labels=["none", "there"], inputs=inputs or greys)


def drawn(found: object) -> list[np.ndarray]:
    coded = re.findall(r'src="data:image/png;base64,([^"]+)"', str(found))
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one))).convert("RGB")).astype(int) for one in coded]


def test_pieces_lie_at_their_corners_and_what_is_probable_is_red() -> None:
    found = heat.mosaic(
        run([("a", "0,0", 0.1, "none"), ("a", "20,0", 1.0, "none"), ("a", "0,20", 0.2, "none"), ("a", "20,20", 0.9, "there")])
    )
    (image,) = drawn(found)
    assert image.shape == (40, 40, 3)
    assert (image[10, 10] == 0).all() and (image[30, 10] == 20).all()  # below the clear end nothing is tinted
    assert image[10, 30].tolist() == pytest.approx([0.4 * 10 + 0.6 * 230, 0.4 * 10 + 0.6 * 25, 0.4 * 10 + 0.6 * 75], abs=1)
    assert image[20, 25].tolist() == [255, 225, 25] and image[0, 30].tolist() != [255, 225, 25]  # only the true piece has an outline
    assert "a: highest 1.00, truly there in 1 of 4 pieces" in str(found)


def test_half_of_the_wholes_are_true_ones_and_half_the_loudest_others(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(f"true {n}", "0,0", 0.5, "there") for n in range(5)] + [(f"calm {n}", "0,0", n / 10, "none") for n in range(5)]
    monkeypatch.setattr(heat, "MOST", 4)
    names = re.findall(r"<figcaption>([a-z]+ \d):", str(heat.mosaic(run(rows))))
    assert names == ["true 0", "true 1", "calm 4", "calm 3"]
    assert re.findall(r"<figcaption>([a-z]+ \d):", str(heat.mosaic(run(rows[:5])))) == ["true 0", "true 1", "true 2", "true 3"]


def test_nothing_is_drawn_where_rows_are_no_pieces_or_the_data_are_gone() -> None:
    rows = [("a", "0,0", 0.5, "there")]
    whole = run(rows)
    del whole.columns["corner"]
    assert heat.mosaic(whole) is None

    def gone(names: list[str]) -> list[bytes]:
        raise DataError("gone")

    assert heat.mosaic(run(rows, inputs=gone)) is None
    assert heat.mosaic(run([("a", "nowhere", 0.5, "there")])) is None
