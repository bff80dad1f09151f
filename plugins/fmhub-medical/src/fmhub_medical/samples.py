"""Made-up patients for tests."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Patients:
    """Rows whose marker, pain and age tell the outcome apart most of the time."""

    absent: str
    present: str

    @property
    def __name__(self) -> str:
        return "patients"

    def __call__(self, rows: int = 360, seed: int = 11) -> pa.Table:
        import pyarrow as pa

        chance = random.Random(seed)
        found = []
        for _ in range(rows):
            age, marker = float(chance.randint(35, 85)), chance.gauss(3, 1)
            pain, sex = chance.choice(("none", "typical", "other", None)), chance.choice(("female", "male"))
            risk = (age - 60) / 12 + 1.5 * (marker - 3) + (pain == "typical") * 1.5
            group = "under 50" if age < 50 else "50 to 64" if age < 65 else "65 and over"
            found.append((age, round(marker, 2), pain, sex, sex, group, self.present if risk + chance.gauss(0, 0.5) > 0.5 else self.absent))
        names = ("age", "marker", "pain", "sex", "gender", "age group", "outcome")
        return pa.table(dict(zip(names, map(list, zip(*found, strict=True)), strict=True)))


def patients(absent: str, present: str) -> Callable[[], pa.Table]:
    """The function that makes them, with these labels."""
    return Patients(absent, present)
