"""A stem, a backbone with its adapter and a head as one module, and one split made ready for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from fmhub.backbones.adapter import attach
from fmhub.backbones.encoder import Encoder
from fmhub.backbones.load import Backbone
from fmhub.backbones.structure import causal
from fmhub.errors import UsageError
from fmhub.recipe import Recipe
from fmhub.task import Encoded, HeadSpec, Known, Reads, StemSpec
from fmhub.training.encodings import Encodings, within

if TYPE_CHECKING:
    import pyarrow as pa

    from fmhub.training.prefix import Prefix


@dataclass
class Part:
    """One split: its rows, what the stem made of them, the head's targets and, where layers are frozen, their cached output."""

    table: pa.Table
    encoded: Encoded
    targets: dict[str, Any] | None = None
    prefix: Prefix | None = None


class Network(nn.Module):
    """From a stem's batch to a head's outputs."""

    def __init__(self, backbone: Backbone, stem: StemSpec, head: HeadSpec, recipe: Recipe, known: Known | None = None) -> None:
        """Attach the adapter and build stem and head; `recipe.seed` decides every initial value. Without `known` it waits for its file."""
        super().__init__()
        self.reads = _reads(head, backbone)
        if (deepest := -min(self.reads.layers)) > backbone.layer_count:
            raise UsageError(
                f"The head reads layer {deepest} from the end; backbone {backbone.name!r} has {backbone.layer_count}. Use another."
            )
        torch.manual_seed(recipe.seed)
        attach(backbone, recipe, unread=-1 - max(self.reads.layers))
        self.stem_spec, self.head_spec, self.recipe, self.backbone = stem, head, recipe, backbone
        self.encoder = Encoder(backbone)
        self.stem = stem.build(backbone, recipe, known)
        self.head = head.build(backbone, self.stem, recipe)
        if known is not None and getattr(self.stem, "wide", None) and hasattr(head, "line"):
            plain: Any = stem
            module: Any = self.head
            module.begin(*head.line(plain.design(known.train), head.targets(known.train)))
        self.eval()

    def forward(self, batch: dict[str, torch.Tensor], hidden: Any = None, start: int = 0) -> Any:
        """`hidden`: what the layers below `start` say of the batch, where a prefix cache knows it."""
        inputs = self.stem(batch) if self.stem is not None else batch
        features = self.encoder(inputs, self.reads, hidden=hidden, start=start)
        features.batch = batch
        return self.head(features)

    def outputs(self, part: Part, rows: np.ndarray, random: np.random.Generator | None = None) -> Any:
        """The head's outputs for some rows of a part, on the network's device."""
        device = next(self.parameters()).device
        batch = self.batch(part.encoded, rows, random)
        batch = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
        if part.prefix is None:
            return self(batch)
        return self(batch, hidden=part.prefix.batch(rows, device), start=part.prefix.start)

    def batch(self, encoded: Encoded, rows: np.ndarray, random: np.random.Generator | None = None) -> dict[str, torch.Tensor]:
        """The stem's tensors of some examples; with `random`, augmented as the recipe says."""
        encoded, rows = within(encoded, rows)
        return self.stem_spec.batch(encoded, rows, random=random, strength=self.recipe.augment if random is not None else 0.0)

    def prepare(self, table: pa.Table, *, targets: bool = True, encodings: Encodings | None = None) -> Part:
        """Encode a table, unless `encodings` has its rows; with `targets`, its truth too."""
        encoded = (encodings or Encodings())(self.stem_spec, table, self.backbone, self.recipe)
        return Part(table, encoded, self.head_spec.targets(table) if targets else None)


def _reads(head: HeadSpec, backbone: Backbone) -> Reads:
    if head.reads.tokens != "summary":
        return head.reads
    return replace(head.reads, tokens="last" if causal(backbone.model) else "first")


def select(targets: dict[str, Any], rows: np.ndarray, device: torch.device) -> dict[str, Any]:
    """Some rows of a head's targets: arrays become tensors, lists stay lists."""
    return {
        name: torch.from_numpy(values[rows]).to(device, non_blocking=True)
        if isinstance(values, np.ndarray)
        else [values[row] for row in rows]
        for name, values in targets.items()
    }
