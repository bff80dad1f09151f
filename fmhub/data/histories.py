"""Events of users as rows that carry their own past: who met which item when, and what comes next.

Every user's last event by (time, file order) is a test row, the one before a validation row; all earlier ones are cut into
training windows. The rows' columns: `user`, `history` (item ids, oldest first), `times` (seconds, one for each of the
history), `time` (of the target, which is when the prediction is asked for), `target` (the next item's id), and `target_seen`
(how often training met it: `--groups target_seen` scores items apart that are cold).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fmhub.errors import UsageError
from fmhub.task import Splits

if TYPE_CHECKING:
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
    """Events of one training row: each but a user's first is the target of exactly one place in one row."""

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
