"""Logistic regression over fixed features: what a head alone could learn, and how every adapter should be judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmhub.errors import DataError
from fmhub.evaluation.baselines.simple import label_names

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from fmhub.task import HeadSpec, StemSpec

GRID = (0.003, 0.03, 0.3, 3.0)
TOKENS = 1 << 14
"""Tokens of one forward pass."""


@dataclass(frozen=True)
class FrozenLogistic:
    """A linear probe (Alain & Bengio 2016, arXiv:1610.01644) on the untouched `backbone`: its first token beside the mean of all."""

    backbone: str
    stem: StemSpec | None = None
    """None: the backbone's own."""
    grid: Sequence[float] = GRID
    name: str = "frozen-logistic"

    def fit(self, train: pa.Table, validation: pa.Table, *, head: HeadSpec, seed: int) -> FittedLogistic:
        """The weights are fetched where they are absent. Raises `DataError` for one label only."""
        return fit_logistic(self._features(train), train, validation, head, self.grid)

    def _features(self, train: pa.Table) -> Callable[[pa.Table], np.ndarray]:
        import numpy as np
        import torch

        from fmhub import backbones, hub, stems
        from fmhub.backbones.encoder import Encoder
        from fmhub.backbones.load import load
        from fmhub.recipe import Recipe
        from fmhub.task import Reads

        card = backbones.card(self.backbone, {card.name: card for card, _ in hub.backbones()})
        stem = (self.stem or stems.own(card.modality, [file.name for file in card.files])).fit(train)
        backbone = load(card.fetch(), card=card, sha256=card.sha256)
        encoder = Encoder(backbone).eval()

        def features(rows: pa.Table) -> np.ndarray:
            encoded = stem.encode(rows, backbone, Recipe())
            out = np.empty((len(rows), 2 * backbone.width), np.float32)
            order = np.argsort(-encoded.lengths, kind="stable")
            with torch.inference_mode():
                while len(order):
                    count = max(1, TOKENS // int(encoded.lengths[order[0]] + 1))
                    some, order = order[:count], order[count:]
                    inputs = stem.batch(encoded, some, random=None, strength=0.0)
                    found = encoder(inputs, Reads("all"))
                    real = found.mask[..., None].to(found.x.dtype)
                    out[some] = torch.cat([found.x[:, 0], (found.x * real).sum(1) / real.sum(1)], dim=1).numpy()
            return out

        return features


def fit_logistic(
    features: Callable[[pa.Table], np.ndarray], train: pa.Table, validation: pa.Table, head: HeadSpec, grid: Sequence[float]
) -> FittedLogistic:
    """Logistic regression on standardised `features(rows)`; its C is the smallest of those in `grid` with the best validation accuracy."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    target, truth = ([str(value) for value in rows["target"].to_pylist()] for rows in (train, validation))
    if len(set(target)) < 2:
        raise DataError("The training part holds one label only: a classifier needs two.")
    scale = StandardScaler().fit(raw := features(train))
    seen, held = scale.transform(raw), scale.transform(features(validation))
    models = [LogisticRegression(C=c, max_iter=300, tol=1e-3).fit(seen, target) for c in grid]
    best = max(models, key=lambda model: sum(model.predict(held) == truth))
    return FittedLogistic(features, scale, best, label_names(head, train))


@dataclass
class FittedLogistic:
    """Probabilities of all labels; one that the training rows lacked gets 0."""

    features: Callable[[pa.Table], np.ndarray]
    scale: Any
    model: Any
    labels: list[str]

    def predict(self, rows: pa.Table) -> dict[str, Any]:
        """`prediction`: labels; `scores`: (rows, labels) probabilities."""
        import numpy as np

        scores = np.zeros((len(rows), len(self.labels)))
        places = [self.labels.index(label) for label in self.model.classes_]
        scores[:, places] = self.model.predict_proba(self.scale.transform(self.features(rows)))
        return {"prediction": [self.labels[place] for place in scores.argmax(1)], "scores": scores.tolist()}
