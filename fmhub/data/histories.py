"""Events of users as rows that carry their own past: who met which item when, and what comes next.

Every user's last event by (time, file order) is a test row, the one before a validation row; of all earlier ones every
`window`-th, counted from the last, is a training row. The rows' columns: `user`, `history` (the ids of all that the user met
before, oldest first), `times` (seconds, one for each of the history), `time` (of the target, which is when the prediction is
asked for), `target` (the next item's id), and `target_seen` (how often training met it, so that cold items can be scored apart).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fmhub.errors import DataError, UsageError, nearest
from fmhub.task import Splits

if TYPE_CHECKING:
    import pyarrow as pa

    from fmhub.data import Data
    from fmhub.task import StemSpec

ROLES = ("user", "item", "time")


@dataclass(frozen=True)
class Histories:
    """`events` has one row an event, with a `user`, an `item` and, unless the rows are in order, a `time` (seconds or a date).

    Its other text columns describe the item; joined they are the item's text in the catalogue, the first one its title.
    """

    events: Data
    window: int = 50
    """Events from one training row to the next: a stem that reads as many learns what follows every event exactly once."""

    def load(self) -> Splits:
        """Rows and the catalogue (`id`, `title`, `text`). Raises `DataError` naming the row that cannot be used."""
        from fmhub.data.events import load

        return load(self)

    def opened(self, reference: str, columns: Mapping[str, str], test: str | None, stem: StemSpec | None) -> Histories:
        """The same task on the user's own events."""
        from fmhub import data

        if test:
            raise UsageError("--test does not go with events: every user's last one is the test.")
        roles = {"item" if role in ("target", "label") else role: column for role, column in columns.items()}
        return replace(self, events=replace(data.open(reference), columns=tuple(roles.items())))


def people(rows: pa.Table) -> dict[str, list[str]]:
    """What each user of some rows met, oldest first: the events of the user's longest row and its target."""
    columns = (rows[name].to_pylist() for name in ("user", "history", "target"))
    longest = sorted(zip(*columns, strict=True), key=lambda row: len(row[1]))
    return {user: [*history, target] for user, history, target in longest}


def past(user: str, splits: Splits | None) -> dict[str, list[Any]]:
    """All that a user met, `history` and `times`, oldest first. Raises `DataError` for a user whom the data do not know."""
    rows = [row for table in (splits.tables.values() if splits else ()) for row in table.to_pylist() if row["user"] == user]
    if not rows:
        known = {} if splits is None else people(splits.tables["train"])
        raise DataError(f"Unknown user {user!r}.{nearest(user, known)} Give one who has two events or more in the run's data, or titles.")
    last = max(rows, key=lambda row: len(row["history"]))
    return {"history": [*last["history"], last["target"]], "times": [*last["times"], last["time"]]}


def events(tables: Mapping[str, pa.Table]) -> Iterator[tuple[str, tuple[str, str]]]:
    """(split, (user, item)) of all that each split gives away: of the training part every event, of the others what is asked."""
    for split, table in tables.items():
        if split == "train":
            yield from ((split, (user, item)) for user, items in people(table).items() for item in items)
        else:
            yield from ((split, pair) for pair in zip(table["user"].to_pylist(), table["target"].to_pylist(), strict=True))
