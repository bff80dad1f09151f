"""The module of the choice head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fmhub.task import Features

SAME = 1 - 1e-5
"""Cosine from which two answers of a batch are one text."""


class Cosine(nn.Module):
    """One number: the log of what a cosine is multiplied by."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([scale]))

    def forward(self, features: Features) -> Alike:
        """(texts, width) -> cosines of every question with every answer of the batch."""
        vectors = nn.functional.normalize(features.x.float(), dim=-1)
        batch = features.batch
        asked = batch["place"] < 0
        answers, owner = vectors[~asked], batch["owner"][~asked]
        return Alike(vectors[asked] @ answers.T, self.scale.exp(), answers, owner, batch["place"][~asked], batch["letters"][~asked])


@dataclass(frozen=True)
class Alike:
    """`cosines` (questions, answers of the batch), and of each answer its vector, the question it is offered to and its number there."""

    cosines: torch.Tensor
    scale: torch.Tensor
    answers: torch.Tensor
    owner: torch.Tensor
    place: torch.Tensor
    letters: torch.Tensor

    def loss(self, place: torch.Tensor, smoothing: float) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Choice.loss`."""
        right = (self.place == place[self.owner]).nonzero().flatten()  # one a question, in their order
        with torch.no_grad():
            same = self.answers[right] @ self.answers.T >= SAME
            same[torch.arange(len(right), device=right.device), right] = False
        logits = (self.cosines * self.scale).masked_fill(same, -torch.inf)
        if smoothing:
            logits = logits.clamp(min=-1e4)
        lost = nn.functional.cross_entropy(logits, right, reduction="sum", label_smoothing=smoothing)
        return lost, torch.tensor(float(len(right)), device=lost.device)

    def ranked(self) -> dict[str, list[Any]]:
        """See `Choice.decode`."""
        columns: dict[str, list[Any]] = {"prediction": [], "similarity": [], "readable": []}
        for question, cosines in enumerate(self.cosines):
            own = (self.owner == question).nonzero().flatten()
            order = own[cosines[own].argsort(descending=True, stable=True)]
            columns["prediction"].append([str(number) for number in self.place[order].tolist()])
            columns["similarity"].append(cosines[order].tolist())
            columns["readable"].append(["".join(chr(letter) for letter in text if letter) for text in self.letters[order].tolist()])
        return columns
