"""Attention over packed tokens: within each example, over groups of examples of one length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from fmhub.backbones.linear import Affine
from fmhub.backbones.products import small_ones, small_products

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
    if single or groups.runs[0][0] <= LONG:
        return Attention.apply(query, key, value, groups, heads, scaling, single)  # type: ignore[no-any-return, no-untyped-call]
    return small_products(partial(_attend_long, groups=groups, heads=heads, scaling=scaling), query, key, value)


def _attend_long(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, groups: Groups, heads: int, scaling: float) -> torch.Tensor:
    sizes = [length * count for length, count in groups.runs]
    rest = len(key) - groups.tokens
    results = []
    # split, not slices: its backward joins the pieces once
    for (_, count), *pieces in zip(groups.runs, *(torch.split(one, [*sizes, rest]) for one in (query, key, value)), strict=False):
        q, k, v = (piece.view(count, -1, heads, piece.shape[1] // heads).transpose(1, 2) for piece in pieces)
        results.append(F.scaled_dot_product_attention(q, k, v, scale=scaling).transpose(1, 2).reshape(-1, query.shape[1]))
    return torch.cat([*results, query.new_zeros(rest, query.shape[1])])


class Attention(torch.autograd.Function):
    """softmax(s q k^T) v within each example, by the BLAS; both passes write each group's results where they belong."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.bfloat16)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, query: Any, key: Any, value: Any, groups: Groups, heads: int, scaling: float, single: bool) -> torch.Tensor:
        mixed, kept = _empty(query, len(query), len(groups.lengths) if single else groups.tokens), []
        with small_ones():
            for own, rows, count in _spans(groups, single):
                q, k, v = (_apart(one, count, heads) for one in (query[own], key[rows], value[rows]))
                p = _product(q, k.mT, scaling).softmax(-1)
                _join(mixed[own], p @ v, count)
                kept += [q, k, v, p]
        ctx.save_for_backward(*kept)
        ctx.groups, ctx.heads, ctx.scaling, ctx.single, ctx.rows = groups, heads, scaling, single, len(key)
        return mixed

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Any) -> Any:
        (dmixed,), kept = gradients, iter(ctx.saved_tensors)
        tokens = ctx.groups.tokens
        dquery = _empty(dmixed, len(dmixed), len(ctx.groups.lengths) if ctx.single else tokens)
        dkey, dvalue = (_empty(dmixed, ctx.rows, tokens) for _ in range(2))
        with small_ones():
            for own, rows, count in _spans(ctx.groups, ctx.single):
                q, k, v, p = (next(kept) for _ in range(4))
                d = _apart(dmixed[own], count, ctx.heads)
                _join(dvalue[rows], p.mT @ d, count)
                dscores = p * (d @ v.mT)
                dscores -= p * dscores.sum(-1, keepdim=True)
                _join(dquery[own], _product(dscores, k, ctx.scaling), count)
                _join(dkey[rows], _product(dscores.mT, q, ctx.scaling), count)
        return dquery, dkey, dvalue, None, None, None, None


def _empty(like: torch.Tensor, rows: int, used: int) -> torch.Tensor:
    """(rows, width of `like`), zeros from row `used` on."""
    x = like.new_empty(rows, like.shape[1])
    x[used:] = 0
    return x


def _spans(groups: Groups, single: bool) -> Iterator[tuple[slice, slice, int]]:
    """Of each group: the rows of its queries, those of its tokens, and how many examples it has."""
    query = token = 0
    for length, count in groups.runs:
        queries, tokens = count if single else count * length, count * length
        yield slice(query, query + queries), slice(token, token + tokens), count
        query, token = query + queries, token + tokens


def _apart(x: torch.Tensor, count: int, heads: int) -> torch.Tensor:
    """(examples x tokens, heads x width of a head) -> (examples x heads, tokens, width of a head)."""
    x = x.view(count, -1, heads, x.shape[1] // heads).transpose(1, 2)
    return x.reshape(-1, *x.shape[2:])


def _join(into: torch.Tensor, x: torch.Tensor, count: int) -> None:
    """The inverse of `_apart`, written into a part of a larger tensor."""
    into.view(count, x.shape[1], -1, x.shape[2]).copy_(x.view(count, -1, *x.shape[1:]).transpose(1, 2))


def _product(one: torch.Tensor, other: torch.Tensor, scale: float) -> torch.Tensor:
    return torch.baddbmm(one.new_empty(1), one, other, beta=0, alpha=scale)


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
    return weight.view(heads, len(weight) // heads, weight.shape[1])
