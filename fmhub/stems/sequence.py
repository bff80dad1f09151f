"""What a user met, in order: every event enters as one vector through the backbone's `inputs_embeds`.

An item's vector is what the pretrained backbone says of its text, turned by a trained matrix, plus a trained vector of its
own; beside it stand how long ago the event before was and how long it is until the next, in powers of two. The sequence
is read causally (Kang & McAuley 2018, arXiv:1808.09781), so that each place is an example of its own in training.

Many logs write several events at one moment (a page of ratings that is sent at once), whose order says nothing:
augmentation deals it out anew. Where the task asks for it, it hides items of the past, too (Sun et al. 2019, arXiv:1904.06690):
such an item is not read, but stays what the place before it has to say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fmhub.data.histories import past
from fmhub.errors import DataError, nearest
from fmhub.task import Encoded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import pyarrow as pa
    import torch

    from fmhub.backbones.load import Backbone
    from fmhub.recipe import Recipe
    from fmhub.task import Known, Splits

BUCKETS = 26
"""Of a gap in seconds: unknown, less than a second, then powers of two up to about a year."""
AT_ONCE = 1
"""The bucket of events of one moment."""


@dataclass(frozen=True)
class Events:
    """The last `recipe.length` events of `history`; augmentation reads those of one moment in any order, in `strength` of all rows."""

    hidden: float = 0.0
    """Share of events, 0 to 1, whose item augmentation hides at full strength; that something was met, and when, is read."""
    items: tuple[str, ...] = ()
    """Ids of the catalogue, in its order; set by `fit`."""
    fields: tuple[str, ...] = ("history", "times", "time")
    unit: str = "events"

    def fit(self, known: Known) -> Events:
        """A copy that knows the items of its catalogue."""
        return replace(self, items=tuple(known.things(self)["id"].to_pylist()))

    def typed(self, value: Any, splits: Splits | None) -> Mapping[str, Any]:
        """A row from what a person types: titles or ids, oldest first, as a list or parted by semicolons; `user=ID`; or a whole row."""
        from collections.abc import Mapping

        if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
            value = _json(value)
        elif isinstance(value, str) and value.startswith("user="):
            value = {"user": value.removeprefix("user=")}
        row = dict(value) if isinstance(value, Mapping) else {"history": value}
        if "user" in row and "history" not in row:
            row.update(past(str(row["user"]).strip(), splits))
        history = row.get("history")
        events = [part.strip() for part in history.split(";") if part.strip()] if isinstance(history, str) else history
        if not isinstance(events, list) or not events or not all(isinstance(event, str | int) for event in events):
            raise DataError(f"A history is a list of titles or ids, oldest first, not {str(history)[:60]!r}.")
        return {"times": None, "time": None, **row, "history": [self._named(str(event), splits) for event in events]}

    def _named(self, event: str, splits: Splits | None) -> str:
        """The id of an item by id or title; the title's year may be left out."""
        if event in self.items:
            return event
        titles: list[str] = [] if splits is None or splits.catalogue is None else splits.catalogue["title"].to_pylist()
        found = [
            item
            for item, title in zip(self.items, titles, strict=False)
            if event.lower() in (title.lower(), title.lower().rpartition(" (")[0])
        ]
        if not found:
            raise DataError(f"Unknown item {event!r}.{nearest(event, titles)} Give a title or an id of the catalogue.")
        return found[0]

    def encode(self, table: pa.Table, backbone: Backbone, recipe: Recipe) -> Encoded:
        """Item numbers and gap buckets of all rows in flat arrays with offsets. Raises `DataError` naming the row."""
        import numpy as np

        place = {name: number for number, name in enumerate(self.items)}
        most = min(recipe.length, backbone.max_length)
        numbers, gaps, waits, earlier = [], [], [], []
        columns = (table[name].to_pylist() for name in ("id", *self.fields))
        for name, history, times, time in zip(*columns, strict=True):
            if not history:
                raise DataError(f"Row {name}: the history is empty.")
            if unknown := next((item for item in history if item not in place), None):
                raise DataError(f"Row {name}: unknown item {unknown!r}.{nearest(unknown, self.items)}")
            if times is not None and len(times) != len(history):
                raise DataError(f"Row {name}: {len(history)} events and {len(times)} times.")
            all_ = np.array([place[item] for item in history])
            before, after = _gaps(times, time, len(history))
            earlier.append(all_[:-most])
            numbers.append(all_[-most:])
            gaps.append(before[-most:])
            waits.append(after[-most:])
        lengths = np.array([len(one) for one in numbers], np.int64)
        values = {"items": np.concatenate(numbers), "gaps": np.concatenate(gaps), "waits": np.concatenate(waits), "earlier": earlier}
        values["offsets"] = np.concatenate([[0], np.cumsum(lengths)])
        return Encoded(lengths, values)

    def batch(self, encoded: Encoded, rows: np.ndarray, *, random: np.random.Generator | None, strength: float) -> dict[str, torch.Tensor]:
        """`items`, `gaps`, `waits` (rows, longest) int64, `attention_mask` of the same shape, bool.

        `earlier` (rows, most) int64: what was met before the events that are read, padded with the number after the last item's.
        `hidden` of the first shape where there are such events: which of them are read without their item.
        """
        import numpy as np
        import torch

        offsets, lengths = encoded.values["offsets"][rows], encoded.lengths[rows]
        columns = np.arange(int(lengths.max()))
        real = columns < lengths[:, None]
        where = np.where(real, offsets[:, None] + columns, 0)
        batch = {name: np.where(real, encoded.values[name][where], 0) for name in ("items", "gaps", "waits")}
        if random is not None and strength > 0:
            batch["items"] = np.take_along_axis(batch["items"], _reordered(batch["gaps"], random, strength), 1)
            if self.hidden:
                batch["hidden"] = random.random(real.shape) < self.hidden * strength
        earlier = [encoded.values["earlier"][row] for row in rows]
        batch["earlier"] = np.full((len(rows), max(map(len, earlier))), len(self.items))
        for row, one in enumerate(earlier):
            batch["earlier"][row, : len(one)] = one
        return {name: torch.from_numpy(value.astype(np.int64)) for name, value in batch.items()} | {
            "attention_mask": torch.from_numpy(real)
        }

    def build(self, backbone: Backbone, recipe: Recipe, known: Known | None) -> torch.nn.Module:
        """See `fmhub.stems.items.Items`. A restored run has the texts' vectors from the adapter's file."""
        from fmhub.stems.items import Items

        texts: Sequence[str] | None = None if known is None else known.things(self)["text"].to_pylist()
        return Items(backbone, len(self.items), texts, recipe.dropout)


def _reordered(gaps: np.ndarray, random: np.random.Generator, strength: float) -> np.ndarray:
    """(rows, events) int64: an order of each row's events in which only those of one moment have changed places."""
    import numpy as np

    moments = np.cumsum(gaps != AT_ONCE, axis=1)
    chance = np.where(random.random((len(gaps), 1)) < strength, random.random(gaps.shape), 0)
    return np.argsort(moments + chance, axis=1, kind="stable")


def _json(text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except ValueError:
        raise DataError(f"Not JSON: {text[:60]!r}. Give titles parted by semicolons, or a JSON list of them.") from None


def _gaps(times: Any, time: float | None, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Buckets of the seconds since the event before, and until the next one (for the last: until now); 0 is unknown."""
    import numpy as np

    if times is None:
        return np.zeros(count, np.int64), np.zeros(count, np.int64)
    seconds = np.diff(np.array([*times, np.nan if time is None else time], np.float64))
    buckets = np.where(np.isnan(seconds), 0, np.minimum(np.log2(np.fmax(seconds, 0) + 1).astype(np.int64) + 1, BUCKETS - 1))
    return np.concatenate([[0], buckets[:-1]]), buckets
