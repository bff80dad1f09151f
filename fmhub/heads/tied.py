"""The output layer of the ranking head: states against the stem's own item vectors (Press & Wolf 2017, arXiv:1608.05859)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fmhub.task import Features


@dataclass
class Scored:
    """`logits` (places, items) of all places in training, else of each row's last one; minus infinity for what was met by then."""

    logits: torch.Tensor
    items: torch.Tensor
    """(rows, events): the events as they were read."""
    mask: torch.Tensor
    """(rows, events): which of them are real."""


class Tied(nn.Module):
    """state -> W state + b, times every item's vector, plus the item's own bias."""

    items: Callable[[], torch.Tensor]

    def __init__(self, width: int, stem: Any, prior: Sequence[float], dropout: float) -> None:
        super().__init__()
        self.__dict__["items"] = stem.table  # shared, not owned: its parameters are the stem's
        self.turn = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.tensor(prior))
        self.dropout = nn.Dropout(dropout)
        nn.init.eye_(self.turn.weight)
        nn.init.zeros_(self.turn.bias)

    def forward(self, features: Features) -> Scored:
        """`Scored` of all places in training, of the last ones otherwise."""
        assert features.mask is not None
        mask = features.mask
        last = mask.sum(1, keepdim=True) - 1
        places = torch.arange(mask.shape[1], device=mask.device).expand(mask.shape) if self.training else last
        chosen = mask.gather(1, places)
        states = features.x.gather(1, places[..., None].expand(-1, -1, features.x.shape[-1]))[chosen]
        logits = nn.functional.linear(self.dropout(self.turn(states)), self.items(), self.bias)
        logits = logits.masked_fill(met(features.batch, places, len(self.bias))[chosen], -torch.inf)
        return Scored(logits, features.batch["items"], mask)


def met(batch: Mapping[str, torch.Tensor], places: torch.Tensor, count: int) -> torch.Tensor:
    """(rows, places, items) bool: which of `count` items a row had met by each of its places, the place's own among them."""
    items, earlier = batch["items"], batch["earlier"]
    columns = torch.arange(items.shape[1], device=items.device)
    so_far = torch.where(columns <= places[..., None], items[:, None], count)
    before = torch.zeros(len(items), 1, count + 1, dtype=torch.bool, device=items.device).scatter(2, earlier[:, None], True)
    return before.repeat(1, places.shape[1], 1).scatter_(2, so_far, True)[..., :-1]
