"""Ratings of things by people as rows of a table: what the person gives elsewhere, and what others give the thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmhub import data, stems
from fmhub.errors import DataError, nearest
from fmhub_education import pinned
from fmhub_education.answered import checked

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from fmhub.task import Setting, Splits

PERSON, ITEM = "rating by this person elsewhere", "rating of this by others"
COUNTS = ("ratings by this person", "ratings of this")
SHRINK = (12.0, 5.0)
"""Ratings at the mean that every person, and every thing, is thought to have beside its own."""
COLUMNS = ("row", "student", "lecturer", "semesters studied", "semesters since", "service", "department", "rating")


def evaluations() -> pa.Table:
    """73,421 ratings 1 to 5 that 2,972 students gave 1,128 lecturers at ETH Zurich."""
    import pyarrow as pa

    _, numbers = pinned.constants("InstEval")
    table = dict(zip(COLUMNS, numbers.reshape(len(COLUMNS), -1), strict=True))
    return pa.table(
        {
            "person": [f"s{one}" for one in table["student"]],
            "item": [f"d{one}" for one in table["lecturer"]],
            "semesters studied": table["semesters studied"].astype("float64"),
            "semesters since the lecture": table["semesters since"].astype("float64"),
            "lecture for": ["another department" if one else "the own department" for one in table["service"]],
            "department": [f"department {one}" for one in table["department"]],
            "rating": table["rating"].astype("float64"),
        }
    )


@dataclass(frozen=True)
class ByCell:
    """Shares of all ratings, drawn at random; what is known of people and things comes from the other ratings of the training part."""

    test: float = 0.2
    validation: float = 0.1
    seed: int = 0

    def split(self, given: Mapping[str, pa.Table], fields: tuple[str, ...]) -> tuple[dict[str, pa.Table], list[str]]:
        """Tables by split with four columns more. Raises `DataError` naming the row."""
        tables = {name: _named(table) for name, table in given.items()}
        rule: Any = data.Random(self.test, self.validation, stratify=False, seed=self.seed)
        if list(tables) != [""]:
            rule = data.Given(self.validation, seed=self.seed)
        tables, notes = rule.split(tables, ("person", "item", "id"))
        train = tables["train"]
        return {name: known(table, train, own=name == "train") for name, table in tables.items()}, notes


def _named(table: pa.Table) -> pa.Table:
    """People and things as text; see `checked`. Raises `DataError` also for a rating that is no number."""
    for row, value in zip(table["id"].to_pylist(), table["target"].to_pylist(), strict=True):
        try:
            float(value)
        except (TypeError, ValueError):
            raise DataError(f"row {row}: the rating is {value!r}, not a number. Are columns swapped?") from None
    return checked(table, "rated")


def known(rows: pa.Table, train: pa.Table, *, own: bool = False) -> pa.Table:
    """`rows` with what the ratings of `train` say of person and thing; with `own` the rows are those, and each leaves itself out."""
    import numpy as np

    people, things = (_numbers(train[name].to_pylist()) for name in ("person", "item"))
    given = np.array([float(value) for value in train["target"].to_pylist()])
    mean, by_person, by_item = effects(people, things, given, SHRINK)
    sides = (("person", people, given - mean - by_item[things[1]]), ("item", things, given - mean - by_person[people[1]]))
    for (name, (place, codes), rest), column, count, shrink in zip(sides, (PERSON, ITEM), COUNTS, SHRINK, strict=True):
        total = np.append(np.bincount(codes, rest, len(place)), 0.0)
        seen = np.append(np.bincount(codes, minlength=len(place)), 0).astype(np.float64)
        here = np.array([place.get(value, len(place)) for value in rows[name].to_pylist()])
        left, fewer = (rest, 1.0) if own else (0.0, 0.0)
        rows = rows.append_column(column, [mean + (total[here] - left) / (seen[here] - fewer + shrink)])
        rows = rows.append_column(count, [seen[here] - fewer])
    return rows


def _numbers(values: list[str]) -> tuple[dict[str, int], np.ndarray]:
    import numpy as np

    place = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return place, np.array([place[value] for value in values])


def effects(people: Any, things: Any, given: np.ndarray, shrink: tuple[float, float]) -> tuple[float, np.ndarray, np.ndarray]:
    """(mean, effect of every person, of every thing): least squares with a penalty, each side in turn until it settles."""
    import numpy as np

    mean = float(given.mean())
    counts = [np.bincount(codes, minlength=len(place)) for place, codes in (people, things)]
    by_person, by_item = (np.zeros(len(place)) for place, _ in (people, things))
    for _ in range(12):
        by_item = np.bincount(things[1], given - mean - by_person[people[1]], len(by_item)) / (counts[1] + shrink[1])
        by_person = np.bincount(people[1], given - mean - by_item[things[1]], len(by_person)) / (counts[0] + shrink[0])
    return mean, by_person, by_item


@dataclass(frozen=True)
class Ratings(stems.Table):
    """The table stem; what is typed may be `person=NAME; item=NAME` with further columns, looked up in the run's data."""

    skip: tuple[str, ...] = ("person", "item")

    def typed(self, value: Any, splits: Splits | None = None) -> Mapping[str, Any]:
        """A row from what a person types. Raises `DataError` for somebody or something that training does not know."""
        import pyarrow as pa

        row = dict(_pairs(value)) if isinstance(value, str) and not value.lstrip().startswith("{") else value
        if not isinstance(row, dict) or "person" not in row or splits is None:
            return super().typed(value)
        train = splits.tables["train"]
        for name in ("person", "item"):
            there = set(train[name].to_pylist())
            if str(row.get(name, "")) not in there:
                raise DataError(f"Unknown {name} {str(row.get(name, ''))!r}.{nearest(str(row.get(name, '')), there)}")
        told = known(pa.table({name: [str(row[name])] for name in ("person", "item")}), train).to_pylist()[0]
        rest = {name: one for name, one in row.items() if name not in ("person", "item")}
        return super().typed({**{name: told[name] for name in (PERSON, ITEM, *COUNTS)}, **rest})


def _pairs(text: str) -> dict[str, str]:
    parts = [part.partition("=") for part in text.split(";") if part.strip()]
    return {name.strip(): value.strip() for name, _, value in parts}


@dataclass(frozen=True)
class Bias:
    """The mean with an effect of every person and every thing; the penalties are those with the least validation error."""

    grid: tuple[tuple[float, float], ...] = ((3, 5), (7, 5), (12, 5), (20, 5), (12, 10))
    name: str = "bias"

    def fit(self, setting: Setting) -> FittedBias:
        """Somebody or something that training lacks has no effect."""
        import numpy as np

        people, things = (_numbers(setting.train[name].to_pylist()) for name in ("person", "item"))
        given = np.array([float(value) for value in setting.train["target"].to_pylist()])
        truth = np.array([float(value) for value in setting.validation["target"].to_pylist()])
        found = [FittedBias(people[0], things[0], *effects(people, things, given, shrink)) for shrink in self.grid]
        return min(found, key=lambda one: float(((one.predict(setting.validation)["prediction"] - truth) ** 2).sum()))


@dataclass
class FittedBias:
    """Effects by name."""

    people: dict[str, int]
    things: dict[str, int]
    mean: float
    by_person: np.ndarray
    by_item: np.ndarray

    def predict(self, rows: pa.Table) -> dict[str, Any]:
        """`prediction`: ratings."""
        import numpy as np

        found = np.full(len(rows), self.mean)
        for name, place, effect in (("person", self.people, self.by_person), ("item", self.things, self.by_item)):
            padded = np.append(effect, 0.0)
            found += padded[[place.get(value, len(effect)) for value in rows[name].to_pylist()]]
        return {"prediction": found}
