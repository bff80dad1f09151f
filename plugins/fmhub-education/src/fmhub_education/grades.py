"""3,708 sentences of product reviews with the mean grade of 20 people, -4 to 4; see data/ORIGIN.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from fmhub import data
from fmhub.task import Splits, StemSpec

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, kw_only=True)
class Grades(data.Data):
    """Texts with grades. Where fmhub cuts the parts, training has the lowest and the highest grade: they are the scale."""

    @classmethod
    def of(cls, plain: data.Data) -> Grades:
        """The same rows."""
        return cls(**{entry.name: getattr(plain, entry.name) for entry in fields(plain)})

    def load(self) -> Splits:
        """See `fmhub.data.Data.load`."""
        found = super().load()
        ours = {"Random": ("validation", "test"), "Given": ("validation",) if set(dict(self.files)) == {"train", "test"} else ()}
        numbers = all(isinstance(one, int | float) for one in found.tables["train"]["target"].to_pylist())
        return with_ends(found, ours.get(found.rule, ())) if numbers else found

    def opened(self, reference: str, columns: Mapping[str, str], test: str | None, stem: StemSpec | None) -> Grades:
        """The user's own texts."""
        return Grades.of(super().opened(reference, columns, test, stem))


def with_ends(splits: Splits, parts: tuple[str, ...]) -> Splits:
    """The splits where the smallest unit with a grade beyond all of training's, at either end, has moved there from one of `parts`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from fmhub.data.fingerprint import fingerprint

    tables = dict(splits.tables)
    for best in (min, max):
        grades = {name: tables[name]["target"].to_pylist() for name in ("train", *parts)}
        end = best(map(best, grades.values()))
        whole = {name: _units(tables[name]) for name in parts}
        found = [
            (size, name, unit) for name, own in whole.items() for unit, grade in zip(own, grades[name], strict=True)
            if grade == end and (size := own.count(unit)) < len(own)  # no part may lose its last unit
        ]  # fmt: skip
        if end not in grades["train"] and found:
            _, name, unit = min(found, key=lambda one: one[0])
            moved = pa.array([one == unit for one in whole[name]])
            tables["train"] = pa.concat_tables([tables["train"], tables[name].filter(moved)])
            tables[name] = tables[name].filter(pc.invert(moved))
    if tables == splits.tables:
        return splits
    return replace(splits, tables=tables, fingerprint=fingerprint(tables))


def _units(table: pa.Table) -> list[object]:
    """What each row belongs to that must not be divided: its group, or else its text."""
    from fmhub.data.parts import keys

    if "group" not in table.column_names:
        return keys(table, ("text",))
    return [row if group is None else group for row, group in zip(table["id"].to_pylist(), table["group"].to_pylist(), strict=True)]


def read() -> pa.Table:
    """All rows: id, group (review), split, grade, text."""
    import csv
    import gzip
    from importlib.resources import files

    import pyarrow as pa

    with (files(__package__) / "data" / "reviews.csv.gz").open("rb") as packed, gzip.open(packed, "rt", encoding="utf-8") as file:
        names, *rows = csv.reader(file)
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    return pa.table({**columns, "grade": pa.array([float(grade) for grade in columns["grade"]])})


def sample() -> pa.Table:
    """500 evenly spread rows, for tests: 320 train, 80 validation, 100 test."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table, parts = read(), []
    for split, count in (("train", 320), ("validation", 80), ("test", 100)):
        rows = table.filter(pc.equal(table["split"], split))
        parts.append(rows.take([number * len(rows) // count for number in range(count)]))
    return pa.concat_tables(parts)
