"""One number."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fmhub.errors import DataError
from fmhub.task import Reads

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch

    from fmhub.backbones.load import Backbone
    from fmhub.heads.line import Line
    from fmhub.recipe import Recipe
    from fmhub.task import Known


@dataclass(frozen=True)
class Regression:
    """A value in the target's own unit; trained on (value - mean) / deviation of the training part."""

    reads: Reads = Reads("mean")
    mean: float = 0.0
    deviation: float = 1.0
    low: float | None = None
    high: float | None = None
    """Ends of the scale, where it has any: predictions are clamped to them and a target outside is refused."""
    whole: bool = False
    """Ends that are not given become the whole numbers around the training targets, as both do on the user's own data."""

    def fit(self, known: Known, recipe: Recipe) -> Regression:
        """A copy that knows the mean and the standard deviation of the training targets."""
        values = self._values(known.train)
        if values.std() == 0:
            raise DataError(f"Every training target is {values[0]:g}: there is nothing to learn.")
        fitted = replace(self, mean=float(values.mean()), deviation=float(values.std()))
        if self.whole:
            low, high = math.floor(values.min()), math.ceil(values.max())
            fitted = replace(fitted, low=low if self.low is None else self.low, high=high if self.high is None else self.high)
        return fitted

    def targets(self, table: pa.Table) -> dict[str, np.ndarray]:
        """`value`: the standardised target, float32."""
        return {"value": ((self._values(table) - self.mean) / self.deviation).astype("float32")}

    def _values(self, table: pa.Table) -> np.ndarray:
        import numpy as np

        values = []
        for row, raw in enumerate(table.column("target").to_pylist()):
            try:
                value = float(raw)
            except (TypeError, ValueError):
                value = math.nan
            if not math.isfinite(value) or not self._inside(value):
                scale = "" if self.low is None or self.high is None else f" from {self.low:g} to {self.high:g}"
                raise DataError(f"Row {table.column('id')[row].as_py()}: target {raw!r} is not a number{scale}.")
            values.append(value)
        return np.array(values, dtype=np.float64)

    def _inside(self, value: float) -> bool:
        low, high = self._ends()
        return low <= value <= high

    def _ends(self) -> tuple[float, float]:
        return (-math.inf if self.low is None else self.low), (math.inf if self.high is None else self.high)

    def build(self, backbone: Backbone, stem: torch.nn.Module | None, recipe: Recipe) -> torch.nn.Module:
        """(examples, width) -> (examples, 1)."""
        from fmhub.heads.linear import Linear

        return Linear(backbone.width, 1, recipe.dropout, stem, pooler=self.reads.tokens == "summary")

    def line(self, numbers: np.ndarray, targets: dict[str, Any]) -> Line:
        """Where the layers begin that read a stem's plain numbers (examples, numbers) of the training part."""
        from fmhub.heads.line import ridge

        return ridge(numbers, targets["value"])

    def loss(self, outputs: torch.Tensor, targets: dict[str, Any], recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor]:
        """Squared error of the standardised value."""
        error = outputs.float().squeeze(-1) - targets["value"]
        return error.square().sum(), error.new_tensor(float(len(error)))

    def decode(self, outputs: torch.Tensor) -> dict[str, Any]:
        """`prediction`: floats in the target's unit."""
        values = outputs.float().squeeze(-1).double().cpu().numpy() * self.deviation + self.mean
        low, high = self._ends()
        return {"prediction": values.clip(low, high)}
