"""Classical next-item methods: each scores every item of the catalogue from a row's `history`.

A method is fitted on the training rows and tuned on the validation rows' NDCG@10. What a user has met is not ranked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmhub.data.histories import people

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from fmhub.task import Setting

KEPT = 100
"""Items of a ranking that are kept."""


@dataclass
class Items:
    """`labels` are all items, in the order of the columns of every score; a row of `sequences` is one user's training events."""

    labels: Sequence[str]
    sequences: list[np.ndarray]

    @classmethod
    def of(cls, setting: Setting) -> Items:
        """Of the training rows."""
        import numpy as np

        labels: Sequence[str] = getattr(setting.head, "labels", ())
        place = {name: index for index, name in enumerate(labels)}
        return cls(labels, [np.array([place[item] for item in events]) for events in people(setting.train).values()])

    def met(self, rows: pa.Table, decay: float = 1.0) -> np.ndarray:
        """(rows, items) float64: decay ** (events since) for each item of the history, else 0; items nobody knows are left out."""
        import numpy as np

        place = {name: index for index, name in enumerate(self.labels)}
        found = np.zeros((len(rows), len(self.labels)))
        for row, history in enumerate(rows["history"].to_pylist()):
            known = [place[item] for item in history if item in place]
            found[row, known] = decay ** np.arange(len(known) - 1, -1, -1)
        return found

    def counts(self) -> np.ndarray:
        """(items,) float64: in how many users' training events an item is."""
        import numpy as np

        return np.bincount(np.concatenate(self.sequences), minlength=len(self.labels)).astype(np.float64)

    def together(self) -> np.ndarray:
        """(items, items) float64: how many users met both."""
        import numpy as np

        seen = np.zeros((len(self.sequences), len(self.labels)))
        for row, events in enumerate(self.sequences):
            seen[row, events] = 1
        return seen.T @ seen


@dataclass
class Ranker:
    """Ranks by `met(history, decay) @ matrix`, or by `matrix` alone where that is one row."""

    items: Items
    matrix: np.ndarray
    decay: float = 1.0

    def predict(self, rows: pa.Table) -> dict[str, Any]:
        """`prediction`: the first 100 item ids that are not in the history, best first."""
        import numpy as np

        scores = self.matrix if self.matrix.ndim == 1 else self.items.met(rows, self.decay) @ self.matrix
        scores = np.where(self.items.met(rows) > 0, -np.inf, scores)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :KEPT]
        return {"prediction": [[self.items.labels[item] for item in line if scores[row, item] > -np.inf] for row, line in enumerate(order)]}


def best(rankers: Iterator[Ranker], validation: pa.Table) -> Ranker:
    """The ranker with the highest validation NDCG@10, the first of equals."""
    from fmhub.evaluation.metrics.ranking import METRICS

    def value(ranker: Ranker) -> float:
        return METRICS["ndcg_10"].score({**ranker.predict(validation), "target": validation["target"].to_pylist()}, None)

    return max(rankers, key=value)


@dataclass(frozen=True)
class Popularity:
    """Items in the order of how many training users met them."""

    name: str = "popularity"

    def fit(self, setting: Setting) -> Ranker:
        items = Items.of(setting)
        return Ranker(items, items.counts())


@dataclass(frozen=True)
class ItemKNN:
    """The nearest items by cosine of who met them (Sarwar et al. 2001, doi:10.1145/371920.372071), shrunk where few did."""

    neighbours: Sequence[int] = (10, 20, 50, 100)
    shrink: Sequence[float] = (0.0, 10.0)
    name: str = "item-knn"

    def fit(self, setting: Setting) -> Ranker:
        import numpy as np

        items = Items.of(setting)
        together, norm = items.together(), np.sqrt(items.counts())

        def rankers() -> Iterator[Ranker]:
            for shrink in self.shrink:
                near = together / np.maximum(np.outer(norm, norm) + shrink, 1e-9)
                np.fill_diagonal(near, 0)
                ordered = np.sort(near, axis=1)
                for count in self.neighbours:
                    yield Ranker(items, np.where(near >= ordered[:, [-min(count, len(near))]], near, 0).T)

        return best(rankers(), setting.validation)


@dataclass(frozen=True)
class Ease:
    """A linear autoencoder with a closed form (Steck 2019, arXiv:1905.03375); `decays` below 1 let older events count less."""

    penalties: Sequence[float] = (50.0, 200.0, 500.0, 1000.0)
    decays: Sequence[float] = (1.0,)
    name: str = "ease"

    def fit(self, setting: Setting) -> Ranker:
        import numpy as np

        items = Items.of(setting)
        together = items.together()

        def rankers() -> Iterator[Ranker]:
            for penalty in self.penalties:
                inverse = np.linalg.inv(together + penalty * np.eye(len(together)))
                weights = -inverse / np.diag(inverse)
                np.fill_diagonal(weights, 0)
                yield from (Ranker(items, weights, decay) for decay in self.decays)

        return best(rankers(), setting.validation)


@dataclass(frozen=True)
class WindowedMarkov:
    """How often an item came at most `windows` events after another, nearer ones counting more, from each event of the history.

    With `both`, or before it: where many events bear one time, their order says little. `discounts` above 0 divide by a power
    of how many met the item.
    """

    windows: Sequence[int] = (5, 10, 20)
    decays: Sequence[float] = (0.95, 0.9, 0.8, 0.7)
    both: bool = False
    discounts: Sequence[float] = (0.0,)
    name: str = "windowed-markov"

    def fit(self, setting: Setting) -> Ranker:
        import numpy as np

        items = Items.of(setting)
        size = len(items.labels)

        def rankers() -> Iterator[Ranker]:
            for window in self.windows:
                steps = np.zeros((size, size))
                for events in items.sequences:
                    for gap in range(1, min(window, len(events) - 1) + 1):
                        np.add.at(steps, (events[:-gap], events[gap:]), gap**-0.5)
                steps = steps + steps.T if self.both else steps
                steps /= steps.sum(1, keepdims=True) + 5
                for discount in self.discounts:
                    scaled = steps / (items.counts() + 5) ** discount
                    yield from (Ranker(items, scaled, decay) for decay in self.decays)

        return best(rankers(), setting.validation)
