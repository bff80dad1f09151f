"""Arithmetic of boxes (..., 4): left, top, right, bottom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

EDGE = 2.0
"""Pixels from a tile's edge within which a box may be of a thing that the tile cuts."""


def area(boxes: torch.Tensor) -> torch.Tensor:
    """(..., 4) -> (...); 0 where a side is not positive."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def overlap(one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Intersection over union and its generalised form (Rezatofighi et al. 2019, arXiv:1902.09630), -1 to 1, box by box."""
    shared = area(torch.cat([torch.maximum(one[..., :2], other[..., :2]), torch.minimum(one[..., 2:], other[..., 2:])], dim=-1))
    union = (area(one) + area(other) - shared).clamp(min=1e-6)
    hull = area(torch.cat([torch.minimum(one[..., :2], other[..., :2]), torch.maximum(one[..., 2:], other[..., 2:])], dim=-1)).clamp(
        min=1e-6
    )
    ratio = shared / union
    return ratio, ratio - (hull - union) / hull


def covered(boxes: Any, by: Any, share: float = 0.5) -> torch.Tensor:
    """(k, 4) and (n, 4) -> (k,) bool: at least `share` of it lies in one of `by`."""
    one, other = (torch.as_tensor(some, dtype=torch.float32).reshape(-1, 4) for some in (boxes, by))
    pair = one[:, None].expand(-1, len(other), -1)
    inner = area(torch.cat([torch.maximum(pair[..., :2], other[..., :2]), torch.minimum(pair[..., 2:], other[..., 2:])], dim=-1))
    return (inner >= share * area(one)[:, None].clamp(min=1e-6)).any(1)


def suppressed(boxes: torch.Tensor, limit: float) -> torch.Tensor:
    """(k, 4), best first -> the places of those that no kept better one overlaps by more than `limit`."""
    ratio = overlap(boxes[:, None], boxes[None])[0]
    kept: list[int] = []
    for place in range(len(boxes)):
        if not kept or float(ratio[place, kept].max()) <= limit:
            kept.append(place)
    return torch.tensor(kept, dtype=torch.int64)


def cuts(window: Sequence[float], box: Sequence[float]) -> bool:
    """Whether a window (left, top, right and bottom of it, width and height of the picture) may cut the thing of a box, or lacks it."""
    left, top, right, bottom, width, height = window
    before = (left > 0 and box[0] < left + EDGE) or (top > 0 and box[1] < top + EDGE)
    return before or (right < width and box[2] > right - EDGE) or (bottom < height and box[3] > bottom - EDGE)


def together(found: Sequence[tuple[dict[str, Any], bool]], limit: float) -> list[dict[str, Any]]:
    """Boxes of overlapping tiles, each with whether a tile may have cut it -> one of each thing, best first.

    Whole ones are believed before cut ones, and a cut one is dropped where half of it lies in a kept one of its label.
    """
    order = sorted(found, key=lambda one: (one[1], -one[0]["score"]))
    boxes = torch.tensor([one["box"] for one, _ in order], dtype=torch.float64).reshape(-1, 4)
    kept: list[int] = []
    for place, (one, cut) in enumerate(order):
        same = [other for other in kept if order[other][0]["label"] == one["label"]]
        if same:
            mine, theirs = boxes[place].expand(len(same), 4), boxes[same]
            shared = area(torch.cat([torch.maximum(mine[:, :2], theirs[:, :2]), torch.minimum(mine[:, 2:], theirs[:, 2:])], dim=1))
            if bool((overlap(mine, theirs)[0] > limit).any()) or (cut and bool((shared > 0.5 * area(mine)).any())):
                continue
        kept.append(place)
    return sorted((order[place][0] for place in kept), key=lambda one: -one["score"])


def paired(found: Sequence[dict[str, Any]], true: Sequence[dict[str, Any]], limit: float = 0.5) -> int:
    """How many of `found`, best first, each take a true box of their label that they overlap by at least `limit`."""
    left = list(true)
    for one in found:
        box = torch.tensor(one["box"])
        ratios = [float(overlap(box, torch.tensor(other["box"]))[0]) * (one["label"] == other["label"]) for other in left]
        if ratios and max(ratios) >= limit:
            left.pop(ratios.index(max(ratios)))
    return len(true) - len(left)


def moved(boxes: torch.Tensor, frame: torch.Tensor) -> torch.Tensor:
    """(k, 4) through an affine map (2, 3): the upright box around the four moved corners."""
    if not len(boxes):
        return boxes.reshape(0, 4)
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    there = corners @ frame[:, :2].T + frame[:, 2]
    return torch.cat([there.amin(1), there.amax(1)], dim=1)


def back(frame: torch.Tensor) -> torch.Tensor:
    """The map that undoes `frame` (2, 3)."""
    turned = torch.linalg.inv(frame[:, :2])
    return torch.cat([turned, -turned @ frame[:, 2:]], dim=1)


def true_place(boxes: torch.Tensor, frame: torch.Tensor, source: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes of the input in pixels of the true picture of that width and height, cut to it: those of some area, and which they are."""
    there = moved(boxes, back(frame)).clamp(min=0)
    there = torch.minimum(there, source.to(there.dtype).repeat(2))
    solid = ((there[:, 2:] - there[:, :2]) > 0).all(1)
    return there[solid], solid
