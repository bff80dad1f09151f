"""The contact sheet: pictures of what went wrong, worst first, with what was said and what is true; nothing where nothing can be shown."""

from __future__ import annotations

import base64
import io
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fmhub import heads, stems
from fmhub.errors import DataError
from fmhub.report import sheet as contact
from fmhub.stems import pictures

GREY = pictures.raw(np.full((40, 60), 90, np.uint8))


def run(stem: Any, head: Any, holds: set[str], columns: dict[str, list[Any]], inputs: Any = None) -> Any:
    """What the sheet asks of a run; every example is the same grey picture."""
    arrays = {}
    for name, values in columns.items():
        arrays[name] = np.empty(len(values), dtype=object)
        arrays[name][:] = values
    if "scores" in arrays:
        arrays["scores"] = np.array(columns["scores"])
    return SimpleNamespace(specs=(stem, head), holds=holds, columns=arrays, inputs=inputs or (lambda names: [GREY] * len(names)))


def captions(found: str) -> list[str]:
    return re.findall(r"<figcaption>(.*?)</figcaption>", found)


def images(found: str) -> list[np.ndarray]:
    coded = re.findall(r'src="data:image/png;base64,([^"]+)"', found)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one))).convert("RGB")) for one in coded]


LABELLED = {
    "id": ["a", "b", "c", "d"], "prediction": ["cat", "dog", "dog", "cat"], "target": ["cat", "cat", "cat", "dog"],
    "scores": [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]],
}  # fmt: skip


def test_the_wrong_labels_that_were_surest_come_first() -> None:
    found = contact.sheet(run(stems.Image(), heads.Classification(), {"labels", "scores"}, LABELLED))
    assert captions(str(found)) == ["cat, not dog (0.80)", "dog, not cat (0.70)", "cat, not dog (0.60)"]
    assert all(image.shape == (40, 60, 3) and (image == 90).all() for image in images(str(found)))


def test_at_most_a_page_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contact, "MOST", 2)
    assert len(captions(str(contact.sheet(run(stems.Image(), heads.Classification(), {"labels", "scores"}, LABELLED))))) == 2


def box(*edges: float, score: float | None = None, label: str = "cell") -> dict[str, Any]:
    return {"box": list(edges), "label": label} | ({} if score is None else {"score": score})


BOXED = {
    "id": ["right", "missed", "twice"],
    "prediction": [
        [box(5, 5, 20, 20, score=0.9)], [box(30, 5, 50, 20, score=0.3)],
        [box(5, 5, 20, 20, score=0.9), box(30, 5, 55, 30, score=0.8)],
    ],
    "target": [[box(5, 5, 20, 20)], [box(30, 5, 50, 20)], [box(5, 25, 20, 38)]],
}  # fmt: skip


def test_the_pictures_with_most_faults_come_first_and_both_kinds_of_boxes_are_painted() -> None:
    """Of `twice` two boxes are wrong and one is missed; of `missed` the box was not sure enough, and is not painted."""
    found = contact.sheet(run(stems.Image(), heads.Detection(labels=("cell",)), {"targets"}, BOXED))
    assert captions(str(found)) == ["twice", "missed"]
    twice, missed = images(str(found))
    red, white, scale = (230, 25, 75), (255, 255, 255), 11
    assert tuple(twice[5 * scale, 10 * scale]) == red and tuple(twice[25 * scale, 5 * scale]) == white
    assert tuple(missed[5 * scale, 30 * scale]) == white and not (missed == red).all(-1).any()


def test_heads_that_cannot_be_shown_have_no_sheet() -> None:
    assert contact.sheet(run(stems.Text(), heads.Classification(), {"labels", "scores"}, LABELLED)) is None
    assert contact.sheet(run(stems.Image(), heads.Regression(), {"numbers"}, LABELLED)) is None
    right = {**LABELLED, "prediction": LABELLED["target"]}
    assert contact.sheet(run(stems.Image(), heads.Classification(), {"labels", "scores"}, right)) is None


def test_data_that_are_gone_leave_the_sheet_out() -> None:
    def gone(names: list[str]) -> list[Any]:
        raise DataError("gone")

    assert contact.sheet(run(stems.Image(), heads.Classification(), {"labels", "scores"}, LABELLED, gone)) is None


def test_names_are_escaped() -> None:
    columns = {**LABELLED, "target": ["<b>", "<b>", "<b>", "<b>"]}
    found = str(contact.sheet(run(stems.Image(), heads.Classification(), {"labels", "scores"}, columns)))
    assert "<b>" not in found and "&lt;b&gt;, not cat" in found
