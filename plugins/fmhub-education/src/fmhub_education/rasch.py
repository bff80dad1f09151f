"""What item response theory and plain statistics say of an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmhub.evaluation.baselines.simple import label_names

if TYPE_CHECKING:
    import pyarrow as pa

    from fmhub.task import Setting

GRID = (0.02, 0.1, 0.5, 2.0)


@dataclass(frozen=True)
class Rasch:
    """A penalised effect of every person and every item (Rasch 1960); the penalty is the one with the least validation log loss.

    With `items_only` people are all alike.
    """

    items_only: bool = False
    name: str = "rasch"

    def fit(self, setting: Setting) -> Scored:
        """Multinomial where there are more than two answers."""
        names = ("item",) if self.items_only else ("item", "person")
        places: dict[tuple[str, str], int] = {}
        for name in names:
            for value in setting.train[name].to_pylist():
                places.setdefault((name, value), len(places))
        return fitted(setting, lambda rows: _one_hot(rows, names, places))


@dataclass(frozen=True)
class OtherAnswers:
    """A logistic regression for each item on the person's known answers to the others: their levels, 0 where unknown, and their sum."""

    name: str = "other-answers"

    def fit(self, setting: Setting) -> Scored:
        """One model with a block of columns an item, so that one penalty serves all."""
        items = sorted(set(setting.train["item"].to_pylist()))
        levels = label_names(setting)
        return fitted(setting, lambda rows: _blocks(rows, items, levels))


@dataclass
class Scored:
    """A scikit-learn model on sparse numbers of a row."""

    numbers: Any
    model: Any
    labels: Sequence[str]

    def predict(self, rows: pa.Table) -> dict[str, Any]:
        """`prediction` and `scores`, probabilities in the order of the labels."""
        import numpy as np

        scores = np.zeros((len(rows), len(self.labels)))
        scores[:, [self.labels.index(label) for label in self.model.classes_]] = self.model.predict_proba(self.numbers(rows))
        return {"prediction": [self.labels[best] for best in scores.argmax(1)], "scores": scores.tolist()}


def fitted(setting: Setting, numbers: Any) -> Scored:
    """Logistic regression on `numbers(rows)`."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    labels = label_names(setting)
    seen, target = numbers(setting.train), [str(value) for value in setting.train["target"].to_pylist()]
    truth = [labels.index(str(value)) for value in setting.validation["target"].to_pylist()]
    found = [Scored(numbers, LogisticRegression(C=penalty, max_iter=2000).fit(seen, target), labels) for penalty in GRID]

    def loss(one: Scored) -> float:
        scores = np.array(one.predict(setting.validation)["scores"])
        return float(-np.log(np.maximum(scores[np.arange(len(truth)), truth], 1e-12)).sum())

    return min(found, key=loss)


def _one_hot(rows: pa.Table, names: Sequence[str], places: dict[tuple[str, str], int]) -> Any:
    from scipy.sparse import csr_matrix

    cells = [
        (row, places[name, value])
        for name in names
        for row, value in enumerate(rows[name].to_pylist() if name in rows.column_names else [])
        if (name, value) in places
    ]
    return csr_matrix(([1.0] * len(cells), tuple(zip(*cells, strict=True)) or ([], [])), (len(rows), len(places)))


def _blocks(rows: pa.Table, items: Sequence[str], levels: Sequence[str]) -> Any:
    from scipy.sparse import csr_matrix

    place, wide = {item: number for number, item in enumerate(items)}, len(items) + 2
    worth = {level: 2 * number / max(1, len(levels) - 1) - 1 for number, level in enumerate(levels)}
    values, lines, columns = [], [], []
    for row, (item, known, answers) in enumerate(zip(*(rows[name].to_pylist() for name in ("item", "known", "answers")), strict=True)):
        if item not in place:
            continue
        start = place[item] * wide
        given = [(place[other], worth[answer]) for other, answer in zip(known, answers, strict=True) if other in place]
        total = sum(value for _, value in given) / (len(given) + 2) * len(items) / 4
        for column, value in [*given, (len(items), total), (len(items) + 1, 1.0)]:
            values.append(value)
            lines.append(row)
            columns.append(start + column)
    return csr_matrix((values, (lines, columns)), (len(rows), len(items) * wide))
