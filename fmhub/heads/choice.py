"""The right one of the answers that are offered, by how alike question and answer are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmhub.errors import DataError
from fmhub.task import Reads

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch

    from fmhub.backbones.load import Backbone
    from fmhub.recipe import Recipe
    from fmhub.task import Known


@dataclass(frozen=True)
class Choice:
    """Cosine of a question and each of its answers, both read by the same backbone (Reimers & Gurevych 2019, arXiv:1908.10084).

    The target is the number of the right answer among the row's candidates, from "0"; a prediction is the list of all numbers,
    best first. Learnt against the row's own candidates and those of the other rows in the batch (Henderson et al. 2017,
    arXiv:1705.00652). The stem is `stems.Choices`.
    """

    field: str = "candidates"
    scale: float = 20.0
    """What a cosine is multiplied by at the start."""
    reads: Reads = Reads("mean")

    def fit(self, known: Known, recipe: Recipe) -> Choice:
        """Nothing to learn from the targets, but they are looked at. Raises `DataError`."""
        self.targets(known.train)
        return self

    def targets(self, table: pa.Table) -> dict[str, np.ndarray]:
        """`place`: int64. Raises `DataError` naming a row whose target is the number of none of its candidates."""
        import numpy as np

        places = []
        for name, target, offered in zip(*(table[column].to_pylist() for column in ("id", "target", self.field)), strict=True):
            if not str(target).isdecimal() or int(target) >= len(offered):
                raise DataError(f"Row {name}: the target is {target!r}; it must be the number of a candidate, 0 to {len(offered) - 1}.")
            places.append(int(target))
        return {"place": np.array(places, np.int64)}

    def build(self, backbone: Backbone, stem: torch.nn.Module | None, recipe: Recipe) -> torch.nn.Module:
        """(texts, width) -> `Alike`; the scale is all that it trains."""
        from fmhub.heads.cosine import Cosine

        return Cosine(math.log(self.scale))

    def loss(self, outputs: Any, targets: dict[str, Any], recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy of the right answer among all of the batch but those that are the same text as it."""
        return outputs.loss(targets["place"], recipe.label_smoothing)  # type: ignore[no-any-return]

    def decode(self, outputs: Any) -> dict[str, Any]:
        """`prediction`: lists of numbers as text; `similarity`: cosines, and `readable`: the answers, in the same order."""
        return outputs.ranked()  # type: ignore[no-any-return]
