"""What a report is made of: a run's folder, read once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fmhub.errors import FmhubError, UsageError
from fmhub.evaluation import Metric
from fmhub.evaluation.declared import declared
from fmhub.evaluation.metrics.columns import columns, take
from fmhub.runs import folder as run_folder
from fmhub.training.targets import with_targets

CORE = frozenset({"id", "split", "fold", "seed", "group", "prediction", "scores", "target", "input"})


@dataclass(frozen=True)
class Run:
    """A run that is done: its record and plan, its log, and the test part of its first seed's predictions."""

    folder: Path
    record: dict[str, Any]
    plan: dict[str, Any]
    log: list[dict[str, Any]]
    columns: dict[str, np.ndarray]
    copied: bool = True
    """Whether the folder holds the targets; where a licence forbids that, single examples are not shown either."""

    @property
    def labels(self) -> list[str]:
        return list(self.plan["head"].get("labels") or [])

    @property
    def metric(self) -> Metric | None:
        """The metric that ranks, where it is still known here."""
        return next((one for one in declared(self.plan) if one.name == self.record["primary"]), None)

    @property
    def holds(self) -> frozenset[str]:
        """What the columns hold, which decides what is drawn: `targets`, then `examples`, `labels`, `numbers`, `scores` or `texts`."""
        prediction, scores = self.columns["prediction"], self.columns.get("scores")
        if any(value is None for value in self.columns.get("target", [None])):
            return frozenset()
        found = {"targets", *(["examples"] if self.copied else []), *(["numbers"] if prediction.dtype.kind == "f" else [])}
        if prediction.dtype == object and self.labels and all(isinstance(value, str) for value in prediction):
            found.add("labels")
            if scores is not None and scores.ndim == 2 and scores.shape[1] == len(self.labels):
                found.add("scores")
        elif prediction.dtype == object and all(isinstance(value, str) for value in (*prediction, *self.columns["target"])):
            found.add("texts")
        return frozenset({*found, *self._kinds()})

    def _kinds(self) -> set[str]:
        """`likelihood`; `ranking`, a list for one right thing; `answers`, a text for a list of right ones."""
        pairs = {(type(one), type(other)) for one, other in zip(self.columns["prediction"], self.columns.get("target", ()), strict=False)}
        found = {"likelihood"} if {"nll", "tokens"} <= self.columns.keys() else set()
        return found | ({"ranking"} if pairs == {(list, str)} else {"answers"} if pairs == {(str, list)} else set())

    @cached_property
    def specs(self) -> tuple[Any, Any]:
        """Stem and head as they were fitted, or None for one that is no longer known here."""
        from fmhub import hub
        from fmhub.training.plan import spec_from

        found: list[Any] = []
        for name in ("stem", "head"):
            try:
                task = hub.task(f"{self.plan['task']['plugin']}:{self.plan['task']['name']}")[0] if "task" in self.plan else None
            except FmhubError:  # the plugin is gone: fmhub's own kinds are still known
                task = None
            try:
                found.append(spec_from(self.plan[name], getattr(task, name, None)))
            except (FmhubError, KeyError, TypeError):
                found.append(None)
        return found[0], found[1]

    def inputs(self, names: list[str]) -> list[Any]:
        """What the stem reads of these examples, from the task's data. Raises an `FmhubError` where they are gone or have changed."""
        from fmhub.training.targets import rows_of

        fields, wanted = (*self.specs[0].fields, "path"), set(names)
        found: dict[str, Any] = {}
        for part in rows_of(self.plan).parts:
            column = next(name for name in fields if name in part["test"].column_names)
            pairs = zip(part["test"].column("id").to_pylist(), part["test"].column(column).to_pylist(), strict=True)
            found |= {name: value for name, value in pairs if name in wanted}
        return [found[name] for name in names]

    @property
    def extra(self) -> list[str]:
        """Columns of the data itself that travelled along: what scores can be sliced by."""
        return [name for name in self.columns if name not in CORE]


def read(run: str | Path) -> Run:
    """The run of that id or folder. Raises `UsageError` where it is not done, `UntrustedFile` for files that are not a run's."""
    folder = run_folder.find(run)
    plan = run_folder.read_plan(folder)
    if (status := run_folder.read_status(folder)) != "done":
        raise UsageError(
            f"Run {plan['id']} is {status}; a report needs one that is done: fmhub run {plan['task']['name']} --resume {plan['id']}"
        )
    stored = run_folder.read_table(folder / "predictions.parquet")
    try:
        table = columns(with_targets(folder, stored))
    except FmhubError:  # plugin or data are gone: the record can still be shown
        table = columns(stored)
    test = np.array([split == "test" for split in table["split"]], dtype=bool)
    first = table["seed"] == table["seed"].min() if "seed" in table else True
    chosen = take(table, np.flatnonzero(test & first))
    return Run(folder, run_folder.read_record(folder), plan, _log(folder / "log.jsonl"), chosen, "target" in stored.column_names)


def _log(path: Path) -> list[dict[str, Any]]:
    """Readings in order; of a step that was taken again after a resume the last one, half-written lines left out."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
            found[str(row.get("member", "")), int(row["step"])] = row
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return [found[key] for key in sorted(found)]
