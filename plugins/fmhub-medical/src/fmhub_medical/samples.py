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


def discs(volumes: int = 12, seed: int = 5) -> pa.Table:
    """Tiles of made-up volumes of three slices: noise in an oval body, and in half of the slices a brighter disc."""
    import numpy as np

    from fmhub_medical import lesions

    random = np.random.default_rng(seed)
    down, across = np.mgrid[:160, :160]
    found = []
    for volume in range(volumes):
        grey, mask = np.zeros((3, 160, 160), np.uint8), np.zeros((3, 160, 160), bool)
        body = ((down - 80) / 70) ** 2 + ((across - 80) / 75) ** 2 < 1
        for slice_ in range(3):
            pixels = random.normal(90, 12, body.shape)
            if (volume + slice_) % 2:
                y, x = random.uniform(50, 110, 2)
                mask[slice_] = (down - y) ** 2 + (across - x) ** 2 < random.uniform(10, 16) ** 2
                pixels[mask[slice_]] += 90
            grey[slice_] = np.where(body, pixels, 0).clip(0, 255)
        found += lesions.rows(f"made-up {volume}", grey, np.stack([body] * 3), mask)
    return lesions.table(found)
