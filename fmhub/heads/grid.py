"""The trainable grid of the detection head, what its cells should say, and what they say."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from fmhub.heads.boxes import moved, overlap, suppressed, true_place
from fmhub.task import Features


class Grid(nn.Module):
    """Norm and mix the layers' patch tokens, lay them out, make the grid finer, add what each cell's own pixels say (tokens know what
    a thing is, pixels where exactly it ends), let cells look around themselves, and read kinds and sides."""

    def __init__(self, width: int, layers: int, labels: int, hidden: int, finer: int, depth: int, patch: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.mix = nn.Linear(width * layers, hidden)
        self.dropout = nn.Dropout(dropout)
        self.finer = nn.Sequential(nn.Linear(hidden, hidden * finer * finer), Laid(), nn.PixelShuffle(finer))
        self.pixels = round(patch / finer)
        first = nn.Conv2d(3, hidden // 2, self.pixels, stride=self.pixels)
        self.sharp = nn.Sequential(first, nn.GELU(), Each(nn.Linear(hidden // 2, hidden)))
        self.tower = nn.Sequential(*(Around(hidden) for _ in range(depth)), nn.GroupNorm(8, hidden))
        self.read = nn.Conv2d(hidden, labels + 4, 3, padding=1)
        with torch.no_grad():
            self.read.bias[4:].fill_(-4.6)  # type: ignore[index] # at first one cell in a hundred is an object

    def forward(self, features: Features) -> dict[str, torch.Tensor]:
        """`kinds` (examples, cells, labels) logits; `boxes` (examples, cells, 4) and `cells` (cells, 2) in pixels of the input;
        `stride` in pixels; and the batch's `frame` and `source`, and `windows` where it has them."""
        states = features.x if isinstance(features.x, tuple) else (features.x,)
        side = int(states[0].shape[1] ** 0.5)  # what is not a square of patches comes before them: class and register tokens
        tokens = [norm(state[:, -side * side :]) for norm, state in zip(self.norms, states, strict=True)]
        mixed = self.dropout(self.mix(torch.cat(tokens, dim=-1)))
        laid, picture = self.finer(mixed), features.batch["pixel_values"]
        stride = picture.shape[-1] / laid.shape[-1]
        if stride != self.pixels:
            picture = functional.interpolate(picture, size=laid.shape[-1] * self.pixels, mode="bilinear", antialias=True)
        maps = self.tower(laid + self.sharp(picture))
        axis = (torch.arange(maps.shape[-1], device=maps.device) + 0.5) * stride
        cells = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(-1, 2)
        said = self.read(maps).float().flatten(2).transpose(1, 2)
        sides, kinds = said[..., :4], said[..., 4:]
        reach = sides.clamp(-6, 6).exp() * stride
        boxes = torch.cat([cells - reach[..., :2], cells + reach[..., 2:]], dim=-1)
        return {"kinds": kinds, "boxes": boxes, "cells": cells, "stride": torch.tensor(stride), **placed(features)}


def placed(features: Features) -> dict[str, torch.Tensor]:
    """What a batch says of where its pictures are."""
    return {name: features.batch[name] for name in ("frame", "source", "windows") if name in features.batch}


class Laid(nn.Module):
    """(examples, patches, width), the patches of a square row by row -> (examples, width, side, side)."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        side = int(tokens.shape[1] ** 0.5)
        return tokens.transpose(1, 2).reshape(len(tokens), -1, side, side)


class Each(nn.Sequential):
    """Layers for the channels of each cell by itself: (examples, width, side, side), as matrix products."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        found = maps.permute(0, 2, 3, 1)
        for layer in self:
            found = layer(found)
        return found.permute(0, 3, 1, 2)


class Around(nn.Module):
    """Three cells to each side, channel by channel, then channels among themselves (ConvNeXt, Liu et al. 2022, arXiv:2201.03545): the
    middle of a thing has to see its edges."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.look, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.GroupNorm(8, width)
        self.mix = Each(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(examples, width, side, side) -> the same."""
        mixed: torch.Tensor = maps + self.mix(self.norm(self.look(maps)))
        return mixed


def assign(outputs: dict[str, torch.Tensor], row: int, boxes: Any, kinds: Any, centre: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(cells,) the label that each cell should say, -1 for none, -2 where nothing is known, and (cells, 4) its box in pixels of the
    input.

    A cell takes the smallest box that holds it near its centre; a box that no cell is near to gets the nearest one. Of a cell in a
    crowd (`kinds` -1) that has no box nothing is known.
    """
    cells, reach = outputs["cells"], centre * float(outputs["stride"])
    label = torch.full((len(cells),), -1, dtype=torch.int64, device=cells.device)
    target = torch.zeros(len(cells), 4, device=cells.device)
    true = moved(torch.as_tensor(boxes, device=cells.device), outputs["frame"][row])
    size = float(cells.max()) + float(outputs["stride"]) / 2
    middle = (true[:, :2] + true[:, 2:]) / 2
    crowd = torch.as_tensor(kinds, device=cells.device) < 0
    held = (cells[:, None] > true[crowd, :2]).all(-1) & (cells[:, None] < true[crowd, 2:]).all(-1)
    label[held.any(1)] = -2
    order = torch.argsort((true[:, 2:] - true[:, :2]).prod(-1), descending=True, stable=True)  # the smallest comes last and stays
    for place in order.tolist():
        if bool(crowd[place]) or not bool(((middle[place] >= 0) & (middle[place] < size)).all()):
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
    ratio, general = overlap(outputs["boxes"][there], target[there])
    truth = torch.zeros_like(outputs["kinds"])
    truth[there] = functional.one_hot(label[there], truth.shape[-1]) * ratio.detach()[:, None]
    return quality(outputs["kinds"], truth)[label > -2].sum() + (1 - general).sum(), there.sum(1).clamp(min=1).sum().float()


def quality(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Cross-entropy with a truth between 0 and 1, how well the cell's box fits; weighed down where it is nearly right already."""
    return (truth - logits.sigmoid()) ** 2 * functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")


def focal(logits: torch.Tensor, truth: torch.Tensor, alpha: float = 0.25, gamma: float = 2.0) -> torch.Tensor:
    """Cross-entropy, weighed down where it is small already; the objects weigh `alpha`, the ground 1 - alpha."""
    chance = logits.sigmoid()
    wrong = chance + truth - 2 * chance * truth
    weight = alpha * truth + (1 - alpha) * (1 - truth)
    return weight * wrong**gamma * functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")


def found(outputs: dict[str, torch.Tensor], row: int, least: float, limit: float, most: int) -> list[tuple[list[float], int, float]]:
    """(box in pixels of the true picture, label, score) of one example, best first, one of each group that overlaps."""
    scores = outputs["kinds"][row].sigmoid()
    cell, kind = (scores > least).nonzero(as_tuple=True)
    score = scores[cell, kind]
    order = torch.argsort(score, descending=True, stable=True)[: 4 * most]
    cell, kind, score = cell[order], kind[order], score[order]
    # boxes of different labels are moved apart, so that one pass serves all
    apart = outputs["boxes"][row][cell] + (kind * 1e4)[:, None]
    kept = suppressed(apart, limit)[:most].to(cell.device)
    boxes, solid = true_place(outputs["boxes"][row][cell[kept]], outputs["frame"][row], outputs["source"][row])
    return list(zip(boxes.tolist(), kind[kept][solid].tolist(), score[kept][solid].tolist(), strict=True))
