"""Made-up prices and applications for tests."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


def prices(days: int = 1500, series: int = 1, seed: int = 3) -> pa.Table:
    """Weekdays of series whose calm and wild spells last for months: time, series, close."""
    import datetime

    import pyarrow as pa

    chance = random.Random(seed)
    rows = []
    for number in range(series):
        price, wild, day = 100.0, False, datetime.date(2012, 1, 2)
        for _ in range(days):
            wild = wild if chance.random() > 0.012 else not wild
            price *= math.exp(chance.gauss(0.0003, 0.03 if wild else 0.006))
            rows.append((day.isoformat(), f"made-up {number}", price))
            day += datetime.timedelta(days=3 if day.weekday() == 4 else 1)
    return pa.table(dict(zip(("time", "series", "close"), map(list, zip(*rows, strict=True)), strict=True)))


def applications(rows: int = 360, seed: int = 5) -> pa.Table:
    """Applications whose checking account, months and savings tell the outcome apart most of the time."""
    import pyarrow as pa

    from fmhub_finance.credit import with_slices

    chance = random.Random(seed)
    found = []
    for _ in range(rows):
        account, savings = chance.choice(("none", "overdrawn", "in credit")), chance.choice(("none", "some", "much", None))
        months, age, amount = chance.randint(4, 60), chance.randint(19, 70), round(math.exp(chance.gauss(7.8, 0.7)))
        status = chance.choice(("female : married", "male : single", "male : married"))
        risk = (account == "overdrawn") * 2.2 - (account == "none") + (months - 30) / 15 - (savings == "much") * 1.5
        outcome = "bad" if risk + chance.gauss(0, 0.7) > 0.8 else "good"
        found.append((account, savings, float(months), float(age), float(amount), status, outcome))
    names = ("checking account", "savings", "months", "age", "amount in DM", "personal status", "outcome")
    return with_slices(pa.table(dict(zip(names, map(list, zip(*found, strict=True)), strict=True))))


def mortgages() -> pa.Table:
    """The same applications in the words of `loans`, with the column by which its scores are shown."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = applications()
    outcome = pc.if_else(pc.equal(found["outcome"], "bad"), "refused", "granted")
    race = pa.array([("white", "black", "hispanic")[row % 3] for row in range(len(found))])
    return found.set_column(found.column_names.index("outcome"), "outcome", outcome).append_column("race", race)
