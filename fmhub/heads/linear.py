"""The output layer that classification and regression share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from fmhub.task import Features

if TYPE_CHECKING:
    import numpy as np


class Linear(nn.Module):
    """Dropout and one linear layer: (..., width) -> (..., outputs).

    With `pooler`, a dense layer with tanh comes before it (Devlin et al. 2019, arXiv:1810.04805): a single token learns to stand
    for all of them.

    A stem whose module has `wide` puts so many plain numbers an example into its batch, under that name: a second linear
    layer reads them past the backbone (Cheng et al. 2016, arXiv:1606.07792). Then the first one starts at 0, and training at the
    linear model that `begin` is given (Schelldorfer & Wüthrich 2019, doi:10.2139/ssrn.3320525).
    """

    def __init__(self, width: int, outputs: int, dropout: float, stem: nn.Module | None = None, *, pooler: bool = False) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.layer = nn.Linear(width, outputs)
        wide = getattr(stem, "wide", 0)
        self.wide = nn.Linear(wide, outputs, bias=False) if wide else None
        nn.init.normal_(self.layer.weight, std=0.0 if wide else 0.02)
        nn.init.zeros_(self.layer.bias)
        if self.wide is not None:
            nn.init.zeros_(self.wide.weight)
        self.pooler = nn.Linear(width, width) if pooler else None
        if self.pooler is not None:
            nn.init.normal_(self.pooler.weight, std=0.02)
            nn.init.zeros_(self.pooler.bias)

    def begin(self, weight: np.ndarray, bias: np.ndarray) -> None:
        """Start at a linear model of the plain numbers: `weight` (outputs, numbers) and `bias` (outputs,)."""
        assert self.wide is not None
        with torch.no_grad():
            self.wide.weight.copy_(torch.from_numpy(weight))
            self.layer.bias.copy_(torch.from_numpy(bias))

    def forward(self, features: Features) -> torch.Tensor:
        x = features.x if self.pooler is None else torch.tanh(self.pooler(features.x))
        deep: torch.Tensor = self.layer(self.dropout(x))
        return deep if self.wide is None else deep + self.wide(features.batch["wide"])
