"""One label out of several."""

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
    from fmhub.heads.line import Line
    from fmhub.recipe import Recipe
    from fmhub.task import Known


@dataclass(frozen=True)
class Classification:
    """Softmax over `labels`; where none are named they are the sorted ones of the training part.

    A prediction is a label, its `scores` are probabilities in the order of `labels`.
    """

    labels: Sequence[str] = ()
    reads: Reads = Reads("mean")
    weights: Sequence[float] = ()
    """Of each label in the loss; set by `fit` where the recipe asks for balanced ones."""

    def fit(self, known: Known, recipe: Recipe) -> Classification:
        """A copy with `labels` and, for `recipe.class_weights="balanced"`, weights n / (classes * n_class)."""
        seen = [str(value) for value in known.train.column("target").to_pylist()]
        labels = tuple(self.labels) or tuple(sorted(set(seen), key=_natural))
        if len(set(seen)) < 2:
            raise DataError(f"The training part holds one label only ({', '.join(sorted(set(seen))) or 'none'}): a classifier needs two.")
        fitted = replace(self, labels=labels)
        fitted.targets(known.train)
        if recipe.class_weights == "balanced":
            fitted = replace(fitted, weights=tuple(len(seen) / (len(labels) * max(1, seen.count(label))) for label in labels))
        return fitted

    def targets(self, table: pa.Table) -> dict[str, np.ndarray]:
        """`label`: the index in `labels`, int64."""
        import numpy as np

        index = {label: i for i, label in enumerate(self.labels)}
        values = [str(value) for value in table.column("target").to_pylist()]
        for row, value in enumerate(values):
            if value not in index:
                name = table.column("id")[row].as_py()
                some = ", ".join(list(self.labels)[:8])
                raise DataError(f"Row {name}: label {value!r} is not one that was trained on.{nearest(value, self.labels)} Labels: {some}.")
        return {"label": np.array([index[value] for value in values], dtype=np.int64)}

    def build(self, backbone: Backbone, stem: torch.nn.Module | None, recipe: Recipe) -> torch.nn.Module:
        """(examples, width) -> logits (examples, labels)."""
        from fmhub.heads.linear import Linear

        return Linear(backbone.width, len(self.labels), recipe.dropout, stem, pooler=self.reads.tokens == "summary")

    def line(self, numbers: np.ndarray, targets: dict[str, Any]) -> Line:
        """Where the layers begin that read a stem's plain numbers (examples, numbers) of the training part."""
        from fmhub.heads.line import logistic

        return logistic(numbers, targets["label"], len(self.labels))

    def loss(self, outputs: torch.Tensor, targets: dict[str, Any], recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy with the recipe's label smoothing, weighted by class where asked."""
        import torch

        label = targets["label"]
        weight = torch.tensor(self.weights, device=outputs.device)[label] if self.weights else torch.ones_like(label, dtype=torch.float32)
        losses = torch.nn.functional.cross_entropy(outputs.float(), label, reduction="none", label_smoothing=recipe.label_smoothing)
        return (losses * weight).sum(), weight.sum()

    def decode(self, outputs: torch.Tensor) -> dict[str, Any]:
        """`prediction`: labels; `scores`: float32 (examples, labels), each row summing to 1."""
        scores = outputs.float().softmax(-1).cpu().numpy()
        return {"prediction": [self.labels[i] for i in scores.argmax(-1)], "scores": list(scores)}


def _natural(label: str) -> tuple[int, float, str]:
    """Numbers in their own order before words in theirs."""
    try:
        return (0, float(label), label)
    except ValueError:
        return (1, 0.0, label)
