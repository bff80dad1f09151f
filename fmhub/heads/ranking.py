"""Which item comes next, out of all there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

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
    """Softmax over all items, whose vectors are the stem's own (a stem with a `table()`); items already met are not ranked.

    In training each place of a sequence has the `horizon` items that follow it as targets, the next one counting 1, each
    later one `fade` times the one before it. A prediction is a list of the first `kept` item ids, best first.
    """

    labels: Sequence[str] = ()
    """Ids of all items; set by `fit`."""
    prior: Sequence[float] = ()
    """Where each item's bias starts: the log of how often it occurs in training; set by `fit`."""
    horizon: int = 1
    fade: float = 0.7
    kept: int = 100
    reads: Reads = Reads("all")

    def fit(self, known: Known, recipe: Recipe) -> Ranking:
        """A copy that knows the items of its catalogue and how frequent each is."""
        import math
        from collections import Counter

        labels = tuple(known.things(self)["id"].to_pylist())
        counts = Counter(
            item for column in (known.train["history"].to_pylist(), [known.train["target"].to_pylist()]) for row in column for item in row
        )
        mean = counts.total() / len(labels)
        return replace(self, labels=labels, prior=tuple(round(math.log((counts[item] + 1) / (mean + 1)), 4) for item in labels))

    def targets(self, table: pa.Table) -> dict[str, list[np.ndarray]]:
        """`events`: the numbers of a row's history and, last, of its target."""
        import numpy as np

        place = {name: number for number, name in enumerate(self.labels)}
        found = []
        for name, history, target in zip(*(table[column].to_pylist() for column in ("id", "history", "target")), strict=True):
            events = [*history, target]
            if unknown := next((item for item in events if item not in place), None):
                raise DataError(f"Row {name}: item {unknown!r} is not in the catalogue.{nearest(unknown, self.labels)}")
            found.append(np.array([place[item] for item in events]))
        return {"events": found}

    def build(self, backbone: Backbone, stem: torch.nn.Module | None, recipe: Recipe) -> torch.nn.Module:
        """See `fmhub.heads.tied.Tied`. Raises `UsageError` for a stem without items."""
        from fmhub.heads.tied import Tied

        if not callable(getattr(stem, "table", None)):
            raise UsageError("A ranking head needs a stem with items, such as stems.Events().")
        return Tied(backbone.width, stem, self.prior, recipe.dropout)

    def loss(self, outputs: Any, targets: dict[str, Any], recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor]:
        """Divergence (Kullback & Leibler) from the shares of the items that follow each place: 0 where they are said exactly."""
        import torch

        follow = torch.full((*outputs.mask.shape, self.horizon), -1)
        for row, (events, count) in enumerate(zip(targets["events"], outputs.mask.sum(1).tolist(), strict=True)):
            for ahead in range(min(self.horizon, count)):
                later = events[len(events) - count + ahead :]
                follow[row, : len(later), ahead] = torch.from_numpy(later)
        follow = follow.to(outputs.logits.device)[outputs.mask]
        weight = (follow >= 0) * self.fade ** torch.arange(self.horizon, device=follow.device)
        share = weight / weight.sum(1, keepdim=True)
        said = outputs.logits.float().log_softmax(-1).gather(1, follow.clamp(min=0))
        return (torch.special.xlogy(share, share) - share * said).sum(), said.new_tensor(float(len(said)))

    def decode(self, outputs: Any) -> dict[str, Any]:
        """`prediction`: lists of item ids, best first, without those already met."""
        import torch

        logits = torch.nn.functional.pad(outputs.logits.float(), (0, 1)).scatter(1, outputs.met, -torch.inf)[:, :-1]
        best = logits.topk(min(self.kept, logits.shape[1]), dim=-1)
        rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return {"prediction": [[self.labels[item] for item, value in zip(*row, strict=True) if value > -float("inf")] for row in rows]}

    def readable(self, prediction: Sequence[str], catalogue: pa.Table | None) -> list[str]:
        """Titles of the first ten, where the catalogue is at hand."""
        titles = {} if catalogue is None else dict(zip(*(catalogue[name].to_pylist() for name in ("id", "title")), strict=True))
        return [titles.get(item, item) for item in prediction[:10]]
