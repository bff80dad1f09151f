"""3,708 sentences of product reviews with the mean grade of 20 people, -4 to 4; see data/ORIGIN.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


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
