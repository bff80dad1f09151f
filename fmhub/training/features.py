"""What the run's own backbone, and its own head, say of rows before any training: what a baseline may stand on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch

from fmhub.recipe import override
from fmhub.task import Reads
from fmhub.training.batching import evaluation_batches
from fmhub.training.frozen import Alone
from fmhub.training.member import Load, Member
from fmhub.training.network import Network


@dataclass
class Features:
    """See `fmhub.task.Setting.features`; the backbone is loaded when rows are first asked about."""

    member: Member
    load: Load

    @cached_property
    def network(self) -> Network:
        stem, head = self.member.fitted()
        recipe = override(self.member.task.recipe, {"lora.layers": "head", "seed": self.member.seed})
        return Network(self.load(), stem, head, recipe, self.member.known)

    @torch.inference_mode()
    def __call__(self, rows: pa.Table) -> np.ndarray:
        """(rows, 2 * width) float32: the first token beside the mean over real tokens."""
        network = self.network
        encoded = network.prepare(rows, targets=False, encodings=self.member.encodings).encoded
        found = np.empty((len(rows), 2 * network.backbone.width), np.float32)
        for some in evaluation_batches(encoded.lengths, network.recipe.budget, encoded.alike):
            batch = network.batch(encoded, some)
            states = network.encoder(batch if network.stem is None else network.stem(batch), Reads("all"))
            real = states.mask[..., None].to(states.x.dtype)
            found[some] = torch.cat([states.x[:, 0], (states.x * real).sum(1) / real.sum(1)], dim=1).numpy()
        return found


def untrained(
    member: Member, load: Load, changes: Mapping[str, Any], stem_changes: Mapping[str, Any]
) -> Callable[[pa.Table], dict[str, Any]]:
    """See `fmhub.task.Setting.untrained`; the network is built at once."""
    from fmhub.training import ranks
    from fmhub.training.loop import predict

    stem, head = member.fitted()
    recipe = override(member.task.recipe, {"seed": member.seed, **changes})
    shared = ranks.accelerator(recipe.precision)
    accelerator: Any = Alone(device=shared.device, autocast=shared.autocast)  # the other ranks are not asked
    network = Network(load(), replace(cast("Any", stem), **stem_changes), head, recipe, member.known)
    network.to(accelerator.device)
    return lambda rows: predict(network, network.prepare(rows, targets=False, encodings=member.encodings), accelerator)
