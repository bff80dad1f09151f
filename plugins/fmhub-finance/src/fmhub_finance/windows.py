"""A series of prices as rows that carry their own past, split by time: what is tested lies after all that was learnt from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from fmhub import UsageError, heads
from fmhub.data import Splits

if TYPE_CHECKING:
    import pyarrow as pa

    from fmhub.data import Data
    from fmhub.task import StemSpec


@dataclass(frozen=True)
class Windows:
    """`prices` has one row a day and series, with `time` (a date), `close` (above 0) and, where there are several, `series`.

    A row of this has `prices` (the last `window` + 1 of them) and their `days` (since 1970), the `series`, the quarter as its
    `group`, and the target, which lies in the `horizon` days that follow: of kind `level` the log of their mean squared log
    return, of kind `class` whether that is `high` or `low` (above the median of the training part or not), and of kind
    `direction` whether the price goes `up` or `down`.
    """

    prices: Data
    target: Literal["level", "class", "direction"]
    horizon: int = 5
    window: int = 130
    cutoffs: tuple[str, str] | None = None
    """train < first <= validation < second <= test; None puts 70, 15 and 15 % of all quarters there."""
    series: str | None = None
    """The one that is learnt from and tested; all others are tested apart, as `shift:others`. None takes all alike."""

    def load(self) -> Splits:
        """Rows by split. Raises `DataError` naming the row of a price or date that cannot be used."""
        from fmhub_finance.cut import load

        return load(self)

    def opened(self, reference: str, columns: Mapping[str, str], test: str | None, stem: StemSpec | None) -> Windows:
        """The same question about the user's own prices."""
        from fmhub import data

        if test:
            raise UsageError("--test does not go with prices: the latest quarters are the test.")
        roles = {"close" if role in ("target", "label", "price") else role: column for role, column in columns.items()}
        if unknown := [role for role in roles if role not in ("time", "close", "series")]:
            raise UsageError(f"--columns {unknown[0]}=...: prices have time=, close= and, where there are several, series=.")
        source = replace(data.open(reference), columns=tuple(roles.items()))
        return replace(self, prices=source, cutoffs=None, series=None)


@dataclass(frozen=True)
class Variance(heads.Regression):
    """The log of a mean squared daily return; `predict` says the volatility that it stands for."""

    def readable(self, prediction: float, catalogue: pa.Table | None = None) -> str:
        """Its root a day, and a year of 252 days."""
        daily = math.exp(float(prediction) / 2)
        return f"{daily:.2%} a day, {daily * math.sqrt(252):.1%} a year"
