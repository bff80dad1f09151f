"""What is checked: one task with its small data, its backbone and the few trainings that several checks share."""

from __future__ import annotations

import hashlib
import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fmhub import backbones, hub, stems
from fmhub.backbones.adapter import kept
from fmhub.backbones.load import Backbone, load
from fmhub.data.parts import limit
from fmhub.errors import FetchError, UsageError
from fmhub.evaluation import metrics
from fmhub.recipe import override
from fmhub.task import Splits, StemSpec, Task
from fmhub.training import ranks
from fmhub.training.execute import execute
from fmhub.training.folds import load_rows, settle_labels
from fmhub.training.loop import Reading, fit, predict
from fmhub.training.network import Network, Part
from fmhub.training.plan import Options, Plan
from fmhub.training.reporting import Reporter

if TYPE_CHECKING:
    from fmhub.plugins.plugin import Plugin

TRAIN, HELD = 240, 120
"""Rows of the training part, and of each other part, that checks look at."""
SHORT = 32
"""Training rows of the trainings that only have to repeat themselves."""


@dataclass(frozen=True)
class Fixed:
    """Data at hand, as a source."""

    splits: Splits

    def load(self) -> Splits:
        return self.splits

    def opened(self, *_: Any) -> Fixed:
        return self


@dataclass
class Subject:
    """A task as its plugin declares it, on its `sample` or, where there is none, on its own data."""

    plugin: Plugin
    declared: Task
    folder: Path
    """A temporary one, for what trainings leave."""
    backbone: str | None = None

    @cached_property
    def card(self) -> backbones.Card:
        return backbones.card(self.backbone or self.declared.backbone, {card.name: card for card, _ in hub.backbones()})

    @cached_property
    def whole(self) -> Splits:
        """The data as it is loaded."""
        return (self.declared.sample or self.declared.data).load()

    @cached_property
    def own(self) -> Subject | None:
        """The task on the data that its `sample` stands for, where these are here (bundled, or fetched before): nothing is fetched."""
        if self.declared.sample is None:
            return None
        found = replace(self, declared=replace(self.declared, sample=None))
        try:
            with mock.patch.dict(os.environ, FMHUB_OFFLINE="1"):
                assert found.whole
        except (FetchError, UsageError):  # it has none, or they would have to be fetched
            return None
        return found

    @cached_property
    def splits(self) -> Splits:
        """At most `TRAIN` rows to learn from and `HELD` of each other part, without labels that the cut has taken from the first."""
        tables = {name: _cut(name, table) for name, table in self.whole.tables.items()}
        if hasattr(self.declared.head, "labels") and self.whole.catalogue is None and pa.types.is_string(tables["train"]["target"].type):
            known = tables["train"]["target"].combine_chunks().unique()
            tables = {name: table.filter(pc.is_in(table["target"], known)) for name, table in tables.items()}
        return replace(self.whole, tables=tables)

    @cached_property
    def task(self) -> Task:
        """With its stem named, its labels settled, and no slices by columns that its sample lacks."""
        stem = self.declared.stem or stems.own(self.card.modality, [file.name for file in self.card.files])
        slices = tuple(name for name in self.declared.slices if name in self.splits.tables["test"].column_names)
        data, backbone = Fixed(self.splits), self.backbone or self.declared.backbone
        task = replace(self.declared, stem=stem, data=data, backbone=backbone, slices=slices)
        return settle_labels(task, load_rows(self.plan(task)))

    @cached_property
    def stem(self) -> StemSpec:
        """The task's, fitted: some read whatever columns there are."""
        assert self.task.stem is not None
        return self.task.stem.fit(self.splits.known())

    @property
    def is_likelihood(self) -> bool:
        """Whether the metric that ranks says how probable the input is: no target is read then."""
        return "target" not in metrics.get(self.declared.metrics[0]).reads

    def plan(self, task: Task, **options: Any) -> Plan:
        return Plan(task, self.plugin.name, self.plugin.version, Options(**options))

    def load(self) -> Backbone:
        """The backbone, fresh: an adapter is attached in place."""
        return load(self.card.fetch(), card=self.card, sha256=self.card.sha256)

    def run(self, task: Task, name: str, **options: Any) -> tuple[dict[str, Any], Path]:
        """The whole path of `fmhub run`, into a folder of its own and on no board: (record, folder)."""
        place = self.folder / name
        place.mkdir()
        return execute(self.plan(task, **options), f"{task.name}-{name}", place, Reporter(quiet=True)), place

    @cached_property
    def on_sample(self) -> tuple[dict[str, Any], Path]:
        """The task's own recipe on the sample, with at least 60 steps: (record, folder)."""
        recipe = self.task.recipe
        steps = -(-len(self.splits.tables["train"]) // (recipe.batch * recipe.accumulate))
        epochs = max(recipe.epochs, -(-60 // steps))
        return self.run(replace(self.task, recipe=override(recipe, {"epochs": epochs})), "sample")

    def network(self, **changes: Any) -> Network:
        """Stem and head fitted on the sample, around a fresh backbone; `changes` are of the recipe."""
        known = self.splits.known()
        undecided = {"lora.layers": "all"} if self.task.recipe.lora.layers == "auto" else {}
        recipe = override(self.task.recipe, {**undecided, **changes})
        return Network(self.load(), self.stem, self.task.head.fit(known, recipe), recipe, known)

    def short(self, name: str, *, interrupt: bool = False) -> Network:
        """Train twice over `SHORT` rows; with `interrupt`, stop in the second epoch and go on in another network."""
        state = self.folder / name / "state.safetensors"
        readings = itertools.count()
        rows = limit(self.splits.tables["train"], SHORT)

        def judge() -> Reading:
            reading = next(readings)
            if interrupt and reading == 1:
                raise KeyboardInterrupt
            return Reading(float(reading))

        def train() -> Network:
            network = self.network(epochs=2, evaluations=1, patience=0, batch=8, accumulate=1)
            network.to(self.accelerator.device)
            fit(network, network.prepare(rows), judge, accelerator=self.accelerator, checkpoint=state, log=lambda *_: None)
            return network

        try:
            return train()
        except KeyboardInterrupt:
            if not interrupt:
                raise
            return train()

    @cached_property
    def trained(self) -> Network:
        """The short training that others are compared with."""
        return self.short("short")

    def predictions(self, network: Network, rows: pa.Table) -> dict[str, list[Any]]:
        """What `network` says of rows, without their targets being read by the head."""
        return predict(network, Part(rows, network.stem_spec.encode(rows, network.backbone, network.recipe)), self.accelerator)

    @cached_property
    def again(self) -> dict[str, Any]:
        """What another process sees; weights and data are fetched before, for it opens no socket."""
        from fmhub.testing import again

        self.card.fetch()
        assert self.whole
        return again.seen(self.plugin.name, self.declared.name, self.backbone)

    @cached_property
    def accelerator(self) -> Any:
        return ranks.accelerator(self.declared.recipe.precision)

    @property
    def few(self) -> pa.Table:
        """Some test rows."""
        return limit(self.splits.tables["test"], 16)

    def digest(self, network: Network) -> str:
        """One hash over every trained bit, and over what is predicted with them."""
        found = hashlib.sha256()
        for name, tensor in sorted(kept(network).items()):
            found.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
        found.update(canonical(self.predictions(network, self.few)))
        return found.hexdigest()


def _cut(name: str, table: pa.Table) -> pa.Table:
    most = TRAIN if name == "train" else HELD
    return limit(table, most) if len(table) > most else table


def canonical(columns: dict[str, list[Any]]) -> bytes:
    """Prediction columns as bytes that are equal only for equal bits."""

    def bits(value: Any) -> bytes:
        if isinstance(value, dict):
            return b"".join(bits(part) for item in sorted(value.items()) for part in item)
        if isinstance(value, list | tuple):
            return b"[" + b",".join(map(bits, value)) + b"]"
        return np.asarray(value).tobytes() if isinstance(value, np.ndarray | np.generic | float | int) else repr(value).encode()

    return b"".join(name.encode() + bits(list(values)) for name, values in sorted(columns.items()))


@contextmanager
def subject(plugin: Plugin, task: Task, backbone: str | None = None) -> Iterator[Subject]:
    """The subject in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="fmhub-check-") as folder:
        yield Subject(plugin, task, Path(folder), backbone)
