"""Where a model keeps its layers, found from its structure: no table of architectures to keep up to date."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fmhub.errors import FmhubError


@dataclass(frozen=True)
class Structure:
    """`core` is the module whose forward runs `layers` in order; they hang on `owner` under the name `attribute`."""

    core: nn.Module
    owner: nn.Module
    attribute: str
    width: int

    @property
    def layers(self) -> nn.ModuleList:
        return getattr(self.owner, self.attribute)  # type: ignore[no-any-return]


def find(model: nn.Module) -> Structure:
    """The encoder layers of a transformers model: the encoder's of an encoder-decoder, a decoder-only model's own.

    They are the one `ModuleList` of modules of one class that is as long as the config says. Raises `FmhubError` for
    models that have none (several stages, shared layers).
    """
    config: Any = model.config
    core: Any = model
    if getattr(config, "is_encoder_decoder", False) and hasattr(model, "get_encoder"):
        core = core.get_encoder()
        config = getattr(core, "config", config)
    counts = {getattr(config, "num_hidden_layers", None), getattr(config, "encoder_layers", None)} - {None}
    found = [
        (sum(parameter.numel() for parameter in child.parameters()), owner, name)
        for owner in core.modules()
        for name, child in owner.named_children()
        if isinstance(child, nn.ModuleList) and len({type(layer) for layer in child}) == 1 and (not counts or len(child) in counts)
    ]
    width = getattr(config, "hidden_size", None)
    if not found or not isinstance(width, int):
        raise FmhubError(f"{type(model).__name__} has no single list of equal layers, so no adapter can be placed. Use another backbone.")
    _, owner, attribute = max(found, key=lambda one: one[0])
    return Structure(core, owner, attribute, width)


def causal(model: nn.Module) -> bool:
    """Whether no token knows a later one: tried out on four of them. `model` is in eval mode."""
    core: Any = find(model).core
    if "inputs_embeds" not in inspect.signature(core.forward).parameters:
        return False
    known: nn.Embedding = core.get_input_embeddings()
    states = torch.randn(1, 5, known.embedding_dim, generator=torch.Generator().manual_seed(0)).to(known.weight)
    with torch.no_grad():
        one, two = (core(inputs_embeds=states[:, [0, 1, 2, fourth]]).last_hidden_state[:, :3] for fourth in (3, 4))
    return bool(torch.allclose(one, two, atol=1e-4))
