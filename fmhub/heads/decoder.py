"""Decoder layers that start as copies of the backbone's encoder layers, with a cross-attention that starts as nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from fmhub.backbones.packed import block

Pair = tuple[torch.Tensor, torch.Tensor]


class Attention(nn.Module):
    """Multi-head attention over keys and values that were made before, so that they can be kept."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        for layer in (self.query, self.key, self.value, self.out):
            nn.init.normal_(layer.weight, std=0.02 if layer is self.out else 0.05)
            nn.init.zeros_(layer.bias)

    def known(self, states: torch.Tensor) -> Pair:
        """(rows, heads, states, width / heads) keys and values."""
        return self._parted(self.key(states)), self._parted(self.value(states))

    def forward(self, x: torch.Tensor, known: Pair, mask: torch.Tensor | None, causal: bool = False) -> torch.Tensor:
        mixed = functional.scaled_dot_product_attention(self._parted(self.query(x)), *known, attn_mask=mask, is_causal=causal)
        return self.out(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _parted(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


class DecoderLayer(nn.Module):
    """Self-attention over what was written, attention over the input, feed-forward; a norm after each (Vaswani et al. 2017)."""

    def __init__(self, width: int, like: Any, dropout: float) -> None:
        """`like` is an encoder layer: where it is plain (BERT's kind) its weights are the start (Rothe et al. 2020, arXiv:1907.12461)."""
        super().__init__()
        part = block(like)
        part = None if part is None or part.pre else part
        heads = part.heads if part is not None else max(1, width // 64)
        wide = _base(part.up).out_features if part is not None else 4 * width
        self.own, self.across = Attention(width, heads), Attention(width, heads)
        self.up, self.down = nn.Linear(width, wide), nn.Linear(wide, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)
        if part is not None:
            starts = ((self.own.query, part.query), (self.own.key, part.key), (self.own.value, part.value), (self.own.out, part.out))
            norms = zip(self.norms, (part.norm1, part.norm1, part.norm2), strict=True)
            for mine, theirs in (*starts, (self.up, part.up), (self.down, part.down), *norms):
                mine.load_state_dict(_base(theirs).state_dict())

    def forward(self, x: torch.Tensor, past: Pair | None, known: Pair, mask: torch.Tensor) -> tuple[torch.Tensor, Pair]:
        """`x` (rows, n, width) after `past`; without it the n attend to those before them only."""
        new = self.own.known(x)
        own = new if past is None else (torch.cat([past[0], new[0]], 2), torch.cat([past[1], new[1]], 2))
        x = self.norms[0](x + self.dropout(self.own(x, own, None, causal=past is None and x.shape[1] > 1)))
        x = self.norms[1](x + self.dropout(self.across(x, known, mask)))
        return self.norms[2](x + self.dropout(self.down(functional.gelu(self.up(x))))), own


def _base(module: Any) -> Any:
    """The layer without an adapter."""
    return getattr(module, "base_layer", module)
