"""Which rows train, choose and test: the task's own parts or K folds of them, with limits, and labels that all parts share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from fmhub.data.hidden import seen
from fmhub.data.parts import limit
from fmhub.data.rules import KFold
from fmhub.data.splitting import folds, together
from fmhub.data.tables import ROLES
from fmhub.errors import DataError, UsageError, nearest
from fmhub.task import Known, Splits, Task
from fmhub.training.encodings import Encodings
from fmhub.training.plan import Plan

GIVEN = "shift:given"
"""What a test part that the data itself declares is called in a cross-validation, where it stays out of the folds."""
BY_CHANCE = ("Random", "KFold")
BY_TIME = ("Temporal", "Histories")


@dataclass(frozen=True)
class Rows:
    """The tables of a run: `parts` has {split: rows} for every fold, or once without `--folds`."""

    parts: tuple[dict[str, pa.Table], ...]
    whole: pa.Table
    """Every row that is folded, or the training part, whatever the limit: what labels are known from."""
    fingerprint: str
    """Of the data and of how they are split."""
    notes: tuple[str, ...]
    catalogue: pa.Table | None = None
    encodings: Encodings = field(default_factory=Encodings)
    """What the run's members share, so that no row is encoded twice."""

    def known(self, train: pa.Table) -> Known:
        """What may be learnt from before training on these rows."""
        return Known(train=train, catalogue=self.catalogue)

    @property
    def counts(self) -> dict[str, int]:
        """Rows by split: in a cross-validation those of the first fold, but every row of all test parts."""
        return {**{name: len(table) for name, table in self.parts[0].items()}, "test": sum(len(part["test"]) for part in self.parts)}


def reading(plan: Plan, fields: Sequence[str]) -> Plan:
    """The plan whose user's own data know what the stem reads: that is what makes two rows the same example."""
    if plan.options.data is None or not hasattr(plan.task.data, "fields"):
        return plan
    own: Any = plan.task.data
    return replace(plan, task=replace(plan.task, data=replace(own, fields=tuple(fields))))


def load_rows(plan: Plan) -> Rows:
    """The plan's rows; `--limit` cuts training parts only. Raises `DataError`, or `UsageError` where folds would mix past and future."""
    splits = seen(plan.task.data.load())
    for name in ("train", "validation", "test"):
        if name not in splits.tables or not len(splits.tables[name]):
            raise DataError(f"Task {plan.task.name}: the {name} part is empty.")
    _check_groups(splits, plan)
    found = _folds(splits, plan) if plan.folds else [splits]
    whole = together(_kept_apart(splits, plan)) if plan.folds else splits.tables["train"]
    fingerprint = hashlib.sha256("\n".join(one.fingerprint for one in found).encode()).hexdigest() if len(found) > 1 else splits.fingerprint
    parts = tuple({name: cut(table, plan) if name == "train" else table for name, table in one.tables.items()} for one in found)
    if any(size >= len(parts[0]["train"]) for size in plan.options.curve):
        raise UsageError(f"--curve: each size must be below the training part's {len(parts[0]['train'])} rows, the curve's last point.")
    notes = tuple(dict.fromkeys(note for one in found for note in one.notes))
    return Rows(parts, whole, fingerprint, notes, splits.catalogue, Encodings(whole if plan.folds else None))


def _check_groups(splits: Splits, plan: Plan) -> None:
    table = splits.tables["test"]
    for column in plan.slices:
        if column not in table.column_names:
            raise UsageError(f"--groups: the data have no column {column!r}.{nearest(column, table.column_names)}")
        if pa.types.is_nested(table.schema.field(column).type) or pa.types.is_binary(table.schema.field(column).type):
            raise UsageError(f"--groups: column {column!r} holds {table.schema.field(column).type}, not one plain value a row.")


def cut(train: pa.Table, plan: Plan) -> pa.Table:
    """The training rows that `--limit` leaves."""
    return train if plan.options.limit is None else limit(train, plan.options.limit)


def _folds(splits: Splits, plan: Plan) -> list[Splits]:
    task, count = plan.task, plan.folds
    if splits.rule in BY_TIME:
        raise UsageError(f"--folds would train on what comes after the test rows: {task.name} is split by time. Use --seeds.")
    declared = getattr(task.data, "split", None)
    rule = replace(declared, k=count) if isinstance(declared, KFold) else KFold(k=count)
    if plan.options.groups and plan.options.folds:
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
    """The task whose head knows every label, so that folds and small training parts answer alike."""
    head: Any = task.head
    if not hasattr(head, "labels"):
        return task
    return replace(task, head=replace(head, labels=head.fit(rows.known(rows.whole), task.recipe).labels))
