"""The trained part of the series stem: a vector of every patch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn


class Patches(nn.Module):
    """From `patches` (rows, patches, numbers) to `inputs_embeds` (rows, patches, width); `wide` tells the head of the plain numbers."""

    def __init__(self, numbers: int, wide: int, width: int, dropout: float) -> None:
        super().__init__()
        self.wide = wide
        self.layer = nn.Linear(numbers, width)
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.layer.weight, std=0.02)
        nn.init.zeros_(self.layer.bias)

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        tokens = self.dropout(self.layer(batch["patches"]))
        return {"inputs_embeds": tokens, "attention_mask": torch.ones(tokens.shape[:2], dtype=torch.int64, device=tokens.device)}
