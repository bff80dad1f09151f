"""Classical methods on windows of prices, for what comes next as a number (the log variance) or as a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmhub.evaluation.baselines.simple import Always, label_names

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from fmhub.evaluation.baselines.fixed import Fitted
    from fmhub.task import Setting


@dataclass(frozen=True)
class Har:
    """Linear (for labels logistic) in the log variance of the last day, week and month (Corsi 2009, doi:10.1093/jjfinec/nbp001)."""

    spans: Sequence[int] = (1, 5, 22)
    name: str = "har"

    def fit(self, setting: Setting) -> Fitted:
        from fmhub.evaluation.baselines.fixed import linear

        def features(rows: pa.Table) -> np.ndarray:
            import numpy as np

            from fmhub.stems import returns

            found, _ = returns.read(rows)
            return np.stack([returns.log_variance(found, span) for span in self.spans], axis=1)

        return linear(features, setting)


@dataclass(frozen=True)
class Persistence:
    """The log variance of the last `span` days, as it is; for labels their probability by it alone."""

    span: int = 5
    name: str = "persistence"

    def fit(self, setting: Setting) -> Fitted | AsItIs:
        if hasattr(setting.head, "labels"):
            return Har((self.span,)).fit(setting)
        return AsItIs(self.span)


@dataclass(frozen=True)
class AsItIs:
    span: int

    def predict(self, rows: pa.Table) -> dict[str, Any]:
        """`prediction`: the log variance so far."""
        from fmhub.stems import returns

        return {"prediction": returns.log_variance(returns.read(rows)[0], self.span)}


@dataclass(frozen=True)
class Momentum:
    """The probability of each label by the return of the last `span` days alone (Jegadeesh & Titman 1993, doi:10.2307/2328882)."""

    span: int = 22
    name: str = "momentum"

    def fit(self, setting: Setting) -> Fitted:
        from fmhub.evaluation.baselines.fixed import linear

        def features(rows: pa.Table) -> np.ndarray:
            from fmhub.stems import returns

            return returns.move(returns.read(rows)[0], self.span)[:, None]

        return linear(features, setting)


@dataclass(frozen=True)
class SeriesBoosting:
    """Gradient boosting on all that `fmhub.stems.returns.summary` says of a window."""

    name: str = "series-boosting"

    def fit(self, setting: Setting) -> Fitted:
        from fmhub.evaluation.baselines.fixed import boosted
        from fmhub.stems import returns

        return boosted(lambda rows: returns.summary(returns.read(rows)[0]), setting)


@dataclass(frozen=True)
class Label:
    """Always the same label; its scores are the training frequencies."""

    label: str
    name: str = "always"

    def fit(self, setting: Setting) -> Always:
        labels = label_names(setting)
        seen = [str(value) for value in setting.train["target"].to_pylist()]
        return Always(self.label, tuple(seen.count(label) / len(seen) for label in labels))
