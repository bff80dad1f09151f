"""One training inside a run: a seed on the task's own splits, on one fold of them, or on fewer rows.

What it leaves lies in `checkpoints/NAME/`; once `result.json` stands there, a resumed run reads it instead of training again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fmhub.backbones.adapter import save, trainable
from fmhub.evaluation import metrics
from fmhub.evaluation.metrics.columns import columns as columns_of
from fmhub.errors import DataError
from fmhub.home import atomic
from fmhub.home import read_json
from fmhub.runs import folder as run_folder
from fmhub.task import HeadSpec, StemSpec, Task
from fmhub.training import checkpoint as checkpoints
from fmhub.training import cost, launch
from fmhub.training.checkpoint import Progress
from fmhub.training.loop import fit, predict
from fmhub.training.network import Network, Part
from fmhub.training.plan import describe
from fmhub.training.tables import join, prediction_table, storable, with_target

if TYPE_CHECKING:
    from accelerate import Accelerator

    from fmhub.backbones.load import Backbone
    from fmhub.training.reporting import Reporter

ADAPTER = "adapter.safetensors"


@dataclass(frozen=True)
class Member:
    """`splits` by name: `train` is learnt from, `validation` chooses where there is one, and all but train are predicted once.

    The task is resolved: its stem is set, and its recipe is what trains but for the seed.
    """

    name: str
    task: Task
    seed: int
    splits: dict[str, pa.Table]
    fold: int = 0
    slices: str | None = None
    """A column of the data that travels with the predictions, so that they can be scored by its values."""

    def fitted(self) -> tuple[StemSpec, HeadSpec]:
        """Stem and head with what the training part alone teaches them."""
        assert self.task.stem is not None
        return self.task.stem.fit(self.splits["train"]), self.task.head.fit(self.splits["train"], self.task.recipe)

    @property
    def steps_per_epoch(self) -> int:
        recipe = self.task.recipe
        return math.ceil(math.ceil(len(self.splits["train"]) / recipe.batch) / recipe.accumulate)


@dataclass
class Trained:
    """What a member left: predictions of every split but train (None where there is none), its adapter's file, and counts."""

    member: Member
    predictions: pa.Table | None
    adapter: Path
    progress: Progress
    total_parameters: int = 0
    trainable_parameters: int = 0
    latency_ms: float = 0.0
    seconds_before: float = 0.0
    """Seconds of this training that an earlier, interrupted process spent."""
    notes: list[str] = field(default_factory=list)

    @property
    def validation(self) -> float:
        """The best validation reading, higher is better; minus infinity where none was taken."""
        return -math.inf if self.progress.best is None else self.progress.best


def train_member(member: Member, load: Callable[[], Backbone], folder: Path, accelerator: Accelerator, reporter: Reporter) -> Trained:
    """Fit stem and head on the member's training part, train, and predict its other splits once each."""
    place = folder / "checkpoints" / member.name
    if (done := launch.from_first(lambda: _finished(member, place))) is not None:
        return done
    recipe = replace(member.task.recipe, seed=member.seed)
    stem, head = member.fitted()
    network = Network(load(), stem, head, recipe)
    total = sum(parameter.numel() for parameter in network.parameters())
    network.to(accelerator.device)
    parts = prepared(network, member.splits)

    def table(name: str) -> pa.Table:
        columns = predict(network, parts[name], accelerator)
        return prediction_table(
            parts[name].table, columns, split=name, fold=member.fold, seed=member.seed, stem=stem, slices=member.slices
        )  # fmt: skip

    ranking = metrics.get(member.task.metrics[0])
    sign = 1.0 if ranking.direction == "max" else -1.0

    def judge() -> float:
        value = ranking.score(columns_of(table("validation")), getattr(head, "labels", None))
        if not math.isfinite(value):
            raise DataError(
                f"{ranking.name} is undefined on the validation part ({len(parts['validation'].table)} rows): nothing can be chosen by it."
            )
        return sign * value

    def log(step: int, steps: int, values: dict[str, float], rate: float) -> None:
        if "validation" in values:
            values = {**values, "validation": sign * values["validation"]}
        reporter.logged(member.name, step, steps, values, rate)

    state = place / "state.safetensors"
    before = launch.from_first(lambda: checkpoints.seconds(state))
    progress = fit(network, parts["train"], judge if "validation" in parts else None, accelerator=accelerator, checkpoint=state, log=log)
    if "test" in parts and accelerator.is_main_process:
        _count_reading(folder)
    named = trainable(network)
    trained = Trained(
        member, join([table(name) for name in parts if name != "train"]) if len(parts) > 1 else None, place / ADAPTER, progress,
        total, sum(parameter.numel() for parameter in named.values()), cost.latency(network, parts.get("test", parts["train"]), accelerator),
        before, _truncated(parts, recipe.length, stem.unit),
    )  # fmt: skip
    if accelerator.is_main_process:
        backbone = {"name": network.backbone.name, "sha256": network.backbone.sha256}
        save(trained.adapter, named, {"stem": describe(stem), "head": describe(head), "recipe": describe(recipe), "backbone": backbone})
        _store(trained, place)
    return trained


def prepared(network: Network, splits: Mapping[str, pa.Table]) -> dict[str, Part]:
    """Every split read once by the stem, with its targets."""
    return {name: network.prepare(table) for name, table in splits.items()}


def _store(trained: Trained, place: Path) -> None:
    if trained.predictions is not None:
        run_folder.write_table(place / "predictions.parquet", storable(trained.predictions, trained.member.task.redistribute))
    values = asdict(replace(trained, member=None, predictions=None, adapter=None))  # type: ignore[arg-type]
    run_folder.write_json(place / "result.json", {key: value for key, value in values.items() if value is not None})


def _finished(member: Member, place: Path) -> Trained | None:
    if not (place / "result.json").is_file():
        return None
    values: dict[str, Any] = run_folder.read_json(place / "result.json")
    progress = Progress(**values.pop("progress"))
    path, predictions = place / "predictions.parquet", None
    if path.is_file():
        predictions = with_target(run_folder.read_table(path), member.splits.values())
    return Trained(member, predictions, place / ADAPTER, progress, **{**values, "seconds_before": progress.seconds})


def save_adapter(trained: Trained, folder: Path) -> None:
    """Make this member's adapter the run's."""
    for source in (trained.adapter, trained.adapter.with_suffix(".json")):
        with atomic(folder / "adapter" / source.name) as file:
            file.write(source.read_bytes())


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
    return int(read_json(path)["test"]) if path.is_file() else 0
