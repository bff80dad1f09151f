"""The trainable part of the set-prediction head: questions that attend to patches, matched one to one with true boxes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from fmhub.heads.boxes import covered, moved, overlap, true_place
from fmhub.heads.grid import focal, placed
from fmhub.task import Features

COSTS = (1.0, 5.0, 2.0)
"""Of a label, of a box's distance in shares of the picture, and of a lack of overlap, as DETR weighs them."""


class Queries(nn.Module):
    """Norm and mix the layers' patch tokens, let `queries` learnt questions attend to them, read a kind and a box from each."""

    def __init__(self, width: int, layers: int, labels: int, hidden: int, queries: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.mix = nn.Linear(width * layers, hidden)
        side = int(queries**0.5)
        axis = (torch.arange(side) + 0.5) / side
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(-1, 2)
        self.anchors = nn.Parameter(torch.cat([grid, torch.rand(queries - side * side, 2)]).logit())
        self.ask = nn.Parameter(0.02 * torch.randn(queries, hidden))
        self.place = nn.Linear(4 * OCTAVES, hidden)
        layer = nn.TransformerDecoderLayer(hidden, 4, 4 * hidden, dropout, "gelu", batch_first=True, norm_first=True)
        self.decoder = nn.TransformerDecoder(layer, depth, nn.LayerNorm(hidden))
        self.kinds = nn.Linear(hidden, labels)
        self.sides = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, 4))
        nn.init.constant_(self.kinds.bias, -4.6)

    def forward(self, features: Features) -> dict[str, torch.Tensor]:
        """`kinds` (examples, queries, labels) logits, `boxes` (examples, queries, 4) in pixels of the input, whose side is `size`;
        and the batch's `frame` and `source`, and `windows` where it has them."""
        states = features.x if isinstance(features.x, tuple) else (features.x,)
        side = int(states[0].shape[1] ** 0.5)
        tokens = [norm(state[:, -side * side :]) for norm, state in zip(self.norms, states, strict=True)]
        axis = (torch.arange(side, device=tokens[0].device) + 0.5) / side
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(-1, 2)
        memory = self.mix(torch.cat(tokens, dim=-1)) + self.place(waves(grid))
        asked = self.ask + self.place(waves(self.anchors.sigmoid()))
        answers = self.decoder(asked.expand(len(memory), -1, -1), memory)
        sides = self.sides(answers).float()
        size = features.batch["pixel_values"].shape[-1]
        middle, half = size * (self.anchors + sides[..., :2]).sigmoid(), size * (sides[..., 2:] - 2).sigmoid() / 2
        return {
            "kinds": self.kinds(answers).float(), "boxes": torch.cat([middle - half, middle + half], dim=-1), "size": torch.tensor(size),
            **placed(features),
        }  # fmt: skip


OCTAVES = 5


def waves(points: torch.Tensor) -> torch.Tensor:
    """(k, 2) in 0 to 1 -> (k, 4 * OCTAVES): sines and cosines of x and y, each an octave above the one before."""
    angles = points[..., None] * (torch.pi * 2.0 ** torch.arange(OCTAVES, device=points.device))
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)


def match(outputs: dict[str, torch.Tensor], row: int, boxes: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
    """(true boxes,) the query that each gets: the cheapest one-to-one assignment (Kuhn 1955, by scipy)."""
    from scipy.optimize import linear_sum_assignment

    with torch.no_grad():
        said, found = outputs["kinds"][row].sigmoid(), outputs["boxes"][row]
        label, distance, lack = COSTS
        cost = -label * said[:, kinds] + distance * torch.cdist(found, boxes, p=1) / float(outputs["size"])
        cost = cost + lack * (1 - overlap(found[:, None], boxes[None])[1])
        queries, truths = linear_sum_assignment(cost.cpu().numpy())
    chosen = torch.empty(len(boxes), dtype=torch.int64)
    chosen[torch.from_numpy(truths)] = torch.from_numpy(queries)
    return chosen.to(boxes.device)


def losses(outputs: dict[str, torch.Tensor], boxes: list[Any], kinds: list[Any], most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(sum of losses, number of true boxes, at least one an example); of more boxes than queries the largest are learnt.

    A query without a box that answers from a crowd (`kinds` -1) learns nothing.
    """
    device = outputs["boxes"].device
    truth, total, count = torch.zeros_like(outputs["kinds"]), torch.zeros((), device=device), 0
    unknown = torch.zeros(truth.shape[:2], dtype=torch.bool, device=device)
    for row, (given, labels) in enumerate(zip(boxes, kinds, strict=True)):
        true = moved(torch.as_tensor(given, device=device), outputs["frame"][row])
        middle = (true[:, :2] + true[:, 2:]) / 2
        inside = ((middle >= 0) & (middle < float(outputs["size"]))).all(1).nonzero()[:, 0]  # augmentation may put a box outside
        said = torch.as_tensor(labels, device=device)
        unknown[row] = covered(outputs["boxes"][row].detach(), true[said < 0])
        inside = inside[said[inside] >= 0]
        order = inside[(true[inside, 2:] - true[inside, :2]).prod(-1).argsort(descending=True)][:most]
        true, label = true[order], said[order]
        count += max(1, len(true))
        if not len(true):
            continue
        chosen = match(outputs, row, true, label)
        truth[row, chosen, label] = 1
        unknown[row, chosen] = False
        found = outputs["boxes"][row, chosen]
        total = total + COSTS[1] * (found - true).abs().sum() / float(outputs["size"]) + COSTS[2] * (1 - overlap(found, true)[1]).sum()
    return total + focal(outputs["kinds"], truth)[~unknown].sum(), torch.tensor(float(count), device=device)


def found(outputs: dict[str, torch.Tensor], row: int, least: float, most: int) -> list[tuple[list[float], int, float]]:
    """(box in pixels of the true picture, label, score) of one example, best first."""
    scores = outputs["kinds"][row].sigmoid()
    query, kind = (scores > least).nonzero(as_tuple=True)
    score = scores[query, kind]
    order = torch.argsort(score, descending=True, stable=True)[:most]
    boxes, solid = true_place(outputs["boxes"][row][query[order]], outputs["frame"][row], outputs["source"][row])
    return list(zip(boxes.tolist(), kind[order][solid].tolist(), score[order][solid].tolist(), strict=True))
