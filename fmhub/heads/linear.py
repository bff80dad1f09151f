"""The output layer that classification and regression share."""

from __future__ import annotations

import torch
from torch import nn

from fmhub.task import Features


class Linear(nn.Module):
    """Dropout and one linear layer: (..., width) -> (..., outputs)."""

    def __init__(self, width: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.layer = nn.Linear(width, outputs)
        nn.init.normal_(self.layer.weight, std=0.02)
        nn.init.zeros_(self.layer.bias)

    def forward(self, features: Features) -> torch.Tensor:
        return self.layer(self.dropout(features.x))  # type: ignore[no-any-return]
