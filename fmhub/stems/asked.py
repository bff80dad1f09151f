"""The trained part of the stem of answers: a vector of every question and of every answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from fmhub.backbones.load import Backbone
from fmhub.stems.items import OWN, encoded


class Asked(nn.Module):
    """From numbers of questions and answers to `inputs_embeds` (rows, questions, width)."""

    said: torch.Tensor
    """(questions + answers, width): what the backbone says of their texts."""

    def __init__(self, backbone: Backbone, items: Sequence[str], levels: Sequence[str], dropout: float, *, computed: bool) -> None:
        super().__init__()
        width, texts = backbone.width, [*items, *levels]
        self.count, self.wide = len(items), len(items) + 3
        self.register_buffer("said", encoded(texts, backbone) if computed else torch.zeros(len(texts), width))
        self.turn = nn.Linear(width, width, bias=False)
        self.own = nn.Embedding(len(texts), width)
        self.asked = nn.Parameter(torch.zeros(width))
        self.dropout = nn.Dropout(dropout)
        nn.init.eye_(self.turn.weight)
        nn.init.normal_(self.own.weight, std=OWN)
        nn.init.normal_(self.asked, std=OWN)

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Padding and what is left out are hidden by `attention_mask`."""
        vectors = self.turn(self.said) + self.own.weight
        answers = torch.cat([self.asked[None], vectors[self.count :]])
        tokens = vectors[batch["items"]] + answers[batch["answers"]]
        return {"inputs_embeds": self.dropout(tokens), "attention_mask": batch["attention_mask"]}
