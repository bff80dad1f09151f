"""A shorter context for an encoder whose table of positions says how long its input must be."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from fmhub.backbones.load import Backbone


def shorten(backbone: Backbone, count: int, how: Literal["slice", "stretch"]) -> None:
    """Leave `count` positions: the first ones (`slice`), or all, interpolated linearly (`stretch`). In place."""
    core: Any = backbone.structure.core
    table: nn.Embedding = core.embed_positions
    if count >= table.num_embeddings:
        return
    old = table.weight.detach()
    if how == "slice":
        new = old[:count].clone()
    else:
        new = nn.functional.interpolate(old.T[None], size=count, mode="linear", align_corners=False)[0].T.contiguous()
    core.embed_positions = nn.Embedding(len(new), new.shape[1])
    core.embed_positions.weight = nn.Parameter(new, requires_grad=False)
    core.config.max_source_positions = count  # its forward compares the input with it; the decoder never asks


def follow(backbone: Backbone) -> None:
    """Let inputs be shorter than the table of positions: each takes as many of the first ones as it has frames for, two a position."""
    core: Any = backbone.structure.core

    def narrowed(module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        features = named["input_features"] if "input_features" in named else arguments[0]
        # how many it asks its table for, and what it compares the input with
        module.embed_positions.num_embeddings = module.config.max_source_positions = features.shape[-1] // 2

    core.register_forward_pre_hook(narrowed, with_kwargs=True)


def positions(backbone: Backbone) -> int:
    """How many positions there are in the table; 0 where there is none."""
    table = getattr(backbone.structure.core, "embed_positions", None)
    return 0 if table is None else len(table.weight)
