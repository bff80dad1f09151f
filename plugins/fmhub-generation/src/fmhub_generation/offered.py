"""Pairs of question and answer made into choices: the right answer among others of the same part of the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fmhub import data
from fmhub.data import near
from fmhub.errors import DataError
from fmhub_generation.beginnings import apart

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Offered:
    """`data.Random`, or the parts that are given, over pairs; near-duplicate questions and equal answers never cross.

    To each question its answer is offered among `others` answers of groups that are not its own (`learnt` in the training part, where
    the rest of the batch stands against it too), drawn by `seed` within the part: nothing tells whether training has seen an answer.
    """

    others: int = 9
    learnt: int = 2
    test: float = 0.25
    validation: float = 0.1
    seed: int = 0

    def split(self, given: Mapping[str, pa.Table], fields: tuple[str, ...]) -> tuple[dict[str, pa.Table], list[str]]:
        """Tables by split with `question`, `candidates` and as `target` the number of the right one, and notes. Raises `DataError`."""
        import pyarrow as pa

        notes: list[str] = []
        tables = {name: _clean(table, name, notes) for name, table in given.items()}
        questions = [text for table in tables.values() for text in table["question"].to_pylist()]
        answers = [" ".join(text.casefold().split()) for table in tables.values() for text in table["answer"].to_pylist()]
        groups, at = [f"t{place}" for place in near.lines(questions, answers)], 0
        for name, table in tables.items():
            tables[name] = table.append_column("group", pa.array(groups[at : at + len(table)]))
            at += len(table)
        if list(tables) == [""]:
            rule: Any = data.Random(self.test, self.validation, stratify=False, group="group", seed=self.seed)
        else:
            rule = data.Given(validation=self.validation)
            tables = apart(tables, notes)
        parts, more = rule.split(tables, ("question", "answer"))
        made = {name: self._offer(table, self.learnt if name == "train" else self.others, name) for name, table in parts.items()}
        return made, [*notes, *more]

    def _offer(self, table: pa.Table, others: int, name: str) -> pa.Table:
        import numpy as np
        import pyarrow as pa

        random = np.random.default_rng([self.seed, *name.encode()])
        answers, groups = table["answer"].to_pylist(), table["group"].to_pylist()
        first = {" ".join(sorted(near.bag(answer))): row for row, answer in reversed(list(enumerate(answers)))}
        pool = sorted(first.values())
        offered, places = [], []
        for answer, group in zip(answers, groups, strict=True):
            strange = [row for row in random.permutation(pool).tolist() if groups[row] != group][:others]
            if not strange:
                raise DataError(f"{name} has answers to one question only: nothing else can be offered.")
            place = int(random.integers(0, len(strange) + 1))
            texts = [answers[row] for row in strange]
            offered.append([*texts[:place], answer, *texts[place:]])
            places.append(str(place))
        kept = table.drop_columns(["target", "answer"])
        return kept.append_column("candidates", pa.array(offered, pa.list_(pa.string()))).append_column("target", pa.array(places))


def _clean(table: pa.Table, name: str, notes: list[str]) -> pa.Table:
    """Its pairs, each once. Raises `DataError` naming an empty one."""
    import pyarrow as pa

    names = ", ".join(table.column_names)
    for column in ("question", "answer"):
        if column not in table.column_names:
            raise DataError(f"there is no column {column!r}; name it with --columns {column}=..., there are {names}.")
    table = table.drop_columns(["group"]) if "group" in table.column_names else table
    keys = []
    for row, *pair in zip(*(table[column].to_pylist() for column in ("id", "question", "answer")), strict=True):
        for what, text in zip(("question", "answer"), pair, strict=True):
            if not isinstance(text, str) or not text.strip():
                raise DataError(f"row {row}: the {what} is empty. Fill or remove the row.")
        keys.append(tuple(" ".join(text.casefold().split()) for text in pair))
    first = {key: row for row, key in reversed(list(enumerate(keys)))}
    keep = [first[key] == row for row, key in enumerate(keys)]
    if not all(keep):
        notes.append(f"{keep.count(False)} pairs{f' of {name}' if name else ''} that were there before: left out")
    return table.filter(pa.array(keep))


@dataclass(frozen=True)
class Pairs:
    """Columns `question` and `answer`; with `--data` your own."""

    pairs: data.Data

    def load(self) -> data.Splits:
        """See `fmhub.data.Data.load`."""
        return self.pairs.load()

    def opened(self, reference: str, columns: Mapping[str, str], test: str | None, stem: Any) -> Pairs:
        """The user's own pairs."""
        named = {"question": "question", "answer": "answer", **columns}
        own = self.pairs.opened(reference, {"target": named["answer"], **named}, test, stem)
        return Pairs(replace(own, split=self.pairs.split, fields=("question", "candidates")))
