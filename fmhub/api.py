"""fmhub in Python and in notebooks; the command line calls nothing else.

import fmhub

record = fmhub.run("sentiment", limit=2000, set={"lr": 2e-3})   # the record, as plain data
record["scores"]["test"]["accuracy"]                            # {'value': ..., 'low': ..., 'high': ..., 'n': ...}

predictor = fmhub.load(record["id"])                            # or a run's folder
predictor.predict(["What a fine day."])                         # [{'prediction': 'positive', 'scores': {...}}]
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmhub.errors import DataError, FmhubError, Stopped, UsageError, nearest
from fmhub.runs import folder as run_folder
from fmhub.training.plan import Options, Plan, make, replan

if TYPE_CHECKING:
    from fmhub.task import Encoded, Splits
    from fmhub.training.network import Network


def plan(task: str, **options: Any) -> Plan:
    """Resolve what `run` would do, without doing it. `options` are the fields of `fmhub.training.plan.Options`.

    Raises `UsageError` for an unknown task, option or recipe key, with the nearest names.
    """
    known = [entry.name for entry in dataclasses.fields(Options)]
    for name in options:
        if name not in known:
            raise UsageError(f"Unknown option {name!r}.{nearest(name, known)} Known: {', '.join(known)}.")
    return make(task, Options(**options))


def run(
    task: str,
    *,
    resume: str | Path | None = None,
    output: str | Path | None = None,
    quiet: bool = True,
    processes: int = 1,
    track: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Run a task and return its record (the keys of `run.json`); it is on the local board afterwards.

    `resume` takes a run's id or folder and goes on where it stopped, with that run's own options.
    `output` names a folder (absent or empty) for the run; so many `processes` share its batches,
    and `track` names a tracker (tensorboard, mlflow, wandb) that is told what `log.jsonl` is.
    Raises an `FmhubError`; a run that Ctrl-C stops is resumable.
    """
    from fmhub.training import launch, ranks, trackers

    trackers.check(track)
    processes = launch.count(processes)
    if resume is not None:
        folder, stored = _resumed(task, resume, options)
        if (folder / "run.json").is_file():
            return _done(folder)
        identity, todo = str(stored["id"]), replan(stored)
    else:
        todo = plan(task, **options)
        identity, folder = ranks.from_first(lambda: run_folder.create(todo.task.name, Path(output) if output is not None else None))
    try:
        if processes > 1:
            launch.launch(todo, identity, folder, processes, quiet=quiet, track=track)
        else:
            from fmhub.training.execute import execute
            from fmhub.training.reporting import Reporter

            execute(todo, identity, folder, Reporter(quiet=quiet, track=track))
    except KeyboardInterrupt:
        begun = (folder / "plan.json").is_file()
        run_folder.discard_if_empty(identity, folder)
        again = f"fmhub run {task} --resume {identity}" + (f" --processes {processes}" if processes > 1 else "")
        raise Stopped(f"Stopped. Go on with: {again}" if begun else "Stopped before anything began.") from None
    except BaseException:
        run_folder.discard_if_empty(identity, folder)
        raise
    return _done(folder)


def _done(folder: Path) -> dict[str, Any]:
    """The record of a complete run, which is on the board from now on."""
    from fmhub.leaderboard import store
    from fmhub.training import ranks

    ranks.from_first(lambda: store.add(folder))
    return ranks.from_first(lambda: run_folder.read_record(folder))


def spread(tasks: Sequence[str], *, quiet: bool = True, **options: Any) -> list[dict[str, Any] | FmhubError]:
    """Run tasks on a Ray cluster, every seed and fold on its own; for each task its record, or the error it failed with.

    The cluster is that of `RAY_ADDRESS`, or one of this machine; all machines see the same `FMHUB_HOME`. Needs the extra `ray`.
    Raises `UsageError` for what is wrong before anything runs.
    """
    from fmhub.leaderboard import store
    from fmhub.training.cluster import spread

    results = spread([plan(task, **options) for task in tasks], quiet=quiet)
    for result in results:
        if not isinstance(result, FmhubError):
            store.add(run_folder.find(result["id"]))
    return results


def _resumed(task: str, run: str | Path, options: Mapping[str, Any]) -> tuple[Path, dict[str, Any]]:
    """The folder and the stored plan of the run to go on with."""
    folder = run_folder.find(run)
    stored = run_folder.read_plan(folder)
    names = (stored["task"]["name"], f"{stored['task']['plugin']}:{stored['task']['name']}")
    if task not in names:
        raise UsageError(f"Run {stored['id']} is of task {names[0]}, not {task}: fmhub run {names[0]} --resume {stored['id']}")
    if changed := [name for name, value in options.items() if value != getattr(Options(), name)]:
        raise UsageError(f"A resumed run keeps its own options: leave out {', '.join('--' + name.replace('_', '-') for name in changed)}.")
    return folder, stored


class Predictor:
    """A run's adapter on its backbone, ready to predict. Made by `load`."""

    def __init__(self, network: Network, stored: Mapping[str, Any], splits: Splits | None = None) -> None:
        from fmhub.training.ranks import accelerator

        self.plan, self._splits = stored, splits
        self._cut: tuple[str, ...] = ()
        self._network, self._accelerator = network, accelerator()  # in full precision, whatever ran in this process before
        network.to(self._accelerator.device)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that an input has, in order."""
        return self._network.stem_spec.fields

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said with every prediction, and of the last inputs how many were not read as they are."""
        return (*getattr(self._network.head_spec, "notes", ()), *self._cut)

    @property
    def typed(self) -> Callable[[Any], Mapping[str, Any]] | None:
        """The stem's own reading of what a person types, where it has one: from a value to the task's fields."""
        read = getattr(self._network.stem_spec, "typed", None)
        return read and (lambda value: read(value, self._splits))

    def predict(self, inputs: Iterable[Any]) -> list[dict[str, Any]]:
        """One mapping an input: `prediction`, and `scores` by label where the head has labels; `notes` then say what was not read.

        An input is a mapping of the task's fields, or for a task of one field its bare value.
        Raises `DataError` naming the input that does not fit.
        """
        import pyarrow as pa

        from fmhub.training.loop import predict

        rows = [self._row(number, value) for number, value in enumerate(inputs)]
        if not rows:
            return []
        columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in self.fields}
        table = pa.table({"id": [str(number) for number in range(len(rows))], **columns})
        cut, joined = getattr(self._network.stem_spec, "cut", None), getattr(self._network.head_spec, "joined", None)
        pieces, windows = cut(table) if cut and joined else (table, None)  # a head that joins may be given pieces
        part = self._network.prepare(pieces, targets=False)
        self._cut = self._unread(part.encoded)
        found = predict(self._network, part, self._accelerator)
        if joined and windows is not None:
            found = joined(found, windows, len(rows))
        return [self._readable({name: values[number] for name, values in found.items()}) for number in range(len(rows))]

    def _unread(self, encoded: Encoded) -> tuple[str, ...]:
        network, count = self._network, len(encoded.lengths)
        most = f"{min(network.recipe.length, network.backbone.max_length)} {network.stem_spec.unit}"
        told = {
            f"longer than {most} and cut, the answer is to what was read": encoded.truncated,
            "read without characters that the backbone does not know": encoded.unknown,
        }
        return tuple(f"{number} of {count} inputs: {what}." for what, number in told.items() if number)

    def draw(self, value: Any, row: Mapping[str, Any]) -> bytes:
        """What `predict` said of an input as a PNG over it. Raises `UsageError` where the task's predictions have no picture."""
        drawn, painted = (getattr(self._network.head_spec, name, None) for name in ("drawn", "painted"))
        if drawn is None and painted is None:
            raise UsageError("The predictions of this task cannot be drawn.")
        source = self._row(0, value)[self.fields[0]]
        return painted(row, source) if painted else drawn(row["prediction"], source)  # type: ignore[misc, no-any-return]

    def _row(self, number: int, value: Any) -> Mapping[str, Any]:
        if self.typed:
            return self.typed(value)
        bare = {self.fields[0]: value} if len(self.fields) == 1 else {}
        row: Mapping[str, Any] = value if isinstance(value, Mapping) else bare
        if missing := [name for name in self.fields if name not in row]:
            raise DataError(f"Input {number + 1} lacks {', '.join(missing)}: this task reads {', '.join(self.fields)}.")
        return row

    def _readable(self, row: dict[str, Any]) -> dict[str, Any]:
        labels: Sequence[str] | None = getattr(self._network.head_spec, "labels", None)
        if labels and "scores" in row:
            row["scores"] = {label: float(score) for label, score in zip(labels, row["scores"], strict=True)}
        prediction = row["prediction"]
        if hasattr(self._network.head_spec, "readable"):
            row["readable"] = self._network.head_spec.readable(prediction, self._splits and self._splits.catalogue)
        row["prediction"] = prediction.item() if hasattr(prediction, "item") else prediction
        return row


def load(run: str | Path) -> Predictor:
    """The trained model of a run, by id or folder; it needs the backbone, not the plugin, where stem and head are fmhub's own.

    Raises `UsageError` for an unknown run and `UntrustedFile` for an adapter that is not what the run saved.
    """
    from fmhub.backbones.adapter import merge
    from fmhub.training.restore import data, restore

    folder = run_folder.find(run)
    network = restore(folder)
    if getattr(network.head_spec, "merges", False):
        merge(network)
    named = any(hasattr(spec, name) for spec, name in ((network.stem_spec, "typed"), (network.head_spec, "readable")))
    return Predictor(network, run_folder.read_plan(folder), data(folder) if named else None)
