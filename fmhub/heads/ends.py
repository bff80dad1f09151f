"""The module of the span head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fmhub.task import Features


class Ends(nn.Module):
    """Dropout and one linear layer with two outputs a token."""

    def __init__(self, width: int, dropout: float, longest: int) -> None:
        super().__init__()
        self.dropout, self.longest = nn.Dropout(dropout), longest
        self.layer = nn.Linear(width, 2)
        nn.init.normal_(self.layer.weight, std=0.02)
        nn.init.zeros_(self.layer.bias)

    def forward(self, features: Features) -> Found:
        """Tokens that are not the passage's can be no end."""
        scores = self.layer(self.dropout(features.x)).float()
        starts, ends, letters = (features.batch[name] for name in ("starts", "ends", "letters"))
        scores = scores.masked_fill((starts < 0)[..., None], -torch.inf)
        first, last = scores.log_softmax(1).unbind(-1)
        return Found(first, last, starts, ends, letters, self.longest)


@dataclass(frozen=True)
class Found:
    """Log-probabilities of each token (examples, tokens) as first and as last one, and where its characters stand."""

    first: torch.Tensor
    last: torch.Tensor
    starts: torch.Tensor
    ends: torch.Tensor
    letters: torch.Tensor
    longest: int

    def loss(self, span: torch.Tensor, smoothing: float) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Span.loss`; (0, 1) where nothing can be learnt from."""
        begins = (self.starts <= span[:, :1]) & (self.ends > span[:, :1]) & (span[:, :1] >= 0)
        finishes = (self.starts < span[:, 1:]) & (self.ends >= span[:, 1:]) & (self.starts >= 0)
        able = begins.any(1) & finishes.any(1)
        if not bool(able.any()):
            return self.first.where(self.first.isfinite(), 0).sum() * 0, torch.ones((), device=span.device)
        lost = torch.zeros((), device=span.device)
        for said, true in ((self.first, begins), (self.last, finishes)):
            place = true[able].long().argmax(1)
            told = said[able]
            alike = told.where(self.starts[able] >= 0, 0).sum(1) / (self.starts[able] >= 0).sum(1)
            lost = lost - (1 - smoothing) * told.gather(1, place[:, None]).sum() - smoothing * alike.sum()
        return lost / 2, able.sum().to(lost.dtype)

    @torch.no_grad()
    def best(self) -> dict[str, list[Any]]:
        """See `Span.decode`: the likeliest pair of ends in their order, at most `longest` tokens apart."""
        tokens = self.first.shape[1]
        order = torch.arange(tokens, device=self.first.device)
        apart = order[None] - order[:, None]
        pairs = self.first[:, :, None] + self.last[:, None, :]
        pairs = pairs.masked_fill((apart < 0) | (apart >= self.longest), -torch.inf).flatten(1)
        value, place = pairs.max(1)
        texts = []
        for row, (begin, end) in enumerate(zip((place // tokens).tolist(), (place % tokens).tolist(), strict=True)):
            some = self.letters[row, int(self.starts[row, begin]) : int(self.ends[row, end])].tolist()
            texts.append("".join(map(chr, some)))
        return {"prediction": texts, "confidence": value.exp().tolist()}
