"""Logistic regression on the pixels themselves: what a slice gives away without being understood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fmhub.evaluation.baselines.probe import FittedEach, FittedLogistic, fit_logistic

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from fmhub.task import Setting

GRID = (0.0003, 0.003, 0.03, 0.3)


@dataclass(frozen=True)
class PixelLogistic:
    """Colours of `size` x `size` pixels, standardised."""

    size: int = 14
    grid: tuple[float, ...] = GRID
    name: str = "pixel-logistic"

    def fit(self, setting: Setting) -> FittedLogistic | FittedEach:
        """Raises `DataError` for one label only."""
        return fit_logistic(self._features, setting, self.grid)

    def _features(self, rows: pa.Table) -> np.ndarray:
        import numpy as np

        from fmhub_medical.stem import Slices

        pixels = Slices(size=self.size, shape="stretch").decoded(rows)[0]
        return pixels.reshape(len(pixels), -1).astype(np.float32) / 255
