"""Boxes of objects: one prediction a cell of a grid over the patches, without anchors.

FCOS (Tian et al. 2019, arXiv:1904.01355) on a single level, over the patch tokens of several layers and the pixels themselves.
A cell's score says how well its box fits (quality focal loss, Li et al. 2020, arXiv:2006.04388); its sides learn by generalised overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fmhub.errors import DataError, nearest
from fmhub.task import Reads

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch

    from fmhub.backbones.load import Backbone
    from fmhub.recipe import Recipe
    from fmhub.task import Known

SEEN = 0.25
"""Share of a box that a window of a larger picture must show for the box to be learnt there."""
CENTRE = 1.5
"""A cell learns a box whose centre is at most this many cells away in x and in y, and that holds it."""


@dataclass(frozen=True)
class Detection:
    """A target is a list of {box, label}, a prediction a list of {box, label, score}, best first. A target with `iscrowd` (COCO's
    word) is a place whose things nobody marked one by one: nothing is learnt there, and nothing found there is wrong.

    A box is [left, top, right, bottom] in pixels of the true picture; the stem's batch must say in `frame` (examples, 2, 3)
    where it put them, and in `source` (examples, 2) how wide and high the picture is. Where the stem makes several windows of an
    example, it says in `windows` (windows, 7) what `joined` asks for.
    """

    labels: Sequence[str] = ()
    reads: Reads = Reads("all", (-1, -4, -7, -10))
    finer: int = 2
    """Cells along one side of a patch: 1, 2 or 4."""
    hidden: int = 128
    depth: int = 2
    """Blocks above the backbone, each of which looks further around a cell."""
    least: float = 0.05
    """Smallest score of a prediction, 0 to 1."""
    sure: float = 0.4
    """Smallest score of a box that is counted and drawn for people."""
    limit: float = 0.5
    """Overlap with a better one of the same label above which a box is dropped."""
    most: int = 300
    """Predictions an example."""

    def fit(self, known: Known, recipe: Recipe) -> Detection:
        """A copy with the sorted labels of the training boxes where none are named. Raises `DataError` where there is no box."""
        found = {str(one["label"]) for boxes in known.train.column("target").to_pylist() for one in things(boxes)}
        if not found:
            raise DataError("The training part holds no box.")
        fitted = replace(self, labels=tuple(self.labels) or tuple(sorted(found)))
        fitted.targets(known.train)
        return fitted

    def targets(self, table: pa.Table) -> dict[str, list[Any]]:
        """`boxes`: float32 (k, 4) and `kinds`: int64 (k,) an example, -1 for a crowd. Raises `DataError` for a box without area or an
        unknown label."""
        import numpy as np

        place = {label: index for index, label in enumerate(self.labels)}
        boxes, kinds = [], []
        for name, row in zip(table.column("id").to_pylist(), table.column("target").to_pylist(), strict=True):
            for one in row:
                _check(one, place, name)
            boxes.append(np.array([one["box"] for one in row], np.float32).reshape(-1, 4))
            kinds.append(np.array([-1 if one.get("iscrowd") else place[str(one["label"])] for one in row], np.int64))
        return {"boxes": boxes, "kinds": kinds}

    def build(self, backbone: Backbone, stem: torch.nn.Module | None, recipe: Recipe) -> torch.nn.Module:
        """Patch tokens of the layers -> maps of a grid that is `finer` than the patches; see `fmhub.heads.grid.Grid`."""
        from fmhub.heads.grid import Grid

        patch = int(backbone.model.config.patch_size)
        layers, labels = len(self.reads.layers), len(self.labels)
        return Grid(backbone.width, layers, labels, self.hidden, self.finer, self.depth, patch, recipe.dropout)

    def loss(self, outputs: dict[str, torch.Tensor], targets: dict[str, Any], recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum over cells, weighed by the number of cells that have a box (at least one an example)."""
        from fmhub.heads.grid import assign, losses

        pairs = zip(*_in_windows(outputs, targets), strict=True)
        return losses(outputs, [assign(outputs, row, boxes, kinds, CENTRE) for row, (boxes, kinds) in enumerate(pairs)])

    def decode(self, outputs: dict[str, torch.Tensor]) -> dict[str, Any]:
        """`prediction`: lists of {box, label, score}, clipped to the picture."""
        from fmhub.heads.grid import found

        return self._named(outputs, [found(outputs, row, self.least, self.limit, self.most) for row in range(len(outputs["kinds"]))])

    def _named(self, outputs: dict[str, torch.Tensor], rows: list[list[tuple[list[float], int, float]]]) -> dict[str, Any]:
        named = {"prediction": [[{"box": box, "label": self.labels[kind], "score": score} for box, kind, score in row] for row in rows]}
        if "windows" not in outputs:
            return named
        windows = outputs["windows"].cpu().numpy()
        return self.joined(named, windows, int(windows[-1, 0]) + 1)

    def readable(self, prediction: Sequence[dict[str, Any]], catalogue: pa.Table | None = None) -> str:
        """How many boxes of each label are sure: `12 nucleus`."""
        sure = [one["label"] for one in prediction if one["score"] >= self.sure]
        return ", ".join(f"{sure.count(label)} {label}" for label in self.labels if label in sure) or "nothing"

    def drawn(self, prediction: Sequence[dict[str, Any]], source: Any, truth: Sequence[dict[str, Any]] = ()) -> bytes:
        """A PNG of the picture with the boxes that are sure, and dashed the true ones."""
        from fmhub.heads.draw import boxes

        return boxes(source, [one for one in prediction if one["score"] >= self.sure], self.labels, things(truth))

    def faults(self, prediction: Sequence[dict[str, Any]], target: Sequence[dict[str, Any]]) -> int:
        """How many true boxes no sure one of their label overlaps by half, and how many sure ones outside crowds are left over."""
        from fmhub.heads.boxes import covered, paired

        true, crowds = things(target), [one["box"] for one in target if one.get("iscrowd")]
        sure = [one for one in prediction if one["score"] >= self.sure and not covered([one["box"]], crowds).any()]
        return len(sure) + len(true) - 2 * paired(sure, true)

    def joined(self, columns: dict[str, list[Any]], windows: np.ndarray, count: int) -> dict[str, list[Any]]:
        """What was found in tiles, in the pixels of their pictures; see `fmhub.heads.boxes.together`. Where a tile may cut a thing and
        another shows its box whole, the other is believed, whatever it found there. A picture that was not cut keeps what was found
        in it, as it was scored.

        `windows` (tiles, 7) says of each its picture, left, top, right and bottom, and the picture's width and height.
        """
        from fmhub.heads.boxes import cuts, together

        shown: list[list[list[int]]] = [[] for _ in range(count)]
        found: list[list[tuple[dict[str, Any], bool]]] = [[] for _ in range(count)]
        for row, *window in windows.tolist():
            shown[row].append(window)
        for boxes, (row, *window) in zip(columns["prediction"], windows.tolist(), strict=True):
            for one in boxes:
                box = [edge + start for edge, start in zip(one["box"], window[:2] * 2, strict=True)]
                cut = cuts(window, box)
                if not cut or all(cuts(other, box) for other in shown[row]):
                    found[row].append(({**one, "box": box}, cut))
        pairs = zip(found, shown, strict=True)
        return {"prediction": [[one for one, _ in some] if len(tiles) <= 1 else together(some, self.limit) for some, tiles in pairs]}


@dataclass(frozen=True)
class SetDetection(Detection):
    """The same targets and predictions, as a set: `queries` learnt questions, each answered by one object or none.

    DETR (Carion et al. 2020, arXiv:2005.12872) over a plain transformer's tokens, as in YOLOS (Fang et al. 2021,
    arXiv:2106.00666). No thing is predicted twice, so nothing is suppressed; it wants more pictures and epochs than `Detection`.
    """

    reads: Reads = Reads("all", (-1, -4))
    queries: int = 64
    """Objects that one example can have at most."""

    def build(self, backbone: Backbone, stem: torch.nn.Module | None, recipe: Recipe) -> torch.nn.Module:
        """Patch tokens of the layers -> answers; see `fmhub.heads.queries.Queries`."""
        from fmhub.heads.queries import Queries

        return Queries(backbone.width, len(self.reads.layers), len(self.labels), self.hidden, self.queries, self.depth, recipe.dropout)

    def loss(self, outputs: dict[str, torch.Tensor], targets: dict[str, Any], recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum over queries after the cheapest one-to-one assignment, weighed by the number of true boxes (at least one an example)."""
        from fmhub.heads.queries import losses

        return losses(outputs, *_in_windows(outputs, targets), self.queries)

    def decode(self, outputs: dict[str, torch.Tensor]) -> dict[str, Any]:
        """`prediction`: lists of {box, label, score}, clipped to the picture."""
        from fmhub.heads.queries import found

        return self._named(outputs, [found(outputs, row, self.least, self.most) for row in range(len(outputs["kinds"]))])


def things(boxes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that are one thing each, and no crowd."""
    return [one for one in boxes if not one.get("iscrowd")]


def _in_windows(outputs: dict[str, torch.Tensor], targets: dict[str, Any]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Boxes and labels of each of the outputs, cut to its window of a larger picture; what it shows too little of is as a crowd."""
    import numpy as np

    boxes, kinds = targets["boxes"], targets["kinds"]
    if "windows" not in outputs or len(outputs["windows"]) == len(boxes):
        return boxes, kinds
    found = []
    for row, left, top, right, bottom, _, _ in outputs["windows"].tolist():
        whole = boxes[row] - np.array([left, top, left, top], np.float32)
        inner = whole.clip(0, np.array([right - left, bottom - top] * 2, np.float32))
        area, shown = ((some[:, 2:] - some[:, :2]).prod(1) for some in (whole, inner))
        enough, kept = shown >= SEEN * area, shown > 0
        found.append((inner[kept], np.where(enough, kinds[row], -1)[kept]))
    return [one for one, _ in found], [one for _, one in found]


def _check(one: Any, known: dict[str, int], name: str) -> None:
    import math

    box, label = one["box"], str(one["label"])
    if label not in known and not one.get("iscrowd"):
        raise DataError(f"Row {name}: label {label!r} is not one that was trained on.{nearest(label, known)} Labels: {', '.join(known)}.")
    if len(box) != 4 or not all(math.isfinite(edge) for edge in box) or box[2] <= box[0] or box[3] <= box[1]:
        raise DataError(f"Row {name}: {list(box)} is not a box: it needs left < right and top < bottom, in pixels.")
