"""The trained part of the sequence stem: vectors of items and of gaps."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from fmhub import cache
from fmhub.backbones.load import Backbone
from fmhub.errors import UntrustedFile
from fmhub.home import atomic
from fmhub.stems.sequence import BUCKETS

OWN = 0.02
"""Deviation of an item's own vector at the start; about that of a word's in a BERT."""


class Items(nn.Module):
    """From numbers of items and gaps to `inputs_embeds` with a causal mask of pairs."""

    content: torch.Tensor
    """(items, width): what the backbone says of each item's text."""

    def __init__(self, backbone: Backbone, count: int, texts: Sequence[str] | None, dropout: float) -> None:
        super().__init__()
        width = backbone.width
        self.register_buffer("content", torch.zeros(count, width) if texts is None else encoded(texts, backbone))
        self.turn = nn.Linear(width, width, bias=False)
        self.own = nn.Embedding(count, width)
        self.gap, self.wait = nn.Embedding(BUCKETS, width), nn.Embedding(BUCKETS, width)
        self.dropout = nn.Dropout(dropout)
        nn.init.eye_(self.turn.weight)
        nn.init.normal_(self.own.weight, std=OWN)
        nn.init.zeros_(self.gap.weight)
        nn.init.zeros_(self.wait.weight)

    def table(self) -> torch.Tensor:
        """(items, width): every item's vector."""
        return self.turn(self.content) + self.own.weight  # type: ignore[no-any-return]

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """`inputs_embeds` (rows, events, width), `attention_mask` (rows, 1, events, events): each sees those before it, and `real`."""
        real = batch["attention_mask"]
        items = batch["items"]
        vectors = self.turn(self.content[items]) + self.own(items)
        if "hidden" in batch:
            vectors = vectors.masked_fill(batch["hidden"].bool()[..., None], 0)
        vectors = vectors + self.gap(batch["gaps"]) + self.wait(batch["waits"])
        causal = torch.ones(real.shape[1], real.shape[1], dtype=torch.bool, device=real.device).tril()
        own = torch.eye(real.shape[1], dtype=torch.bool, device=real.device)  # padding sees itself, so that no row is empty
        pairs = (causal & real[:, None, :]) | own
        return {"inputs_embeds": self.dropout(vectors), "attention_mask": pairs[:, None], "real": real}


@torch.no_grad()
def encoded(texts: Sequence[str], backbone: Backbone) -> torch.Tensor:
    """(texts, width) float32 of length 1: the mean over the tokens of what the backbone says; kept in the cache by content and weights."""
    from safetensors import SafetensorError
    from safetensors.torch import load, save

    digest = hashlib.sha256("\0".join(texts).encode())
    for name, tensor in backbone.structure.core.state_dict().items():
        if "lora_" not in name:
            digest.update(tensor.numpy().tobytes())
    path = cache.root("items") / f"{digest.hexdigest()[:32]}.safetensors"
    try:
        kept = load(path.read_bytes())["content"]
        if kept.shape == (len(texts), backbone.width) and bool(torch.isfinite(kept).all()):
            os.utime(path)
            return kept
    except (OSError, SafetensorError, KeyError):
        pass
    found = _encode(texts, backbone)
    if not bool(torch.isfinite(found).all()):
        raise UntrustedFile(f"Backbone {backbone.name!r} gives no finite vectors of texts.")
    data = save({"content": found})
    if len(data) <= cache.limit():
        with atomic(path) as file:
            file.write(data)
        cache.make_room(path, lambda line: None)
    return found


def _encode(texts: Sequence[str], backbone: Backbone) -> torch.Tensor:
    tokenizer = backbone.tokenizer()
    tokenizer.no_padding()
    tokenizer.enable_truncation(min(128, backbone.max_length))
    encodings = tokenizer.encode_batch_fast(list(texts))
    order = sorted(range(len(texts)), key=lambda row: len(encodings[row]))
    found = torch.zeros(len(texts), backbone.width)
    for start in range(0, len(order), 64):
        rows = order[start : start + 64]
        ids = nn.utils.rnn.pad_sequence([torch.tensor(encodings[row].ids) for row in rows], batch_first=True)
        mask = torch.arange(ids.shape[1]) < torch.tensor([len(encodings[row]) for row in rows])[:, None]
        states = backbone.structure.core(input_ids=ids, attention_mask=mask.long())[0]
        found[rows] = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    return nn.functional.normalize(found, dim=-1)
