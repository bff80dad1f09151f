"""The output layer that classification and regression share."""

from __future__ import annotations

import torch
from torch import nn

from fmhub.task import Features

GAIN = 3.0
"""Of the numbers that go past the backbone: with it a step moves them farther than the many inputs of the other layer."""


class Linear(nn.Module):
    """Dropout and one linear layer: (..., width) -> (..., outputs).

    A stem whose module has `wide` puts so many plain numbers an example into its batch, under that name: a second linear
    layer, which starts at 0, reads them past the backbone (Cheng et al. 2016, arXiv:1606.07792).
    """

    def __init__(self, width: int, outputs: int, dropout: float, stem: nn.Module | None = None) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.layer = nn.Linear(width, outputs)
        nn.init.normal_(self.layer.weight, std=0.02)
        nn.init.zeros_(self.layer.bias)
        wide = getattr(stem, "wide", 0)
        self.wide = nn.Linear(wide, outputs, bias=False) if wide else None
        if self.wide is not None:
            nn.init.zeros_(self.wide.weight)

    def forward(self, features: Features) -> torch.Tensor:
        deep: torch.Tensor = self.layer(self.dropout(features.x))
        return deep if self.wide is None else deep + self.wide(GAIN * features.batch["wide"])
