"""Plain encoder layers without padding: exact, and less work.

Real tokens of all examples stand one after another; linear layers and norms see nothing else, attention runs over groups
of examples of one length, and the last layer is computed only for the tokens that the head reads. What a layer is made of
is read from its attributes; `Packed.agrees` compares the whole with the model's own forward once before it is believed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from fmhub.backbones.attention import Groups, attend, attend_once
from fmhub.backbones.linear import affine, linear
from fmhub.backbones.structure import Structure

EVEN = 32
"""Packed tokens are filled up to a multiple of it, so that few kernels serve all batches: no two have the same number, and
writing the kernels of a new one takes a sixth of a step."""


@dataclass(frozen=True)
class Block:
    """The parts of one layer: x + attention, x + feed-forward, with norms before (`pre`) or after each."""

    query: nn.Module
    key: nn.Module
    value: nn.Module
    out: nn.Module
    up: nn.Module
    down: nn.Module
    activation: Callable[[torch.Tensor], torch.Tensor]
    norm1: nn.Module
    norm2: nn.Module
    scales: tuple[nn.Module | None, nn.Module | None]
    heads: int
    scaling: float
    pre: bool


# (norms before?, paths of the parts in Block's order): BERT's layout, ViT's, DINOv2's. A layer that lacks one is not plain.
_FFN = ("mlp.fc1", "mlp.fc2", "mlp.activation_fn")
_QKVO = ("attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.o_proj")
_LAYOUTS = (
    (False, "attention.self", ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
        "intermediate.dense", "output.dense", "intermediate.intermediate_act_fn", "attention.output.LayerNorm", "output.LayerNorm")),
    (True, "attention", (*_QKVO, *_FFN, "layernorm_before", "layernorm_after")),
    (True, "attention", (*_QKVO, *_FFN, "norm1", "norm2")),
)  # fmt: skip


def block(layer: Any) -> Block | None:
    """The parts of a plain layer, or None."""
    if getattr(layer, "is_decoder", False):
        return None
    for pre, attention, names in _LAYOUTS:
        try:
            parts: Any = attrgetter(*names)(layer)
            owner = attrgetter(attention)(layer)
            heads, scaling = owner.num_attention_heads, owner.scaling
        except AttributeError:
            continue
        if all(isinstance(norm, nn.LayerNorm) for norm in parts[-2:]):
            scales = (getattr(layer, "layer_scale1", None), getattr(layer, "layer_scale2", None))
            return Block(*(*parts, scales, heads, scaling, pre))
    return None


class Packed:
    """The packed path of one model. `agrees` stays None until the first batch has been compared."""

    def __init__(self, blocks: Sequence[Block], final: nn.Module | None) -> None:
        self.blocks, self.final = blocks, final
        self.agrees: bool | None = None

    @classmethod
    def of(cls, structure: Structure) -> Packed | None:
        """Where all layers are plain and at most one norm follows them; else None."""
        blocks = [block(layer) for layer in structure.layers]
        norms = [child for child in structure.core.children() if isinstance(child, nn.LayerNorm)]
        if len(norms) > 1 or any(one is None for one in blocks):
            return None
        return cls([one for one in blocks if one is not None], norms[0] if norms else None)

    def run(
        self, flat: torch.Tensor, groups: Groups, start: int, tokens: str, wanted: Sequence[int], below: Mapping[int, torch.Tensor]
    ) -> list[torch.Tensor]:
        """States that `wanted` names from the end, of the input of layer `start` (tokens, width) in the groups' order.

        `below` are those of layers before `start`. Each is (examples, width) in that order, or (tokens, width) for `all`.
        """
        count = len(self.blocks)
        flat = _even(flat)
        picked = {"first": groups.starts, "last": groups.starts + groups.lengths - 1}.get(tokens)
        states = {layer: _read(state, groups, tokens, picked) for layer, state in below.items()}
        x, done = flat, False
        for index in range(start, count + 1 + max(wanted)):  # nothing above what is read
            only = picked if index == count - 1 and -1 in wanted else None
            x, done = run(self.blocks[index], x, groups, only), only is not None
            if index - count in wanted and index < count - 1:
                states[index - count] = _read(x, groups, tokens, picked)
        if -1 in wanted:
            # a norm of single tokens comes after picking them and before any mean
            x = x if picked is None or done else x[picked]
            x = x if self.final is None else self.final(x)
            states[-1] = _read(x, groups, tokens, None) if picked is None else x
        return [states[layer] for layer in wanted]

    def below(self, flat: torch.Tensor, groups: Groups, start: int, wanted: Sequence[int]) -> torch.Tensor:
        """The input of layer `start`, and beside it what the layers before say that `wanted` names from the end:
        (tokens, width * (1 + how many)) of the input of the first one (tokens, width), in the groups' order."""
        states, flat = {}, _even(flat)
        for index in range(start):
            flat = run(self.blocks[index], flat, groups, None)
            if index - len(self.blocks) in wanted:
                states[index - len(self.blocks)] = flat
        return torch.cat([state[: groups.tokens] for state in (flat, *(states[layer] for layer in wanted))], dim=-1)


def packable(inputs: Mapping[str, torch.Tensor]) -> bool:
    """Whether a batch may take the packed path: on a CPU, in full precision or bfloat16, and no example is empty. Accelerators
    have kernels that like padding better than many small groups."""
    one = next(iter(inputs.values()))
    mask = inputs.get("attention_mask")
    if one.device.type != "cpu" or (torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") != torch.bfloat16):
        return False
    return mask is None or (mask.ndim == 2 and bool(mask.any(1).all()))


def run(part: Block, x: torch.Tensor, groups: Groups, picked: torch.Tensor | None) -> torch.Tensor:
    """One layer over packed tokens (tokens, width); with `picked`, only those tokens come out, one an example."""
    h = part.norm1(x) if part.pre else x
    a = linear(part.out, _attention(part, h, groups, picked))
    x = x if picked is None else x[picked]
    if part.pre:
        x = x + _scaled(part.scales[0], a)
        return x + _scaled(part.scales[1], linear(part.down, part.activation(linear(part.up, part.norm2(x)))))
    x = part.norm1(a + x)
    return part.norm2(linear(part.down, part.activation(linear(part.up, x))) + x)  # type: ignore[no-any-return]


def _attention(part: Block, h: torch.Tensor, groups: Groups, picked: torch.Tensor | None) -> torch.Tensor:
    query = linear(part.query, h if picked is None else h[picked])
    key, value = affine(part.key), affine(part.value)
    if picked is not None and key is not None and value is not None:
        return attend_once(query, h, key, value, groups, part.heads, part.scaling)
    return attend(query, linear(part.key, h), linear(part.value, h), groups, part.heads, part.scaling, single=picked is not None)


def _even(flat: torch.Tensor) -> torch.Tensor:
    return F.pad(flat, (0, 0, 0, -len(flat) % EVEN))


def _scaled(scale: Any, x: torch.Tensor) -> torch.Tensor:
    return x if scale is None else scale(x)


def _read(x: torch.Tensor, groups: Groups, tokens: str, picked: torch.Tensor | None) -> torch.Tensor:
    return _mean(x, groups) if tokens == "mean" else x[: groups.tokens] if picked is None else x[picked]


def _mean(x: torch.Tensor, groups: Groups) -> torch.Tensor:
    sizes = [length * count for length, count in groups.runs]
    pieces = zip(torch.split(x[: groups.tokens], sizes), groups.runs, strict=True)
    return torch.cat([piece.view(count, length, -1).mean(1) for piece, (length, count) in pieces])
