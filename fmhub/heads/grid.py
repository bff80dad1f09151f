"""The trainable grid of the detection head, what its cells should say, and what they say."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from fmhub.heads.boxes import moved, overlap, suppressed, true_place
from fmhub.task import Features


class Grid(nn.Module):
    """Norm and mix the layers' patch tokens, lay them out, make the grid finer, and read kinds, sides and centredness."""

    def __init__(self, width: int, layers: int, labels: int, hidden: int, finer: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.mix = nn.Linear(width * layers, hidden)
        self.dropout = nn.Dropout(dropout)
        self.finer = nn.ConvTranspose2d(hidden, hidden, finer, stride=finer) if finer > 1 else nn.Identity()
        block = [nn.Conv2d(hidden, hidden, 3, padding=1), nn.GroupNorm(8, hidden), nn.GELU()]
        self.tower = nn.Sequential(nn.GroupNorm(8, hidden), nn.GELU(), *block)
        self.kinds = nn.Conv2d(hidden, labels, 3, padding=1)
        self.sides = nn.Conv2d(hidden, 5, 3, padding=1)
        nn.init.constant_(self.kinds.bias, -4.6)  # type: ignore[arg-type] # at first one cell in a hundred is an object

    def forward(self, features: Features) -> dict[str, torch.Tensor]:
        """`kinds` (examples, cells, labels) and `centred` (examples, cells) logits; `boxes` (examples, cells, 4) and `cells` (cells, 2)
        in pixels of the input; `stride` in pixels; and the batch's `frame` and `source`."""
        states = features.x if isinstance(features.x, tuple) else (features.x,)
        side = int(states[0].shape[1] ** 0.5)  # what is not a square of patches comes before them: class and register tokens
        tokens = [norm(state[:, -side * side :]) for norm, state in zip(self.norms, states, strict=True)]
        mixed = self.dropout(self.mix(torch.cat(tokens, dim=-1)))
        maps = self.tower(self.finer(mixed.transpose(1, 2).unflatten(2, (side, side))))
        stride = features.batch["pixel_values"].shape[-1] / maps.shape[-1]
        axis = (torch.arange(maps.shape[-1], device=maps.device) + 0.5) * stride
        cells = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(-1, 2)
        kinds, sides = (layer(maps).float().flatten(2).transpose(1, 2) for layer in (self.kinds, self.sides))
        reach = sides[..., :4].clamp(-6, 6).exp() * stride
        boxes = torch.cat([cells - reach[..., :2], cells + reach[..., 2:]], dim=-1)
        return {
            "kinds": kinds, "centred": sides[..., 4], "boxes": boxes, "cells": cells, "stride": torch.tensor(stride),
            "frame": features.batch["frame"], "source": features.batch["source"],
        }  # fmt: skip


def assign(outputs: dict[str, torch.Tensor], row: int, boxes: Any, kinds: Any, centre: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(cells,) the label that each cell should say, -1 for none, and (cells, 4) its box in pixels of the input.

    A cell takes the smallest box that holds it near its centre; a box that no cell is near to gets the nearest one.
    """
    cells, reach = outputs["cells"], centre * float(outputs["stride"])
    label = torch.full((len(cells),), -1, dtype=torch.int64, device=cells.device)
    target = torch.zeros(len(cells), 4, device=cells.device)
    true = moved(torch.as_tensor(boxes, device=cells.device), outputs["frame"][row])
    size = float(cells.max()) + float(outputs["stride"]) / 2
    middle = (true[:, :2] + true[:, 2:]) / 2
    order = torch.argsort((true[:, 2:] - true[:, :2]).prod(-1), descending=True, stable=True)  # the smallest comes last and stays
    for place in order.tolist():
        if not bool(((middle[place] >= 0) & (middle[place] < size)).all()):
            continue  # augmentation put it outside
        offset = (cells - middle[place]).abs()
        inside = (cells > true[place, :2]).all(1) & (cells < true[place, 2:]).all(1) & (offset < reach).all(1)
        inside[offset.sum(1).argmin()] = True
        label[inside], target[inside] = int(kinds[place]), true[place]
    return label, target


def losses(outputs: dict[str, torch.Tensor], assigned: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    """(sum of losses, number of cells with a box, at least one an example)."""
    label, target = (torch.stack(part) for part in zip(*assigned, strict=True))
    there = label >= 0
    truth = functional.one_hot(label.clamp(min=0), outputs["kinds"].shape[-1]) * there[..., None]
    loss = focal(outputs["kinds"], truth.float()).sum()
    boxes, wanted = outputs["boxes"][there], target[there]
    cells = outputs["cells"].expand(*label.shape, 2)[there]
    loss = loss + (1 - overlap(boxes, wanted)[1]).sum()
    loss = loss + functional.binary_cross_entropy_with_logits(outputs["centred"][there], centredness(cells, wanted), reduction="sum")
    return loss, there.sum(1).clamp(min=1).sum().float()


def focal(logits: torch.Tensor, truth: torch.Tensor, alpha: float = 0.25, gamma: float = 2.0) -> torch.Tensor:
    """Cross-entropy, weighed down where it is small already; the objects weigh `alpha`, the ground 1 - alpha."""
    chance = logits.sigmoid()
    wrong = chance + truth - 2 * chance * truth
    weight = alpha * truth + (1 - alpha) * (1 - truth)
    return weight * wrong**gamma * functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")


def centredness(cells: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """(k, 2) and (k, 4) -> (k,): 1 in the middle of a box, 0 at its edge and outside."""
    before, after = cells - boxes[:, :2], boxes[:, 2:] - cells
    ratio = torch.minimum(before, after).clamp(min=0) / torch.maximum(before, after).clamp(min=1e-6)
    return ratio.prod(-1).sqrt()


def found(outputs: dict[str, torch.Tensor], row: int, least: float, limit: float, most: int) -> list[tuple[list[float], int, float]]:
    """(box in pixels of the true picture, label, score) of one example, best first, one of each group that overlaps."""
    scores = (outputs["kinds"][row].sigmoid() * outputs["centred"][row].sigmoid()[:, None]).sqrt()
    cell, kind = (scores > least).nonzero(as_tuple=True)
    score = scores[cell, kind]
    order = torch.argsort(score, descending=True, stable=True)[: 4 * most]
    cell, kind, score = cell[order], kind[order], score[order]
    # boxes of different labels are moved apart, so that one pass serves all
    apart = outputs["boxes"][row][cell] + (kind * 1e4)[:, None]
    kept = suppressed(apart, limit)[:most].to(cell.device)
    boxes, solid = true_place(outputs["boxes"][row][cell[kept]], outputs["frame"][row], outputs["source"][row])
    return list(zip(boxes.tolist(), kind[kept][solid].tolist(), score[kept][solid].tolist(), strict=True))
