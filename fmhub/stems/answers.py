"""A question put to somebody whose answers to other questions are known: one token a question, the one that is asked first.

A token is what the pretrained backbone says of the question's text and of the answer's, turned by a trained matrix, plus trained
vectors of their own: two questions that read alike are near to each other before anything is learnt. Beside the tokens
stands `wide`: which question it is and how this person answers on the whole, which is what a Rasch model (Rasch 1960) knows, and
how the person answers questions that share its words, or that training answers like it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fmhub.errors import DataError, nearest
from fmhub.task import Encoded

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch

    from fmhub.backbones.load import Backbone
    from fmhub.recipe import Recipe
    from fmhub.task import Known, Splits


MOST = 256
"""Questions up to which every two are compared."""


@dataclass(frozen=True)
class Answers:
    """`item` is a question's text, `known` those of other questions and `answers` what was answered to them, as long a list.

    Augmentation leaves known answers out at random, at most half of them. An answer's level is its place in the natural order.
    """

    items: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()
    """Questions and answers of the training rows; set by `fit`, with what follows."""
    alike: tuple[tuple[float, ...], ...] = ()
    """How answers to two questions go together, -1 to 1, 0 of a question with itself; empty for more than `MOST` questions."""
    fields: tuple[str, ...] = ("item", "known", "answers")
    unit: str = "answers"

    def fit(self, known: Known) -> Answers:
        """A copy that knows the questions and answers. Raises `DataError` where nobody has answered two questions."""
        rows = list(zip(*(known.train[name].to_pylist() for name in self.fields), strict=True))
        items = {item for item, others, _ in rows for item in (item, *(others or ()))}
        levels = {level for *_, answers in rows for level in answers or ()}
        if len(levels) < 2:
            raise DataError("No two different answers are known of the people of the training part: there is nothing to go by.")
        fitted = replace(self, items=tuple(sorted(items)), levels=tuple(sorted(levels, key=_natural)))
        return replace(fitted, alike=fitted._correlations(known.train)) if len(items) <= MOST else fitted

    def typed(self, value: Any, splits: Splits | None) -> Mapping[str, Any]:
        """A row from `person=NAME; item=TEXT`, whose known answers are those of the run's data, or from a whole row as JSON."""
        import json

        if isinstance(value, str) and value.lstrip().startswith("{"):
            try:
                value = json.loads(value)
            except ValueError:
                raise DataError(f"Not JSON: {value[:60]!r}.") from None
        elif isinstance(value, str):
            person, mark, item = value.partition(";")
            if not mark or not person.strip().startswith("person=") or not item.strip().startswith("item="):
                raise DataError(f"A question is typed as `person=NAME; item=TEXT`, not {value[:60]!r}.")
            value = {"person": person.strip().removeprefix("person=").strip(), "item": item.strip().removeprefix("item=").strip()}
        row = dict(value)
        if "known" not in row and "person" in row:
            row.update(_answered(str(row["person"]), str(row.get("item", "")), splits))
        if not row.get("item"):
            raise DataError("A question needs its text: `person=NAME; item=TEXT`, or JSON with `item`, `known` and `answers`.")
        return {"known": [], "answers": [], **row}

    def encode(self, table: pa.Table, backbone: Backbone, recipe: Recipe) -> Encoded:
        """`items` and `answers` (0 for what is asked) in flat arrays with offsets, and `wide`. Raises `DataError` naming the row."""
        import numpy as np

        most = min(recipe.length, backbone.max_length)
        items, answers, cut = [], [], []
        for asked, others, given in self._rows(table):
            cut.append(len(others) >= most)
            items.append(np.array([asked, *others[: most - 1]]))
            answers.append(np.array([0, *(level + 1 for level in given[: most - 1])]))
        lengths = np.array([len(row) for row in items], np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        values = {"items": np.concatenate(items), "answers": np.concatenate(answers), "offsets": offsets, "wide": self.design(table)}
        return Encoded(lengths, values, np.array(cut, bool))

    def design(self, table: pa.Table) -> np.ndarray:
        """(rows, questions + 3) float32: which question is asked, and three means of the known answers' levels, -1 to 1, shrunk to 0:
        of all, of those that share its words, of those that go with it."""
        import numpy as np

        asked, given = self._matrix(table)
        wide = np.zeros((len(table), len(self.items) + 3), np.float32)
        wide[np.arange(len(table)), asked] = 1
        real = given != 0
        for column, weights in ((-3, None), (-2, self._words()), (-1, np.array(self.alike) if self.alike else None)):
            if weights is not None or column == -3:
                weight = real * (np.ones(len(self.items)) if weights is None else weights[asked])
                wide[:, column] = (weight * given).sum(1) / (np.abs(weight).sum(1) + 0.15 * max(1e-9, np.abs(weight).max()))
        return wide

    def _words(self) -> np.ndarray:
        """(questions, questions): the share of their words that two have in common, to the fourth power so that the nearest count most."""
        import re

        import numpy as np

        bags = [set(re.findall(r"\w+", item.casefold())) for item in self.items]
        return np.array([[len(one & other) / max(1, len(one | other)) for other in bags] for one in bags]) ** 4

    def _correlations(self, train: pa.Table) -> tuple[tuple[float, ...], ...]:
        """Of the known answers, pairs that few people have answered both shrunk to 0."""
        import numpy as np

        _, given = self._matrix(train)
        real = (given != 0).astype(np.float64)
        centred = (given - given.sum(0) / np.maximum(real.sum(0), 1)) * real
        spread = np.sqrt(np.maximum((centred**2).sum(0) / np.maximum(real.sum(0), 1), 1e-9))
        found = centred.T @ centred / (real.T @ real + 20) / np.outer(spread, spread)
        np.fill_diagonal(found, 0)
        return tuple(tuple(row) for row in found.round(4).tolist())

    def _matrix(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """(rows,) the question that is asked, and (rows, questions) the known answers from -1 to 1, 0 where there is none."""
        import numpy as np

        rows, top = self._rows(table), max(1, len(self.levels) - 1)
        given = np.zeros((len(rows), len(self.items)), np.float32)
        for row, (_, known, levels) in enumerate(rows):
            given[row, known] = [2 * level / top - 1 or 1e-6 for level in levels]  # a middle answer is one
        return np.array([asked for asked, *_ in rows], np.int64), given

    def _rows(self, table: pa.Table) -> list[tuple[int, list[int], list[int]]]:
        """(question, known questions, levels of their answers) of every row, by number."""
        items = {item: place for place, item in enumerate(self.items)}
        levels = {level: place for place, level in enumerate(self.levels)}
        rows = []
        for name, item, known, answers in zip(*(table[name].to_pylist() for name in ("id", *self.fields)), strict=True):
            known, answers = known or [], answers or []
            if len(known) != len(answers):
                raise DataError(f"Row {name}: {len(known)} questions are known and {len(answers)} answers.")
            for what, values, places in (("question", [item, *known], items), ("answer", answers, levels)):
                if None in values or "" in values:
                    raise DataError(f"Row {name}: a {what} is empty. Fill or remove the row.")
                if strange := next((value for value in values if value not in places), None):
                    raise DataError(f"Row {name}: training has no {what} {str(strange)[:60]!r}.{nearest(str(strange), places)}")
            rows.append((items[item], [items[one] for one in known], [levels[one] for one in answers]))
        return rows

    def batch(self, encoded: Encoded, rows: np.ndarray, *, random: np.random.Generator | None, strength: float) -> dict[str, torch.Tensor]:
        """`items` and `answers` (rows, longest) int64, `attention_mask` of that shape, and `wide`."""
        import numpy as np
        import torch

        offsets, lengths = encoded.values["offsets"][rows], encoded.lengths[rows]
        columns = np.arange(int(lengths.max()))
        real = columns < lengths[:, None]
        where = np.where(real, offsets[:, None] + columns, 0)
        batch = {name: np.where(real, encoded.values[name][where], 0) for name in ("items", "answers")}
        if random is not None and strength > 0:
            real &= (columns == 0) | (random.random(real.shape) >= 0.5 * strength)
        batch["attention_mask"] = real
        found = {name: torch.from_numpy(value.astype(np.int64)) for name, value in batch.items()}
        return {**found, "wide": torch.from_numpy(encoded.values["wide"][rows])}

    def build(self, backbone: Backbone, recipe: Recipe, known: Known | None) -> torch.nn.Module:
        """See `fmhub.stems.asked.Asked`. A restored run has the texts' vectors from the adapter's file."""
        from fmhub.stems.asked import Asked

        return Asked(backbone, self.items, self.levels, recipe.dropout, computed=known is not None)


def _natural(level: str) -> tuple[float, str]:
    """Numbers in their own order before words in theirs."""
    try:
        return float(level), ""
    except ValueError:
        return float("inf"), level


def _answered(person: str, item: str, splits: Splits | None) -> dict[str, list[str]]:
    """What training knows of a person's answers, but that to `item`. Raises `DataError` for a person it does not know."""
    train = None if splits is None else splits.tables["train"]
    if train is None or "person" not in train.column_names:
        raise DataError("The run's data are not to be had: give `item`, `known` and `answers` as JSON.")
    rows = [row for row in zip(*(train[name].to_pylist() for name in ("person", "item", "target")), strict=True) if str(row[0]) == person]
    if not rows:
        people = sorted({str(name) for name in train["person"].to_pylist()})
        raise DataError(f"Unknown person {person!r}.{nearest(person, people)} Or give `item`, `known` and `answers` as JSON.")
    rows = [row for row in rows if row[1] != item]
    return {"known": [row[1] for row in rows], "answers": [str(row[2]) for row in rows]}
