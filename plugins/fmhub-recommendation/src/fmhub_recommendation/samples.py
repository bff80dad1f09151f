"""Made-up events for tests: people who walk through a town's places, most often on to the next of the same street."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

STREETS = ("Harbour", "Mill", "Castle", "Garden", "Station", "Bridge")
PLACES = ("bakery", "library", "cinema", "museum", "market", "theatre", "park", "school")


def events(people: int = 120, steps: int = 16) -> pa.Table:
    """user, item, time (seconds), title, kind: from one place on to another of the same street four times out of five."""
    import pyarrow as pa

    chance = random.Random(7)
    rows = []
    for person in range(people):
        street, free = chance.choice(STREETS), {street: list(PLACES) for street in STREETS}
        start = chance.randrange(PLACES.__len__())
        now = 1.6e9 + chance.randrange(10**6)
        for step in range(steps):
            if not free[street] or chance.random() < 0.2:
                street = chance.choice([name for name in STREETS if free[name]])
            near = [name for name in PLACES[(start + step) % 8 :] + PLACES if name in free[street]]
            free[street].remove(near[0])
            now += chance.choice((60, 3600, 86_400))
            rows.append((f"person-{person}", f"{street.lower()}-{near[0]}", now, f"{street} {near[0]}", f"{near[0]}, {street} Street"))
    names = ("user", "item", "time", "title", "kind")
    return pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
