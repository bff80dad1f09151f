"""The training texts that are most like a text: cosine of hashed words and pairs of words, rare ones counting more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from fmhub.backbones.load import Backbone

BUCKETS = 1 << 16
ALIKE = 0.95
"""In training, texts as near as this are not named: held-out ones have none, and an example's own answer would be one."""


class Recall(nn.Module):
    """Gives a batch as it is; `keys` (texts, tokens) are the remembered texts, 0 beyond their ends."""

    keys: torch.Tensor
    index: tuple[torch.Tensor, torch.Tensor] | None
    """Made of `keys` when it is first asked for: a restored module has them by then."""

    def __init__(self, texts: int, tokens: int, backbone: Backbone) -> None:
        super().__init__()
        self.register_buffer("keys", torch.zeros(texts, tokens, dtype=torch.int32))
        self.__dict__["index"] = None

    def fill(self, ids: np.ndarray, offsets: np.ndarray) -> None:
        """Remember texts given as one flat array; each one's first and last token are the tokenizer's own and left out."""
        for row in range(len(self.keys)):
            own = ids[offsets[row] + 1 : offsets[row + 1] - 1][: self.keys.shape[1]]
            self.keys[row, : len(own)] = torch.from_numpy(own.astype(np.int32))

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return batch

    @torch.no_grad()
    def nearest(self, batch: dict[str, torch.Tensor], count: int, barred: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """(rows, count) numbers of training texts, most alike first, and how alike they are, 0 to 1; of those that are
        `barred` (rows, texts) none is alike."""
        index = self.index
        if index is None or index[0].device != self.keys.device:
            index = self.__dict__["index"] = self._indexed()
        known, rarity = index
        ids = batch["input_ids"] * batch["attention_mask"]
        inner = ids.scatter(1, batch["attention_mask"].sum(1, keepdim=True) - 1, 0)[:, 1:]
        places, real = _buckets(inner)
        asked = torch.zeros(len(ids), BUCKETS, device=ids.device).scatter_add_(1, places, real * rarity[places])
        alike = torch.sparse.mm(known, nn.functional.normalize(asked, dim=1).T).T
        if self.training:
            alike = alike.masked_fill(alike > ALIKE, -1)
        if barred is not None:
            alike = alike.masked_fill(barred, -1)
        found = alike.topk(min(count, len(self.keys)), dim=1)
        return found.indices, found.values.clamp(min=0)

    def _indexed(self) -> tuple[torch.Tensor, torch.Tensor]:
        """((texts, buckets) sparse, rows of length 1; (buckets,) log of one over the share of texts that have it)."""
        places, real = _buckets(self.keys.long())
        rows = torch.arange(len(self.keys), device=places.device)[:, None].expand_as(places)
        shape = (len(self.keys), BUCKETS)
        counts = torch.sparse_coo_tensor(
            torch.stack([rows[real], places[real]]), torch.ones(int(real.sum())), shape, check_invariants=False
        ).coalesce()
        text, bucket = counts.indices()
        rarity = torch.log((1 + len(self.keys)) / (1 + torch.bincount(bucket, minlength=BUCKETS)))
        weights = counts.values() * rarity[bucket]
        norms = torch.zeros(len(self.keys), device=places.device).scatter_add_(0, text, weights.square()).sqrt().clamp(min=1e-9)
        return torch.sparse_coo_tensor(counts.indices(), weights / norms[text], shape, check_invariants=False).coalesce(), rarity


def _buckets(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where each token and each pair of neighbours of (texts, tokens) is counted, and which are real."""
    pairs = ids[:, :-1] * 1_000_003 + ids[:, 1:]
    places = torch.cat([ids * 7919, pairs * 104_729], dim=1) % BUCKETS
    return places, torch.cat([ids > 0, ids[:, 1:] > 0], dim=1)
