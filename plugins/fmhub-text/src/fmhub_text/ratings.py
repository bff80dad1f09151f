"""23,703 short texts rated by people from -4 (very negative) to 4 (very positive); see data/ORIGIN.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

NEUTRAL = 0.5
"""Texts whose mean rating is nearer to 0 than this have no polarity that raters agree on."""


def read() -> pa.Table:
    """All rows: id, domain, group, split, rating, text."""
    import csv
    import gzip
    from importlib.resources import files

    import pyarrow as pa

    with (
        (files(__package__) / "data" / "ratings.csv.gz").open("rb") as packed,
        gzip.open(packed, "rt", encoding="utf-8", newline="") as file,
    ):
        names, *rows = csv.reader(file)
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    return pa.table({**columns, "rating": pa.array([float(value) for value in columns["rating"]])})


def polarity() -> pa.Table:
    """The texts with a polarity; `label` is negative or positive."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = read()
    table = table.filter(pc.greater_equal(pc.abs(table["rating"]), NEUTRAL))
    labels = pc.if_else(pc.greater(table["rating"], 0), pa.scalar("positive"), pa.scalar("negative"))
    return table.append_column("label", labels).drop_columns(["rating"])


def polarity_sample() -> pa.Table:
    """600 clear film and product sentences, for tests."""
    return _sample(polarity())


def ratings_sample() -> pa.Table:
    """600 film and product sentences with their rating, for tests."""
    return _sample(read())


def _sample(table: pa.Table) -> pa.Table:
    """Of each split's own rows evenly spread ones: 400 train, 100 validation, 100 test."""
    import pyarrow as pa
    import pyarrow.compute as pc

    parts = []
    for split, count in (("train", 400), ("validation", 100), ("test", 100)):
        rows = table.filter(pc.equal(table["split"], split))
        parts.append(rows.take([i * len(rows) // count for i in range(count)]))
    return pa.concat_tables(parts)
