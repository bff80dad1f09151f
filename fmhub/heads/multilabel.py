"""Any number of labels at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fmhub.errors import DataError, nearest
from fmhub.task import Reads

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch

    from fmhub.backbones.load import Backbone
    from fmhub.recipe import Recipe
    from fmhub.task import Known


@dataclass(frozen=True)
class MultiLabel:
    """One sigmoid a label. A target is the list of labels that apply, empty where none does; so is a prediction, in the order of `labels`.

    `scores` are probabilities in the order of `labels`, each for itself.
    """

    labels: Sequence[str] = ()
    reads: Reads = Reads("mean")
    least: float = 0.5
    """The probability from which a label is predicted."""

    def fit(self, known: Known, recipe: Recipe) -> MultiLabel:
        """A copy with the sorted labels of the training part where none are named. Raises `DataError` where it has no label at all."""
        from fmhub.heads.classification import _natural

        seen = {str(label) for labels in known.train.column("target").to_pylist() for label in labels}
        if not seen:
            raise DataError("The training part holds no label.")
        fitted = replace(self, labels=tuple(self.labels) or tuple(sorted(seen, key=_natural)))
        fitted.targets(known.train)
        return fitted

    def targets(self, table: pa.Table) -> dict[str, np.ndarray]:
        """`applies`: float32 (rows, labels) of 0 and 1. Raises `DataError` for a label that was not trained on."""
        import numpy as np

        place = {label: index for index, label in enumerate(self.labels)}
        found = np.zeros((len(table), len(self.labels)), np.float32)
        for row, labels in enumerate(table.column("target").to_pylist()):
            for label in map(str, labels):
                if label not in place:
                    name = table.column("id")[row].as_py()
                    raise DataError(f"Row {name}: label {label!r} is not one that was trained on.{nearest(label, self.labels)}")
                found[row, place[label]] = 1
        return {"applies": found}

    def build(self, backbone: Backbone, stem: torch.nn.Module | None, recipe: Recipe) -> torch.nn.Module:
        """(examples, width) -> logits (examples, labels)."""
        from fmhub.heads.linear import Linear

        return Linear(backbone.width, len(self.labels), recipe.dropout, stem, pooler=self.reads.tokens == "summary")

    def loss(self, outputs: torch.Tensor, targets: dict[str, Any], recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor]:
        """Binary cross-entropy, the mean over labels."""
        import torch

        losses = torch.nn.functional.binary_cross_entropy_with_logits(outputs.float(), targets["applies"], reduction="none")
        return losses.mean(-1).sum(), losses.new_tensor(float(len(losses)))

    def decode(self, outputs: torch.Tensor) -> dict[str, Any]:
        """`prediction`: lists of labels; `scores`: float32 (examples, labels), 0 to 1."""
        scores = outputs.float().sigmoid().cpu().numpy()
        named = [[label for label, score in zip(self.labels, row, strict=True) if score >= self.least] for row in scores]
        return {"prediction": named, "scores": list(scores)}

    def readable(self, prediction: Sequence[str], catalogue: pa.Table | None = None) -> str:
        """`a, b`, or `none`."""
        return ", ".join(prediction) or "none"
