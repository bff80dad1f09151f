"""Answers of people to questions as rows that carry what else the person has answered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fmhub import data
from fmhub.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class ByPerson:
    """Of every person's answers these shares are held out; those of the training part are what is known of a person, bar the one asked.

    Somebody with fewer than `least` answers is only learnt from, and so is an item's or a level's only answer. Parts that the data
    declare stay, test people may then be new.
    """

    test: float = 0.2
    validation: float = 0.1
    least: int = 5
    seed: int = 0

    def split(self, given: Mapping[str, pa.Table], fields: tuple[str, ...]) -> tuple[dict[str, pa.Table], list[str]]:
        """Tables by split with `known` and `answers` beside `person` and `item`. Raises `DataError` naming the row."""
        tables = {name: checked(table) for name, table in given.items()}
        notes: list[str] = []
        if list(tables) == [""]:
            tables, notes = self._cut(tables[""])
        elif "validation" not in tables:
            cut, notes = self._cut(tables["train"], test=0.0)
            tables = {**tables, **cut}
        if missing := {"train", "test"} - set(tables):
            raise DataError(f"The data declare no {missing.pop()} part.")
        known: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for person, item, answer in _cells(tables["train"]):
            known[person].append((item, answer))
        return {name: _with_known(table, known) for name, table in tables.items()}, notes

    def _cut(self, table: pa.Table, test: float | None = None) -> tuple[dict[str, pa.Table], list[str]]:
        import numpy as np
        import pyarrow as pa

        chance, test = np.random.default_rng(self.seed), self.test if test is None else test
        rows: dict[str, list[int]] = defaultdict(list)
        for row, person in enumerate(table["person"].to_pylist()):
            rows[person].append(row)
        part, few = np.zeros(len(table), np.int64), 0
        for own in rows.values():
            if len(own) < self.least:
                few += 1
                continue
            held, chosen = round(test * len(own)), max(1, round(self.validation * len(own)))
            order = chance.permutation(own)
            part[order[:held]], part[order[held : held + chosen]] = 2, 1
        for column in ("item", "target"):  # what training never saw cannot be asked for
            values = table[column].to_pylist()
            seen = {value for value, place in zip(values, part, strict=True) if place == 0}
            for row, value in enumerate(values):
                if value not in seen:
                    part[row] = 0
                    seen.add(value)
        names = ["train", "validation", *(["test"] if test else [])]
        notes = [f"{few} people with fewer than {self.least} answers are only learnt from"] if few else []
        return {name: table.filter(pa.array(part == place)) for place, name in enumerate(names)}, notes


def checked(table: pa.Table, did: str = "answered") -> pa.Table:
    """The table with `person` and `item` as text. Raises `DataError` for one that is empty, there twice, or in the other's column."""
    import pyarrow as pa

    for name in ("person", "item"):
        if name not in table.column_names:
            raise DataError(f"which column is the {name}? Name it with --columns {name}=NAME. Columns: {', '.join(table.column_names)}.")
        values = [None if value is None else str(value).strip() for value in table[name].to_pylist()]
        if empty := [row for row, value in zip(table["id"].to_pylist(), values, strict=True) if not value]:
            raise DataError(f"row {empty[0]}: the {name} is empty. Fill or remove the row.")
        table = table.set_column(table.column_names.index(name), name, pa.array(values, pa.string()))
    seen: set[tuple[str, str]] = set()
    for row, (person, item, _) in zip(table["id"].to_pylist(), _cells(table), strict=True):
        if (person, item) in seen:
            raise DataError(f"row {row}: {person!r} has {did} {item[:60]!r} before. Keep one of the two.")
        seen.add((person, item))
    if swapped(*({cell[side] for cell in seen} for side in (0, 1))):
        raise DataError("person and item seem to be swapped: the persons are sentences. Use --columns person=item,item=person.")
    return table


def swapped(people: set[str], items: set[str]) -> bool:
    """Whether most persons read like sentences and no item has two words; names (Juan de la Cruz) and codes (pupil 17) are persons."""
    told = [one.split() for one in people]
    sentences = [words for words in told if len(words) > 2 and any(len(word) > 3 and word.islower() for word in words[1:])]
    return 2 * len(sentences) > len(told) and not any(len(one.split()) > 1 for one in items)


def _cells(table: pa.Table) -> list[tuple[str, str, str]]:
    found = zip(*(table[name].to_pylist() for name in ("person", "item", "target")), strict=True)
    return [(person, item, str(answer)) for person, item, answer in found]


def _with_known(table: pa.Table, known: Mapping[str, list[tuple[str, str]]]) -> pa.Table:
    """Each row with what else its person has answered in the training part."""
    import pyarrow as pa

    others = [[cell for cell in known.get(person, ()) if cell[0] != item] for person, item, _ in _cells(table)]
    columns = {"known": [[item for item, _ in row] for row in others], "answers": [[answer for _, answer in row] for row in others]}
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values, pa.list_(pa.string())))
    return table


@dataclass(frozen=True)
class Answered:
    """One row an answer or a rating: a `person`, an `item`, a label or a number, and any further columns."""

    rows: data.Data

    def load(self) -> data.Splits:
        """See `fmhub.data.Data.load`."""
        return self.rows.load()

    def opened(self, reference: str, columns: Mapping[str, str], test: str | None, stem: Any) -> Answered:
        """The user's own rows, cut by the same rule."""
        return Answered(replace(self.rows.opened(reference, columns, test, None), split=self.rows.split))
