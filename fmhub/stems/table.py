"""A row of a table: one token a column, from its name and its value, or the whole row as a text.

Names and categories enter as what the pretrained backbone says of them, so that `purpose: used car` is near to `purpose:
new car` before anything is learnt. Beside the tokens stands `wide`, the row as plain standardised numbers, which a linear head
reads past the backbone (Cheng et al. 2016, arXiv:1606.07792): few rows teach a line before they teach a transformer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fmhub.errors import DataError, nearest
from fmhub.stems.text import Text
from fmhub.task import Encoded

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch

    from fmhub.backbones.load import Backbone
    from fmhub.recipe import Recipe
    from fmhub.stems.columns import Category, Number
    from fmhub.task import Known


@dataclass(frozen=True)
class Table:
    """One token a column; augmentation hides cells at random, at most 30 % of them."""

    fields: tuple[str, ...] = ()
    """The columns that are read; by default all that have no role."""
    skip: tuple[str, ...] = ()
    """Columns that are never read."""
    numbers: tuple[Number, ...] = ()
    categories: tuple[Category, ...] = ()
    constant: tuple[str, ...] = ()
    """Columns that say nothing, since all training rows have the same value."""
    centre: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    """Mean and 1 / deviation (0 where there is none) of each number of `wide`; these five are set by `fit`."""

    @property
    def unit(self) -> str:
        return "columns"

    @property
    def notes(self) -> tuple[str, ...]:
        """The columns that are not read, and why."""
        return (f"the same in every training row, so not read: {', '.join(self.constant)}",) if self.constant else ()

    def fit(self, known: Known) -> Table:
        """A copy that knows kinds, scales and categories. Raises `DataError` naming a column that cannot be used."""
        import numpy as np

        from fmhub.data.tables import ROLES
        from fmhub.stems import columns

        train = known.train
        names = self.fields or tuple(name for name in train.column_names if name not in (*ROLES, *self.skip))
        if unknown := [name for name in names if name not in train.column_names]:
            raise DataError(f"No column {unknown[0]!r}.{nearest(unknown[0], train.column_names)}")
        found = {name: columns.fit(train, name) for name in names}
        numbers = tuple(one for one in found.values() if one is not None and len(one) == 4)
        categories = tuple(one for one in found.values() if one is not None and len(one) == 2)
        if not numbers and not categories:
            raise DataError("No column tells one training row from another: there is nothing to read.")
        constant = tuple(name for name, one in found.items() if one is None)
        fitted = replace(self, fields=names, numbers=numbers, categories=categories, constant=constant)
        raw = fitted._raw(train)
        deviation = raw.std(0)
        scale = np.where(deviation > 1e-6, 1 / np.maximum(deviation, 1e-6), 0)
        return replace(fitted, centre=tuple(raw.mean(0).tolist()), scale=tuple(scale.tolist()))

    def typed(self, value: Any, catalogue: pa.Table | None = None) -> Mapping[str, Any]:
        """A row from what a person types: `age=45; purpose=car`, or JSON; a column that is not named is missing.

        A category that training never had is refused by name, for it is mostly a slip of the pen; JSON or a mapping may hold one.
        """
        from fmhub.stems import columns

        pairs = isinstance(value, str) and not value.lstrip().startswith("{")
        row = _pairs(value) if isinstance(value, str) else dict(value)
        if unknown := next((name for name in row if name not in self.fields), None):
            raise DataError(f"Unknown column {unknown!r}.{nearest(unknown, self.fields)} Columns: {', '.join(self.fields)}.")
        for name, known in self.categories if pairs else ():
            told = None if row.get(name) is None else str(row[name]).strip()
            if told and told not in known:
                known_ones = "; ".join(known[:8]) + ("; ..." if len(known) > 8 else "")
                raise DataError(f"Column {name!r}: training had no {told!r}.{nearest(told, known)} It had: {known_ones}.")
        numbers = {name for name, *_ in self.numbers}
        return {name: columns.typed(name, row.get(name), number=name in numbers) for name in self.fields}

    def encode(self, table: pa.Table, backbone: Backbone, recipe: Recipe) -> Encoded:
        """`wide` (rows, numbers) float32, and for each category the index of its value (0 missing, 1 never seen in training)."""
        import numpy as np

        return Encoded(np.full(len(table), self._width, np.int64), {"wide": self.design(table), "levels": self._levels(table)})

    def design(self, table: pa.Table) -> np.ndarray:
        """(rows, numbers) float32: numbers coded and categories one-hot, all standardised on the training rows."""
        import numpy as np

        wide: np.ndarray = (self._raw(table) - np.array(self.centre)) * np.array(self.scale)
        return wide.astype(np.float32)

    @property
    def _width(self) -> int:
        return len(self.numbers) + len(self.categories)

    def _raw(self, table: pa.Table) -> np.ndarray:
        import numpy as np

        from fmhub.stems import columns

        coded = [columns.code(one, columns.numbers(table, one[0])) for one in self.numbers]
        levels = self._levels(table)
        coded += [levels[:, [place]] == np.arange(2 + len(known)) for place, (_, known) in enumerate(self.categories)]
        return np.concatenate(coded, axis=1).astype(np.float64)

    def _levels(self, table: pa.Table) -> np.ndarray:
        import numpy as np

        from fmhub.stems import columns

        found = np.zeros((len(table), len(self.categories)), np.int64)
        for place, (name, known) in enumerate(self.categories):
            index = {value: number for number, value in enumerate(known, 2)}
            found[:, place] = [0 if value is None else index.get(value, 1) for value in columns.texts(table, name)]
        return found

    def batch(self, encoded: Encoded, rows: np.ndarray, *, random: np.random.Generator | None, strength: float) -> dict[str, torch.Tensor]:
        """`wide` (rows, numbers) float32, `levels` (rows, categories) int64 and `hidden` (rows, columns), where a cell is hidden."""
        import numpy as np
        import torch

        hidden = np.zeros((len(rows), self._width), bool)
        if random is not None and strength > 0:
            hidden = random.random(hidden.shape) < 0.3 * strength
        values = {name: encoded.values[name][rows] for name in ("wide", "levels")}
        return {name: torch.from_numpy(value) for name, value in {**values, "hidden": hidden}.items()}

    def build(self, backbone: Backbone, recipe: Recipe, known: Known | None = None) -> torch.nn.Module:
        """See `fmhub.stems.cells.Cells`. A restored run has the vectors of names and values from the adapter's file."""
        from fmhub.stems.cells import Cells

        return Cells(self, backbone, recipe.dropout, computed=known is not None)


@dataclass(frozen=True)
class Rows(Table):
    """The row as one text, `age: 45; purpose: car`, through the backbone's own tokenizer; missing cells are left out."""

    @property
    def unit(self) -> str:
        return "tokens"

    def fit(self, known: Known) -> Rows:
        """See `Table.fit`."""
        fitted = super().fit(known)
        assert isinstance(fitted, Rows)
        return fitted

    def encode(self, table: pa.Table, backbone: Backbone, recipe: Recipe) -> Encoded:
        """What `Text` makes of the rows' texts, and `wide`."""
        import pyarrow as pa

        texts = pa.table({"id": table["id"], "text": pa.array(self.texts(table), pa.string())})
        encoded = Text().encode(texts, backbone, recipe)
        return replace(encoded, values={**encoded.values, "wide": self.design(table)})

    def texts(self, table: pa.Table) -> list[str]:
        """One text a row, its columns in the order of `fields`; numbers to six digits."""
        from fmhub.stems import columns

        names = [name for name in self.fields if name not in self.constant]
        numbers = {name for name, *_ in self.numbers}
        cells = zip(*(columns.texts(table, name, rounded=name in numbers) for name in names), strict=True)
        return ["; ".join(f"{name}: {value}" for name, value in zip(names, row, strict=True) if value is not None) for row in cells]

    def batch(self, encoded: Encoded, rows: np.ndarray, *, random: np.random.Generator | None, strength: float) -> dict[str, torch.Tensor]:
        """The text's tensors and `wide`."""
        import torch

        words = Text().batch(encoded, rows, random=random, strength=strength)
        return {**words, "wide": torch.from_numpy(encoded.values["wide"][rows])}

    def build(self, backbone: Backbone, recipe: Recipe, known: Known | None = None) -> torch.nn.Module:
        """Nothing of its own to train; it tells the head how wide `wide` is."""
        from fmhub.stems.cells import Beside

        return Beside(len(self.centre))


def _pairs(text: str) -> dict[str, Any]:
    """JSON, or `name=value` parted by semicolons."""
    import json

    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text)
        except ValueError:
            raise DataError(f"Not JSON: {text[:60]!r}.") from None
        return dict(found)
    parts = [part.partition("=") for part in text.split(";") if part.strip()]
    if not parts or not all(mark for _, mark, _ in parts):
        raise DataError(f"A row is typed as `column=value; column=value`, not {text[:60]!r}.")
    return {name.strip(): value.strip() for name, _, value in parts}
