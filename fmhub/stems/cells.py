"""The trained part of the table stem: a vector of every cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from fmhub.backbones.load import Backbone
from fmhub.stems.columns import FEATURES
from fmhub.stems.items import OWN, encoded

if TYPE_CHECKING:
    from fmhub.stems.table import Table


class Beside(nn.Module):
    """Passes a batch on; `wide` tells the head how many plain numbers stand in the batch beside it."""

    def __init__(self, wide: int) -> None:
        super().__init__()
        self.wide = wide

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: tensor for name, tensor in batch.items() if name != "wide"}


class Cells(nn.Module):
    """From `wide`, `levels` and `hidden` to `inputs_embeds` (rows, columns, width): first the numbers, then the categories."""

    said: torch.Tensor
    """(columns + values, width): what the backbone says of each column's name, then of each category's values, `name: value`."""
    starts: torch.Tensor
    """(categories,): where each one's values begin in `said`."""

    def __init__(self, spec: Table, backbone: Backbone, dropout: float, *, computed: bool) -> None:
        super().__init__()
        texts = [name for name, *_ in spec.numbers] + [name for name, _ in spec.categories]
        starts = []
        for name, known in spec.categories:
            starts.append(len(texts))
            texts += [name, name, *(f"{name}: {value}" for value in known)]  # missing and unseen values have the name alone
        self.numbers, self.wide = len(spec.numbers), len(spec.centre)
        self.register_buffer("said", encoded(texts, backbone) if computed else torch.zeros(len(texts), backbone.width))
        self.register_buffer("starts", torch.tensor(starts, dtype=torch.int64), persistent=False)
        self.turn = nn.Linear(backbone.width, backbone.width, bias=False)
        self.own = nn.Embedding(len(texts), backbone.width)
        self.value = nn.Parameter(torch.empty(self.numbers, FEATURES, backbone.width))
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.turn.weight)
        nn.init.normal_(self.own.weight, std=OWN)
        nn.init.normal_(self.value, std=OWN)

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A hidden cell has its column's name alone."""
        vectors = self.said + self.turn(self.said) + self.own.weight
        count = self.numbers + len(self.starts)
        told = ~batch["hidden"][..., None]
        coded = batch["wide"][:, : self.numbers * FEATURES].view(-1, self.numbers, FEATURES)
        amounts = vectors[: self.numbers] + torch.einsum("rnf,nfw->rnw", coded, self.value) * told[:, : self.numbers]
        named = vectors[self.numbers : count]
        levels = torch.where(told[:, self.numbers :], vectors[batch["levels"] + self.starts], named)
        tokens = self.dropout(torch.cat([amounts, levels], dim=1))
        return {"inputs_embeds": tokens, "attention_mask": torch.ones(tokens.shape[:2], dtype=torch.int64, device=tokens.device)}
