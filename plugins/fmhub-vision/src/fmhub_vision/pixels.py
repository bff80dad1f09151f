"""Logistic regression on the pixels themselves: what a picture gives away without being understood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fmhub import stems
from fmhub.evaluation.baselines.probe import GRID, FittedLogistic, fit_logistic

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from fmhub.task import Setting


@dataclass(frozen=True)
class PixelLogistic:
    """Colours of `size` x `size` pixels, standardised."""

    size: int = 24
    grid: tuple[float, ...] = tuple(c / 10 for c in GRID)
    name: str = "pixel-logistic"

    def fit(self, setting: Setting) -> FittedLogistic:
        """Raises `DataError` for one label only."""
        return fit_logistic(self._features, setting, self.grid)

    def _features(self, rows: pa.Table) -> np.ndarray:
        import numpy as np

        pixels = stems.Image(size=self.size).decoded(rows)[0]
        return pixels.reshape(len(pixels), -1).astype(np.float32) / 255
