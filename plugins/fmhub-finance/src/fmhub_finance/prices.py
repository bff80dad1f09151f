"""Daily closing prices of 20 US stocks and the S&P 500 index, 1990 to 2022: given as examples, so fetched and never shipped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fmhub.artifacts import Artifact, File, Wheel

if TYPE_CHECKING:
    import pyarrow as pa

STOCKS, INDEX = "sp500_dataset.csv.gz", "sp500_index.csv.gz"
ARTIFACT = Artifact(
    name="sp500-prices",
    files=(
        File(STOCKS, "ee21cac28befb1d0a739a9ceb22184f995394726aa0cfde9a21941d1ac04ac0d"),
        File(INDEX, "894c34431c284f86aa64a467e176e2a3c9b697c857eb9ab35006c2dd55d3fdf2"),
    ),
    sources=(Wheel("skfolio==1.12.2", path="skfolio/datasets/data/"),),
)
NAME = "SP500"


def daily() -> pa.Table:
    """One row a day and series: time, series, close; 8,313 days of 21 series."""
    import csv
    import gzip

    import pyarrow as pa

    from fmhub.artifacts import fetch

    place = fetch(ARTIFACT)
    rows: list[tuple[str, str, float]] = []
    for file in (STOCKS, INDEX):
        with gzip.open(place / file, "rt", encoding="utf-8") as lines:
            names, *days = csv.reader(lines)
        rows += [(day[0], name, float(price)) for day in days for name, price in zip(names[1:], day[1:], strict=True)]
    return pa.table(dict(zip(("time", "series", "close"), map(list, zip(*rows, strict=True)), strict=True)))
