"""Attention over packed tokens: within each example, over groups of examples of one length."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F

from fmhub.backbones.linear import Affine
from fmhub.backbones.products import small_products

LONG = 128
"""Tokens above which torch's own attention kernel is as fast as three plain operations (which are twice as fast at
20 tokens), and keeps less."""


@dataclass(frozen=True)
class Groups:
    """How packed tokens belong to examples: `order` are the examples, longest first; runs of `(length, count)` follow it."""

    order: torch.Tensor
    runs: tuple[tuple[int, int], ...]
    starts: torch.Tensor
    lengths: torch.Tensor
    sorted: bool
    """Whether the examples came in this order."""

    @property
    def tokens(self) -> int:
        return sum(length * count for length, count in self.runs)

    @classmethod
    def of(cls, mask: torch.Tensor) -> Groups:
        lengths = mask.sum(1)
        lengths, order = torch.sort(lengths, descending=True, stable=True)
        values, counts = torch.unique_consecutive(lengths, return_counts=True)
        starts = torch.cumsum(lengths, 0) - lengths
        runs = tuple(zip(values.tolist(), counts.tolist(), strict=True))
        return cls(order, runs, starts, lengths, bool((order[1:] > order[:-1]).all()))

    def pack(self, padded: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(examples, tokens, width) -> (real tokens, width) in the groups' order."""
        return padded[mask] if self.sorted else padded[self.order][mask[self.order]]

    def unpack(self, flat: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The inverse of `pack`, with zeros where there is padding."""
        padded = flat.new_zeros(*mask.shape, flat.shape[1])
        padded[mask[self.order]] = flat
        return self.restore(padded)

    def restore(self, state: torch.Tensor) -> torch.Tensor:
        """One entry an example, from the groups' order back to the batch's."""
        return state if self.sorted else state[torch.argsort(self.order)]


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, groups: Groups, heads: int, scaling: float, *, single: bool
) -> torch.Tensor:
    """Softmax attention within each example; `single`: one query an example. (tokens, width) or (examples, width); what
    fills the tokens up attends to nothing and gets zeros."""
    sizes = [length * count for length, count in groups.runs]
    rest = len(key) - groups.tokens
    queries = torch.split(query, [count for _, count in groups.runs] if single else [*sizes, rest])
    results = []
    # split, not slices: its backward joins the pieces once
    for (length, count), *pieces in zip(groups.runs, queries, *(torch.split(one, [*sizes, rest]) for one in (key, value)), strict=False):
        q, k, v = (piece.view(count, -1, heads, piece.shape[1] // heads).transpose(1, 2) for piece in pieces)
        if q.shape[2] * length > LONG * LONG:
            mixed = F.scaled_dot_product_attention(q, k, v, scale=scaling)
        else:
            mixed = ((q * scaling) @ k.transpose(-1, -2)).softmax(-1) @ v
        results.append(mixed.transpose(1, 2).reshape(-1, query.shape[1]))
    if rest and not single:
        results.append(query.new_zeros(rest, query.shape[1]))
    return results[0] if len(results) == 1 else torch.cat(results)


def attend_once(
    query: torch.Tensor, states: torch.Tensor, key: Affine, value: Affine, groups: Groups, heads: int, scaling: float
) -> torch.Tensor:
    """Softmax attention of one query an example (examples, width) over the tokens that keys and values are made of (tokens, width).

    Neither is computed: q (W x) is (q W) x, and a mean of values is the value of a mean. A key's bias adds the same to all
    tokens, which softmax does not see.
    """
    once = partial(_attend_once, groups=groups, heads=heads, scaling=scaling, scales=(key.scale, value.scale))
    found = small_products(once, query, states, key.weight, key.down, key.up, value.weight, value.down, value.up)
    return found if value.bias is None else found + value.bias


def _attend_once(
    query: torch.Tensor,
    states: torch.Tensor,
    *weights: torch.Tensor,
    groups: Groups,
    heads: int,
    scaling: float,
    scales: tuple[float, float],
) -> torch.Tensor:
    key, key_down, key_up, value, value_down, value_up = weights
    q = (query * scaling).view(len(query), heads, -1).transpose(0, 1)  # (heads, examples, width of a head)
    across = q @ _of_heads(key, heads) + scales[0] * (q @ _of_heads(key_up, heads)) @ key_down
    counts, sizes = [count for _, count in groups.runs], [length * count for length, count in groups.runs]
    queries, tokens = torch.split(across.transpose(0, 1), counts), torch.split(states[: groups.tokens], sizes)
    means = []
    for (length, count), one, some in zip(groups.runs, queries, tokens, strict=True):
        x = some.view(count, length, -1)
        means.append((one @ x.mT).softmax(-1) @ x)
    mean = torch.cat(means).transpose(0, 1)  # (heads, examples, width)
    mixed = mean @ _of_heads(value, heads).mT + scales[1] * (mean @ value_down.mT) @ _of_heads(value_up, heads).mT
    return mixed.transpose(0, 1).reshape(query.shape)


def _of_heads(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """(heads x width of a head, any) -> (heads, width of a head, any)."""
    return weight.view(heads, -1, weight.shape[1])
