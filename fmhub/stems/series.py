"""A window of prices: one token a patch of days, beside a few variances and moves as plain numbers.

Patches of several steps are read instead of single ones (Nie et al. 2023, arXiv:2211.14730), by a transformer that was
pretrained on another modality (Zhou et al. 2023, arXiv:2302.11939).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fmhub.errors import DataError
from fmhub.task import Encoded

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch

    from fmhub.backbones.load import Backbone
    from fmhub.recipe import Recipe
    from fmhub.task import Known


@dataclass(frozen=True)
class Series:
    """`prices` (above 0, oldest first) and their `days` (since 1970) up to now; augmentation hides patches, at most 30 % of them."""

    patch: int = 5
    """Steps of one token."""
    window: int = 0
    """Returns of an example; set by `fit`, with what follows."""
    centre: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    """Mean and 1 / deviation of the plain numbers, then of a patch's."""
    fields: tuple[str, ...] = ("prices", "days")
    unit: str = "patches"

    def fit(self, known: Known) -> Series:
        """A copy that knows the scale of everything. Raises `DataError` for rows that are shorter than a patch."""
        import numpy as np

        from fmhub.stems import returns

        found, days = returns.read(known.train)
        if found.shape[1] < self.patch:
            raise DataError(f"A window has {found.shape[1] + 1} prices; at least {self.patch + 1} are needed.")
        numbers = (returns.summary(found), returns.patches(found, days, self.patch))
        flat = [one.reshape(-1, one.shape[-1]) for one in numbers]
        centre = np.concatenate([one.mean(0) for one in flat])
        deviation = np.concatenate([one.std(0) for one in flat])
        scale = np.where(deviation > 1e-6, 1 / np.maximum(deviation, 1e-6), 0)
        return replace(self, window=found.shape[1], centre=tuple(centre.tolist()), scale=tuple(scale.tolist()))

    def typed(self, value: Any, catalogue: pa.Table | None = None) -> Mapping[str, Any]:
        """A row from prices parted by spaces or commas, oldest first (taken for weekdays up to today), or from a whole row."""
        import json

        if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
            try:
                value = json.loads(value)
            except ValueError:
                raise DataError(f"Not JSON: {value[:60]!r}.") from None
        row = dict(value) if isinstance(value, Mapping) else {"prices": value}
        prices = row.get("prices")
        try:
            row["prices"] = [float(price) for price in (prices.replace(",", " ").split() if isinstance(prices, str) else prices or [])]
        except (TypeError, ValueError):
            raise DataError(f"Prices are numbers, oldest first, not {str(prices)[:60]!r}.") from None
        return {"days": _weekdays(len(row["prices"])), **row}

    def encode(self, table: pa.Table, backbone: Backbone, recipe: Recipe) -> Encoded:
        """`wide` (rows, numbers) and `patches` (rows, patches, numbers), standardised, float32; the latest `recipe.length` patches."""
        import numpy as np

        from fmhub.stems import returns

        found, days = returns.read(table, self.window)
        patches = returns.patches(found, days, self.patch)
        count = patches.shape[2]
        patches = (patches - np.array(self.centre[-count:])) * np.array(self.scale[-count:])
        latest = patches[:, -min(recipe.length, backbone.max_length) :].astype(np.float32)
        return Encoded(np.full(len(table), latest.shape[1], np.int64), {"wide": self.design(table), "patches": latest})

    def design(self, table: pa.Table) -> np.ndarray:
        """(rows, numbers) float32: the plain numbers, standardised on the training rows."""
        import numpy as np

        from fmhub.stems import returns

        told = returns.summary(returns.read(table, self.window)[0])
        count = told.shape[1]
        wide: np.ndarray = (told - np.array(self.centre[:count])) * np.array(self.scale[:count])
        return wide.astype(np.float32)

    def batch(self, encoded: Encoded, rows: np.ndarray, *, random: np.random.Generator | None, strength: float) -> dict[str, torch.Tensor]:
        """`wide` and `patches` of some rows."""
        import torch

        patches = encoded.values["patches"][rows]
        if random is not None and strength > 0:
            patches = patches * (random.random(patches.shape[:2]) >= 0.3 * strength)[..., None].astype(patches.dtype)
        return {"wide": torch.from_numpy(encoded.values["wide"][rows]), "patches": torch.from_numpy(patches)}

    def build(self, backbone: Backbone, recipe: Recipe, known: Known | None = None) -> torch.nn.Module:
        """See `fmhub.stems.patches.Patches`."""
        from fmhub.stems.patches import Patches

        size = self.patch + 5
        return Patches(size, len(self.centre) - size, backbone.width, recipe.dropout)


def _weekdays(count: int) -> list[int]:
    """The last `count` weekdays, as days since 1970."""
    import datetime

    today = (datetime.date.today() - datetime.date(1970, 1, 1)).days
    found: list[int] = []
    while len(found) < count:
        if (today + 3) % 7 < 5:  # 1970-01-01 was a Thursday
            found.append(today)
        today -= 1
    return found[::-1]
