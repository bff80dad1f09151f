"""Which rows train, choose and test: the task's own parts or K folds of them, with limits, and labels that all parts share."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from fmhub.data.parts import limit
from fmhub.data.rules import KFold
from fmhub.data.splitting import folds, together
from fmhub.data.tables import ROLES
from fmhub.errors import DataError, UsageError, nearest
from fmhub.task import Splits, Task
from fmhub.training.plan import Plan

GIVEN = "shift:given"
"""What a test part that the data itself declares is called in a cross-validation, where it stays out of the folds."""
BY_CHANCE = ("Random", "KFold")
BY_TIME = ("Temporal", "LeaveLastOut")


@dataclass(frozen=True)
class Rows:
    """The tables of a run: `parts` has {split: rows} for every fold, or once without `--folds`."""

    parts: tuple[dict[str, pa.Table], ...]
    whole: pa.Table
    """Every row that is folded, or the uncut training part: what labels are known from, and what a refit trains on."""
    fingerprint: str
    """Of the data and of how they are split."""
    notes: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Rows by split: in a cross-validation those of the first fold, but every row of all test parts."""
        return {**{name: len(table) for name, table in self.parts[0].items()}, "test": sum(len(part["test"]) for part in self.parts)}


def load_rows(plan: Plan) -> Rows:
    """The plan's rows; `--limit` cuts training parts only. Raises `DataError`, or `UsageError` where folds would mix past and future."""
    splits = plan.task.data.load()
    for name in ("train", "validation", "test"):
        if name not in splits.tables or not len(splits.tables[name]):
            raise DataError(f"Task {plan.task.name}: the {name} part is empty.")
    names = splits.tables["test"].column_names
    if plan.options.groups and plan.options.groups not in names:
        raise UsageError(f"--groups: the data have no column {plan.options.groups!r}.{nearest(plan.options.groups, names)}")
    if any(size >= len(splits.tables["train"]) for size in plan.options.curve):
        raise UsageError(
            f"--curve: each size must be below the training part's {len(splits.tables['train'])} rows, the curve's last point."
        )
    found = _folds(splits, plan) if plan.options.folds else [splits]
    whole = together(_kept_apart(splits, plan)) if plan.options.folds else splits.tables["train"]
    fingerprint = hashlib.sha256("\n".join(one.fingerprint for one in found).encode()).hexdigest() if len(found) > 1 else splits.fingerprint
    parts = tuple({name: _cut(table, name, plan.options.limit) for name, table in one.tables.items()} for one in found)
    return Rows(
        parts, _cut(whole, "train", plan.options.limit), fingerprint, tuple(dict.fromkeys(note for one in found for note in one.notes))
    )


def _cut(table: pa.Table, name: str, most: int | None) -> pa.Table:
    return limit(table, most) if name == "train" and most is not None else table


def _folds(splits: Splits, plan: Plan) -> list[Splits]:
    task, count = plan.task, int(plan.options.folds or 0)
    if splits.rule in BY_TIME:
        raise UsageError(f"--folds would train on what comes after the test rows: {task.name} is split by time. Use --seeds.")
    declared = getattr(task.data, "split", None)
    rule = replace(declared, k=count) if isinstance(declared, KFold) else KFold(k=count)
    if plan.options.groups:
        rule = replace(rule, group=plan.options.groups)
    fields = getattr(task.data, "fields", ()) or tuple(role for role, _ in getattr(task.data, "columns", ()) if role not in ROLES)
    return list(folds(replace(splits, tables=_kept_apart(splits, plan)), rule, fields))


def _kept_apart(splits: Splits, plan: Plan) -> dict[str, pa.Table]:
    """The tables with a test part that is not ours to mix under a name of its own."""
    tables = dict(splits.tables)
    if splits.rule not in BY_CHANCE:
        tables[GIVEN] = tables.pop("test")
    return tables


def settle_labels(task: Task, rows: Rows) -> Task:
    """The task whose head knows every label there is, so that folds and small training parts answer in the same columns."""
    head: Any = task.head
    if not hasattr(head, "labels"):
        return task
    return replace(task, head=replace(head, labels=head.fit(rows.whole, task.recipe).labels))
