"""The output layer of the ranking head: states against the stem's own item vectors (Press & Wolf 2017, arXiv:1608.05859)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fmhub.task import Features


@dataclass
class Scored:
    """`logits` (places, items) with the `mask` (rows, events) of the places; when not training, of each row's last place only."""

    logits: torch.Tensor
    mask: torch.Tensor
    met: torch.Tensor


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
        if self.training:
            states = features.x[mask]
        else:
            states = features.x[torch.arange(len(mask), device=mask.device), mask.sum(1) - 1]
        logits = nn.functional.linear(self.dropout(self.turn(states)), self.items()[:-1], self.bias)
        return Scored(logits, mask, features.batch["met"])
