"""Which item comes next, out of all there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fmhub.data.histories import people
from fmhub.errors import DataError, UsageError, nearest
from fmhub.task import Reads

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch

    from fmhub.backbones.load import Backbone
    from fmhub.recipe import Recipe
    from fmhub.task import Known


@dataclass(frozen=True)
class Ranking:
    """Softmax over the items that were not met yet, whose vectors are the stem's own (a stem with a `table()`).

    In training each place of a sequence has the `horizon` items that follow it as targets, the next one counting 1, each
    later one `fade` times the one before it. A prediction is a list of the first `kept` item ids, best first.
    """

    labels: Sequence[str] = ()
    """Ids of all items; set by `fit`."""
    prior: Sequence[float] = ()
    """Where each item's bias starts: the log of how many met it in training; set by `fit`."""
    horizon: int = 1
    fade: float = 0.7
    kept: int = 100
    reads: Reads = Reads("all")

    def fit(self, known: Known, recipe: Recipe) -> Ranking:
        """A copy that knows the items of its catalogue and how many people met each."""
        import math
        from collections import Counter

        labels = tuple(known.things(self)["id"].to_pylist())
        counts = Counter(item for events in people(known.train).values() for item in events)
        mean = counts.total() / len(labels)
        return replace(self, labels=labels, prior=tuple(round(math.log((counts[item] + 1) / (mean + 1)), 4) for item in labels))

    def targets(self, table: pa.Table) -> dict[str, np.ndarray]:
        """`next`: the number of the item that follows a row's last event; those that follow the others are in the stem's batch."""
        import numpy as np

        place = {name: number for number, name in enumerate(self.labels)}
        for name, target in zip(table["id"].to_pylist(), table["target"].to_pylist(), strict=True):
            if target not in place:
                raise DataError(f"Row {name}: item {target!r} is not in the catalogue.{nearest(target, self.labels)}")
        return {"next": np.array([place[target] for target in table["target"].to_pylist()], np.int64)}

    def build(self, backbone: Backbone, stem: torch.nn.Module | None, recipe: Recipe) -> torch.nn.Module:
        """See `fmhub.heads.tied.Tied`. Raises `UsageError` for a stem without items."""
        from fmhub.heads.tied import Tied

        if not callable(getattr(stem, "table", None)):
            raise UsageError("A ranking head needs a stem with items, such as stems.Events().")
        return Tied(backbone.width, stem, self.prior, recipe.dropout)

    def loss(self, outputs: Any, targets: dict[str, Any], recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor]:
        """Divergence (Kullback & Leibler) from the shares of the items that follow each place: 0 where they are said exactly."""
        import torch

        follow = _following(outputs.items, outputs.mask, targets["next"], self.horizon)[outputs.mask]
        said = outputs.logits.float().log_softmax(-1).gather(1, follow.clamp(min=0))
        able = (follow >= 0) & said.isfinite()  # an item that comes again cannot be said
        weight = able * self.fade ** torch.arange(self.horizon, device=follow.device)
        share = weight / weight.sum(1, keepdim=True).clamp(min=1e-9)
        lost = torch.special.xlogy(share, share) - share * said.where(able, 0)
        return lost.sum(), able.any(1).sum().to(lost.dtype)

    def decode(self, outputs: Any) -> dict[str, Any]:
        """`prediction`: lists of item ids, best first, without those already met."""
        best = outputs.logits.float().topk(min(self.kept, len(self.labels)), dim=-1)
        rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return {"prediction": [[self.labels[item] for item, value in zip(*row, strict=True) if value > -float("inf")] for row in rows]}

    def readable(self, prediction: Sequence[str], catalogue: pa.Table | None) -> list[str]:
        """Titles of the first ten, where the catalogue is at hand."""
        titles = {} if catalogue is None else dict(zip(*(catalogue[name].to_pylist() for name in ("id", "title")), strict=True))
        return [titles.get(item, item) for item in prediction[:10]]


def _following(items: torch.Tensor, mask: torch.Tensor, target: torch.Tensor, horizon: int) -> torch.Tensor:
    """(rows, events, horizon): the items that come after each place, of which `target` is the last; -1 beyond it."""
    import torch

    line = torch.nn.functional.pad(items.masked_fill(~mask, -1), (0, horizon), value=-1)
    line = line.scatter(1, mask.sum(1, keepdim=True), target[:, None])
    return line.unfold(1, horizon, 1)[:, 1:]
