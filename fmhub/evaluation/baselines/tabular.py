"""Classical methods on the rows of a table: numbers standardised, categories one-hot, as the table stem codes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fmhub.stems.table import Table

if TYPE_CHECKING:
    from fmhub.evaluation.baselines.fixed import Fitted
    from fmhub.task import Setting


@dataclass(frozen=True)
class TableLinear:
    """Logistic regression, or least squares for numbers."""

    stem: Table = field(default_factory=Table)
    name: str = "table-linear"

    def fit(self, setting: Setting) -> Fitted:
        """Raises `DataError` naming a column that cannot be used."""
        from fmhub.evaluation.baselines.fixed import linear

        return linear(self.stem.fit(setting).design, setting)


@dataclass(frozen=True)
class TableBoosting:
    """Gradient boosting."""

    stem: Table = field(default_factory=Table)
    name: str = "table-boosting"

    def fit(self, setting: Setting) -> Fitted:
        """Raises `DataError` naming a column that cannot be used."""
        from fmhub.evaluation.baselines.fixed import boosted

        return boosted(self.stem.fit(setting).design, setting)
