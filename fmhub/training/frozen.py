"""The run's own head on the untouched backbone, trained by itself: what training the backbone adds to it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pyarrow as pa
import torch

from fmhub.evaluation import metrics
from fmhub.evaluation.intervals import standard_error
from fmhub.evaluation.metrics.columns import columns
from fmhub.recipe import override
from fmhub.training.loop import Reading, fit, predict
from fmhub.training.member import Load, Member
from fmhub.training.network import Network, Part
from fmhub.training.prefix import frozen_below, open_or_fill


@dataclass
class Alone:
    """What the loop asks of an Accelerator, where one process works by itself: baselines are the first rank's alone."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    process_index: int = 0
    num_processes: int = 1
    is_main_process: bool = True
    scaler: None = None
    autocast: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def unscale_gradients(self, optimiser: Any) -> None:
        """Nothing was scaled."""


def frozen(member: Member, load: Load, changes: Mapping[str, Any]) -> Callable[[pa.Table], dict[str, Any]]:
    """See `fmhub.task.Setting.frozen`: the task's recipe without an adapter; validation chooses the step as for the run."""
    stem, head = member.fitted()
    head = replace(head, **changes)  # type: ignore[type-var]
    recipe = override(member.task.recipe, {"lora.layers": "head", "augment": 0.0, "seed": member.seed})
    network = Network(load(), stem, head, recipe, member.known)
    alone: Any = Alone()
    # where the adapter's own run has kept what lower layers say, that is read again: the layers above are quick
    start = frozen_below(Network(load(), stem, head, member.task.recipe))[0] or frozen_below(network)[0]

    keep = partial(open_or_fill, network, fingerprint=member.fingerprint, start=start, say=lambda line: None)

    def part(table: pa.Table, *, targets: bool, exact: bool = True) -> Part:
        made = network.prepare(table, targets=targets, encodings=member.encodings)
        made.prefix = keep(made.encoded, exact=exact) if start else None
        return made

    train, held = (part(member.splits[name], targets=True, exact=name == "validation") for name in ("train", "validation"))
    said = partial(predict, network, accelerator=alone)
    fit(network, train, lambda: _score(member, held, said(held)), accelerator=alone, checkpoint=None, log=lambda *_: None)
    return lambda rows: said(part(rows, targets=False))


def _score(member: Member, held: Part, said: dict[str, Any]) -> Reading:
    ranking = metrics.get(member.task.metrics[0])
    table = {"id": held.table["id"].to_pylist(), "target": held.table["target"].to_pylist(), **said}
    found, labels = columns(table), getattr(member.task.head, "labels", None)
    value = ranking.score(found, labels)
    return Reading(value if ranking.direction == "max" else -value, standard_error(ranking, found, labels))
