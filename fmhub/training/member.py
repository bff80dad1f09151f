"""One training inside a run: a seed on the task's own splits, on one fold of them, or on fewer rows.

What it leaves lies in `checkpoints/NAME/`; once `result.json` stands there, a resumed run reads it instead of training again.
"""

from __future__ import annotations

import fcntl
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from fmhub.backbones.adapter import kept, save, trainable
from fmhub.errors import DataError
from fmhub.evaluation import metrics
from fmhub.evaluation.intervals import standard_error
from fmhub.evaluation.metrics.columns import columns as columns_of
from fmhub.home import atomic, read_json
from fmhub.process import settle
from fmhub.runs import folder as run_folder
from fmhub.task import HeadSpec, Known, StemSpec, Task
from fmhub.training import checkpoint as checkpoints
from fmhub.training import cost, ranks
from fmhub.training.checkpoint import Progress
from fmhub.training.encodings import Encodings
from fmhub.training.loop import Reading, fit, predict
from fmhub.training.network import Network
from fmhub.training.plan import Plan, describe
from fmhub.training.prepare import prepared, to_predict, truncated
from fmhub.training.tables import join, prediction_table, storable, with_target

if TYPE_CHECKING:
    from accelerate import Accelerator

    from fmhub.backbones.load import Backbone
    from fmhub.training.folds import Rows
    from fmhub.training.reporting import Reporter

ADAPTER = "adapter.safetensors"
RESULT = "result.json"


Load = Callable[[], "Backbone"]
"""Gives the run's backbone, fresh: an adapter is attached in place."""


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
    slices: tuple[str, ...] = ()
    """Columns of the data that travel with the predictions, so that they can be scored by their values."""
    fingerprint: str = ""
    """Of the run's data."""
    pool: pa.Table | None = None
    """Every row of a cross-validation: what the frozen layers say of it is kept once, not once a fold."""
    catalogue: pa.Table | None = None
    encodings: Encodings = field(default_factory=Encodings)
    """What the stem has made of the run's rows: its members share it."""

    @property
    def known(self) -> Known:
        """What may be learnt from before training."""
        return Known(train=self.splits["train"], catalogue=self.catalogue)

    def fitted(self) -> tuple[StemSpec, HeadSpec]:
        """Stem and head with what the training part alone teaches them."""
        assert self.task.stem is not None
        return self.task.stem.fit(self.known), self.task.head.fit(self.known, self.task.recipe)

    def marks(self, split: str) -> dict[str, Any]:
        """What every prediction of this member is marked with."""
        return {"split": split, "fold": self.fold, "seed": self.seed, "slices": self.slices}

    @property
    def steps_per_epoch(self) -> int:
        recipe = self.task.recipe
        return math.ceil(math.ceil(len(self.splits["train"]) / recipe.batch) / recipe.accumulate)


@dataclass(eq=False)
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
    unlearnt: list[str] = field(default_factory=list)
    """Ids of the training rows that the head can learn nothing from; `member` is without them."""

    @property
    def validation(self) -> float:
        """The kept step's validation reading, higher is better; minus infinity where none was taken."""
        return next((row["validation"] for row in self.progress.history if row["step"] == self.progress.best_step), -math.inf)


def members(plan: Plan, rows: Rows) -> list[Member]:
    """What is trained: every seed on every fold. Any other member is a copy of one of these, with rows of its own."""
    folded = len(rows.parts) > 1
    return [
        Member(
            f"seed-{seed}" + (f"-fold-{fold}" if folded else ""), plan.task, seed, splits, fold, plan.slices, rows.fingerprint,
            rows.whole if folded and plan.options.limit is None else None, rows.catalogue, rows.encodings,
        )
        for seed in plan.seeds
        for fold, splits in enumerate(rows.parts)
    ]  # fmt: skip


def train_member(
    member: Member, load: Load, folder: Path, accelerator: Accelerator, reporter: Reporter, cache: Path | None = None
) -> Trained:
    """Fit stem and head on the member's training part, train, and predict its other splits once each."""
    place = folder / "checkpoints" / member.name
    if ranks.from_first(lambda: (place / RESULT).is_file()):
        return _finished(member, place)
    recipe = replace(member.task.recipe, seed=member.seed)
    stem, head = member.fitted()
    network = Network(load(), stem, head, recipe, member.known)
    settle()
    total = sum(parameter.numel() for parameter in network.parameters())
    network.to(accelerator.device)
    parts = prepared(network, member, reporter.say, cache)
    learnt = set(parts["train"].table["id"].to_pylist())
    unlearnt = [name for name in member.splits["train"]["id"].to_pylist() if name not in learnt]
    member = _without(member, unlearnt)

    def table(name: str) -> pa.Table:
        columns = predict(network, parts[name], accelerator)
        return prediction_table(parts[name].table, columns, **member.marks(name), stem=stem)

    ranking = metrics.get(member.task.metrics[0])
    sign = 1.0 if ranking.direction == "max" else -1.0

    def judge() -> Reading:
        columns, labels = columns_of(table("validation")), getattr(head, "labels", None)
        value = ranking.score(columns, labels)
        if not math.isfinite(value):
            raise DataError(
                f"{ranking.name} is undefined on the validation part ({len(parts['validation'].table)} rows): nothing can be chosen by it."
            )
        return Reading(sign * value, standard_error(ranking, columns, labels))

    def log(step: int, steps: int, values: dict[str, float], rate: float) -> None:
        if "validation" in values:
            values = {**values, "validation": sign * values["validation"]}
        reporter.logged(member.name, step, steps, values, rate)

    state = place / "state.safetensors"
    before = ranks.from_first(lambda: checkpoints.seconds(state))
    progress = fit(network, parts["train"], judge if "validation" in parts else None, accelerator=accelerator, checkpoint=state, log=log)
    if "test" in parts and accelerator.is_main_process:
        _count_reading(folder)
    named = trainable(network)
    for name in [name for name in parts if name != "train"]:
        parts[name] = to_predict(network, member, parts[name], reporter.say, cache)
    trained = Trained(
        member=member,
        predictions=join([table(name) for name in parts if name != "train"]) if len(parts) > 1 else None,
        adapter=place / ADAPTER,
        progress=progress,
        total_parameters=total,
        trainable_parameters=sum(parameter.numel() for parameter in named.values()),
        latency_ms=cost.latency(network, replace(parts.get("test", parts["train"]), prefix=None), accelerator),
        seconds_before=before,
        notes=[
            *getattr(stem, "notes", ()),
            *getattr(head, "notes", ()),
            *truncated(parts, recipe.length, stem.unit),
            *(
                [f"{len(unlearnt)} examples of train are longer than {recipe.length} {stem.unit} and were not learnt from (recipe.length)."]
                * bool(unlearnt)
            ),
        ],
        unlearnt=unlearnt,
    )
    if accelerator.is_main_process:
        backbone = {"name": network.backbone.name, "sha256": network.backbone.sha256}
        save(
            trained.adapter,
            kept(network),
            {"stem": describe(stem), "head": describe(head), "recipe": describe(recipe), "backbone": backbone},
        )
        _store(trained, place)
    return trained


def _without(member: Member, unlearnt: list[str]) -> Member:
    if not unlearnt:
        return member
    train = member.splits["train"]
    keep = pc.invert(pc.is_in(train["id"], pa.array(unlearnt, train["id"].type)))
    return replace(member, splits={**member.splits, "train": train.filter(keep)})


def _store(trained: Trained, place: Path) -> None:
    if trained.predictions is not None:
        run_folder.write_table(place / "predictions.parquet", storable(trained.predictions, trained.member.task.redistribute))
    values = asdict(replace(trained, member=None, predictions=None, adapter=None))  # type: ignore[arg-type]
    run_folder.write_json(place / RESULT, {key: value for key, value in values.items() if value is not None})


def _finished(member: Member, place: Path) -> Trained:
    values: dict[str, Any] = read_json(place / RESULT)
    progress = Progress(**values.pop("progress"))
    path, predictions = place / "predictions.parquet", None
    if path.is_file():
        predictions = with_target(run_folder.read_table(path), member.splits.values())
    member = _without(member, values.get("unlearnt", []))
    return Trained(member, predictions, place / ADAPTER, progress, **{**values, "seconds_before": progress.seconds})


def save_adapter(trained: Trained, folder: Path) -> None:
    """Make this member's adapter the run's."""
    for source in (trained.adapter, trained.adapter.with_suffix(".json")):
        with atomic(folder / "adapter" / source.name) as file:
            file.write(source.read_bytes())


def _count_reading(folder: Path) -> None:
    with (folder / ".readings.lock").open("w") as lock:  # members may be trained side by side
        fcntl.flock(lock, fcntl.LOCK_EX)
        run_folder.write_json(folder / "readings.json", {"test": test_readings(folder) + 1})


def test_readings(folder: Path) -> int:
    """How often the test split was read in this run's life, interrupted attempts included."""
    path = folder / "readings.json"
    return int(read_json(path)["test"]) if path.is_file() else 0
