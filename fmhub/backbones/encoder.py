"""From a stem's batch to what the head reads, through the model's own forward.

A cached prefix is replayed by swapping layers inside that forward, so that masks, rotary positions and norms stay the
model's own. Plain layers take the packed path instead where it applies (see `fmhub.backbones.packed`).
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from fmhub.backbones.attention import Groups
from fmhub.backbones.load import Backbone
from fmhub.backbones.packed import Packed, packable
from fmhub.task import Features, Reads

_ALWAYS = {"use_cache": False, "interpolate_pos_encoding": True}
"""Options of a forward that every run wants: no decoding cache, and positions for the size that the input has."""
_LAST = Reads()


class Encoder(nn.Module):
    """The backbone as a module. Frozen parts stay in eval mode while training: only an adapter's own dropout is active."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.model = backbone.model
        self.structure = backbone.structure
        self.packed = Packed.of(self.structure)
        self.lock = threading.RLock()  # hooks and swapped layers are seen by every thread that serves
        self.accepted = set(inspect.signature(self.structure.core.forward).parameters)

    @property
    def width(self) -> int:
        return self.structure.width

    def train(self, mode: bool = True) -> Encoder:
        super().train(mode)
        if all(parameter.requires_grad for parameter in self.model.parameters()):
            return self
        self.model.eval()
        for module in self.model.modules():
            dropout = getattr(module, "lora_dropout", None)
            if isinstance(dropout, nn.Module):
                dropout.train(mode)
        return self

    def forward(self, inputs: Mapping[str, torch.Tensor], reads: Reads, *, hidden: torch.Tensor | None = None, start: int = 0) -> Features:
        """What the head reads of a batch. `inputs` are keyword arguments of the model's forward.

        `hidden` is what `prefix` says: the input of layer `start`, padded (examples, tokens, width) or with the real
        tokens of all examples one after another (tokens, width), and beside it what is read below. Nothing below is computed then.
        """
        own_dropout = self.model.training  # that of layers trained in full, which packed ones do not have
        if self.packed is not None and not own_dropout and packable(inputs) and self._agrees(self.packed, inputs):
            return self._packed(self.packed, inputs, reads, hidden, start)
        return self._padded(inputs, reads, hidden, start)

    def _padded(self, inputs: Mapping[str, torch.Tensor], reads: Reads, hidden: torch.Tensor | None, start: int) -> Features:
        with self.lock, self._replayed(inputs, hidden, start, reads), _recorded(self.structure.layers, reads.layers) as recorded:
            above = len(self.structure.layers) + 1 + max(reads.layers)  # the first layer that nobody reads
            last = self._run(inputs)[0] if -1 in reads.layers else self._reach(inputs, above)
        states = tuple(last if layer == -1 else recorded[layer] for layer in reads.layers)
        mask = token_mask(inputs, last)
        chosen = tuple(_tokens(state, mask, reads.tokens) for state in states)
        return Features(chosen if len(chosen) > 1 else chosen[0], mask if reads.tokens == "all" else None)

    def _packed(
        self, packed: Packed, inputs: Mapping[str, torch.Tensor], reads: Reads, hidden: torch.Tensor | None, start: int
    ) -> Features:
        if hidden is None:
            hidden, start = self._reach(inputs, 0), 0
        if hidden.ndim == 2 and "attention_mask" not in inputs:
            hidden = pad(hidden, inputs)
        mask = token_mask(inputs, hidden) if hidden.ndim == 3 else inputs["attention_mask"].bool()
        groups = Groups.of(mask)
        flat = hidden if hidden.ndim == 2 and groups.sorted else (pad(hidden, inputs) if hidden.ndim == 2 else hidden)
        if flat.ndim == 3:
            flat = groups.pack(flat, mask)
        flat, *known = torch.split(flat, self.width, dim=1)
        below = dict(zip(self._below(reads, start), known, strict=True))
        states = packed.run(flat, groups, start, reads.tokens, reads.layers, below)
        chosen = tuple(groups.unpack(state, mask) if reads.tokens == "all" else groups.restore(state) for state in states)
        return Features(chosen if len(chosen) > 1 else chosen[0], mask if reads.tokens == "all" else None)

    def _agrees(self, packed: Packed, inputs: Mapping[str, torch.Tensor]) -> bool:
        """Whether both paths give the same, tried out on the first two examples that ever come."""
        if packed.agrees is None:
            few, training = {name: tensor[:2] for name, tensor in inputs.items()}, self.training
            self.eval()
            with torch.no_grad(), torch.autocast("cpu", enabled=False):
                one, two = (path(few, Reads("all"), None, 0) for path in (self._padded, functools.partial(self._packed, packed)))
                difference = ((one.x - two.x) * one.mask[..., None]).abs().max() if one.mask is not None else torch.inf
            self.train(training)
            packed.agrees = bool(difference <= 1e-3 * max(1.0, float(one.x.abs().max())))
        return packed.agrees

    @torch.no_grad()
    def prefix(self, inputs: Mapping[str, torch.Tensor], start: int, reads: Reads = _LAST) -> tuple[torch.Tensor, torch.Tensor]:
        """The input of layer `start` (examples, tokens, width) and the mask of real tokens; layers above do not run.

        Where the head reads outputs of layers below, they stand beside it: (examples, tokens, width * (1 + how many)).
        What stands at padding means nothing.
        """
        below = self._below(reads, start)
        if self.packed is not None and packable(inputs) and self._agrees(self.packed, inputs):
            hidden = self._reach(inputs, 0)
            mask = token_mask(inputs, hidden)
            groups = Groups.of(mask)
            return groups.unpack(self.packed.below(groups.pack(hidden, mask), groups, start, below), mask), mask
        with self.lock, _recorded(self.structure.layers, below) as recorded:
            hidden = self._reach(inputs, start)
        return torch.cat([hidden, *(recorded[layer] for layer in below)], dim=-1), token_mask(inputs, hidden)

    def _below(self, reads: Reads, start: int) -> tuple[int, ...]:
        """The layers that are read, counted from the end, whose output is known at layer `start`."""
        return tuple(layer for layer in reads.layers if layer != -1 and len(self.structure.layers) + layer < start)

    def _reach(self, inputs: Mapping[str, torch.Tensor], start: int) -> torch.Tensor:
        layers = self.structure.layers
        with self.lock:
            if start < len(layers):
                handle = layers[start].register_forward_pre_hook(_stop_before, with_kwargs=True)
            else:
                handle = layers[-1].register_forward_hook(_stop_after)
            try:
                self._run(inputs)
            except _Reached as reached:
                return reached.hidden
            finally:
                handle.remove()
        raise AssertionError("the model's forward never reached its layers")

    def _run(self, inputs: Mapping[str, torch.Tensor]) -> Any:
        extra = {name: value for name, value in _ALWAYS.items() if name in self.accepted}
        return self.structure.core(**{name: value for name, value in inputs.items() if name in self.accepted}, **extra)

    @contextmanager
    def _replayed(self, inputs: Mapping[str, torch.Tensor], hidden: torch.Tensor | None, start: int, reads: Reads) -> Iterator[None]:
        """Layers below `start` do nothing; each gives what is known of it, and the last of them the input of `start`."""
        if hidden is None or start == 0:
            yield
            return
        if hidden.ndim == 2:
            hidden = pad(hidden, inputs)
        layers = self.structure.layers
        hidden, *known = torch.split(hidden, self.width, dim=-1)
        below = dict(zip(self._below(reads, start), known, strict=True))
        swapped = [_Skip(layer, below.get(index - len(layers), hidden)) for index, layer in enumerate(layers[:start])]
        owner, name = self.structure.owner, self.structure.attribute
        owner._modules[name] = nn.ModuleList([*swapped, *layers[start:]])
        try:
            yield
        finally:
            owner._modules[name] = layers


def token_mask(inputs: Mapping[str, torch.Tensor], states: torch.Tensor) -> torch.Tensor:
    """The real tokens of `states` (examples, tokens), bool; where a model shortens its input, the mask shrinks with it.

    Of a mask of pairs (examples, 1, tokens, tokens) those are real that the stem's own `real` says.
    """
    mask, tokens = inputs.get("attention_mask"), states.shape[1]
    if mask is not None and mask.ndim == 4:
        mask = inputs["real"]
    if mask is None:
        return torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
    return mask[:, :: max(1, mask.shape[1] // tokens)][:, :tokens].bool()


def pad(flat: torch.Tensor, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """(tokens of all examples, width) -> (examples, tokens, width), zeros where a token is padding."""
    mask = inputs.get("attention_mask")
    if mask is None or int(mask.sum()) != len(flat):
        count = len(next(iter(inputs.values())))
        return flat.view(count, -1, flat.shape[1])
    padded = flat.new_zeros(*mask.shape, flat.shape[1])
    padded[mask.bool()] = flat
    return padded


def _tokens(state: torch.Tensor, mask: torch.Tensor, tokens: str) -> torch.Tensor:
    if tokens == "first":
        return state[:, 0]
    if tokens == "last":
        positions = torch.arange(mask.shape[1], device=mask.device)
        return state[torch.arange(len(state), device=state.device), (mask * positions).argmax(1)]
    if tokens == "mean":
        weights = mask.to(state.dtype)[..., None]
        return (state * weights).sum(1) / weights.sum(1)
    return state


@contextmanager
def _recorded(layers: nn.ModuleList, wanted: tuple[int, ...]) -> Iterator[dict[int, torch.Tensor]]:
    """Outputs of the layers that `wanted` names from the end, raw; the last one (-1) is the model's own output instead."""
    recorded: dict[int, torch.Tensor] = {}

    def keep(index: int) -> Any:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            recorded[index] = output[0] if isinstance(output, tuple) else output

        return hook

    handles = [layers[index].register_forward_hook(keep(index)) for index in wanted if index != -1]
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


class _Skip(nn.Module):
    """Stands for a layer whose output is known; answers in the layer's own form (a tensor or a tuple)."""

    def __init__(self, layer: nn.Module, hidden: torch.Tensor) -> None:
        super().__init__()
        self.__dict__["layer"] = layer  # not a child: nothing of it runs or is listed
        self.hidden = hidden

    def forward(self, *arguments: Any, **named: Any) -> Any:
        return (self.hidden,) if _gives_tuple(self.layer, arguments, named) else self.hidden

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.layer, name)  # models read a layer's attention kind


def _gives_tuple(layer: nn.Module, arguments: Any, named: Any) -> bool:
    """Whether this class of layer answers with a tuple: tried out once a class."""
    kind = type(layer)
    if kind not in _TUPLES:
        with torch.no_grad():
            _TUPLES[kind] = isinstance(layer(*arguments, **named), tuple)
    return _TUPLES[kind]


_TUPLES: dict[type, bool] = {}


class _Reached(Exception):
    def __init__(self, hidden: torch.Tensor) -> None:
        self.hidden = hidden


def _stop_before(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    raise _Reached(arguments[0] if arguments else named["hidden_states"])


def _stop_after(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
    raise _Reached(output[0] if isinstance(output, tuple) else output)
