"""One training inside a run: a seed on the task's own splits, or on one fold of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from fmhub.backbones.adapter import save, trainable
from fmhub.evaluation import metrics
from fmhub.evaluation.metrics.columns import columns as columns_of
from fmhub.runs import folder as run_folder
from fmhub.task import StemSpec, Task
from fmhub.training import cost
from fmhub.training.loop import fit, predict
from fmhub.training.network import Network, Part
from fmhub.training.plan import describe
from fmhub.training.tables import prediction_table

if TYPE_CHECKING:
    from accelerate import Accelerator

    from fmhub.backbones.load import Backbone
    from fmhub.training.checkpoint import Progress
    from fmhub.training.reporting import Reporter


@dataclass(frozen=True)
class Member:
    """`splits` by name; `read` names those that are predicted at the end, each once."""

    task: Task
    stem: StemSpec
    seed: int
    fold: int
    splits: dict[str, pa.Table]

    @property
    def name(self) -> str:
        return f"seed-{self.seed}" + (f"-fold-{self.fold}" if self.fold else "")


@dataclass
class Trained:
    """What a member left: predictions of every split but train, and what to save and to count."""

    network: Network
    predictions: pa.Table
    progress: Progress
    total_parameters: int
    trainable_parameters: int
    latency_ms: float
    notes: list[str] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        """The trained tensors, and the specs that say what they belong to."""
        network = self.network
        meta = {"stem": describe(network.stem_spec), "head": describe(network.head_spec), "recipe": describe(network.recipe)}
        save(folder, trainable(network), {**meta, "backbone": {"name": network.backbone.name, "sha256": network.backbone.sha256}})


def train_member(member: Member, backbone: Backbone, folder: Path, accelerator: Accelerator, reporter: Reporter) -> Trained:
    """Fit stem and head on the member's training part, train, and predict its other splits once each."""
    recipe = replace(member.task.recipe, seed=member.seed)
    train = member.splits["train"]
    stem, head = member.stem.fit(train), member.task.head.fit(train, recipe)
    network = Network(backbone, stem, head, recipe)
    total = sum(parameter.numel() for parameter in network.parameters())
    network.to(accelerator.device)
    parts = {name: network.prepare(table) for name, table in member.splits.items()}
    notes = _truncated(parts, recipe.length, stem.unit)
    ranking = metrics.get(member.task.metrics[0])
    sign = 1.0 if ranking.direction == "max" else -1.0

    def table(name: str) -> pa.Table:
        columns = predict(network, parts[name], accelerator)
        return prediction_table(parts[name].table, columns, split=name, fold=member.fold, seed=member.seed, stem=stem)

    def judge() -> float:
        return sign * ranking.score(columns_of(table("validation")), getattr(head, "labels", None))

    def log(step: int, steps: int, values: dict[str, float], rate: float) -> None:
        if "validation" in values:
            values = {**values, "validation": sign * values["validation"]}
        if accelerator.is_main_process:
            reporter.logged(member.name, step, steps, values, rate)

    path = folder / "checkpoints" / f"{member.name}.safetensors"
    progress = fit(network, parts["train"], judge, accelerator=accelerator, checkpoint=path, log=log)
    if accelerator.is_main_process:
        _count_reading(folder)
    predictions = pa.concat_tables([table(name) for name in parts if name != "train"], promote_options="default")
    sizes = sum(parameter.numel() for parameter in trainable(network).values())
    return Trained(network, predictions, progress, total, sizes, cost.latency(network, parts["test"], accelerator), notes)


def _truncated(parts: dict[str, Part], length: int, unit: str) -> list[str]:
    return [
        f"{part.encoded.truncated} of {len(part.encoded.lengths)} examples of {name} are longer than {length} {unit} and were cut (recipe.length)."
        for name, part in parts.items()
        if part.encoded.truncated
    ]


def _count_reading(folder: Path) -> None:
    run_folder.write_json(folder / "readings.json", {"test": test_readings(folder) + 1})


def test_readings(folder: Path) -> int:
    """How often the test split was read in this run's life, interrupted attempts included."""
    path = folder / "readings.json"
    return int(run_folder.read_json(path)["test"]) if path.is_file() else 0
