"""From a table of events to rows with histories, and the catalogue of their items; see `fmhub.data.histories`."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fmhub.data.fingerprint import fingerprint
from fmhub.data.read import read
from fmhub.data.tables import some
from fmhub.errors import DataError, nearest
from fmhub.task import Splits

if TYPE_CHECKING:
    from fmhub.data.histories import Histories

DAY = 86_400.0
MILLISECONDS = 1e11
"""A plain number as large as this counts milliseconds since 1970, not seconds."""
FIELDS = {
    "id": pa.string(), "user": pa.string(), "history": pa.list_(pa.string()), "times": pa.list_(pa.float64()), "time": pa.float64(),
    "target": pa.string(), "target_seen": pa.string(),
}  # fmt: skip


def load(spec: Histories) -> Splits:
    """Read, check, order, cut."""
    tables = read(spec.events)
    where = spec.events.files[0][1] if spec.events.files else f"{getattr(spec.events.function, '__name__', 'rows')}()"
    if list(tables) != [""]:
        raise DataError(f"{where} declares splits of its own; events are cut by user and time: give one table.")
    try:
        events = _named(tables[""], dict(spec.events.columns))
        users, items, times = _key(events, "user"), _key(events, "item"), _times(events)
        catalogue = _catalogue(events, items)
        order = np.lexsort((np.arange(len(users)), times, users))
        order, notes = _once(order, users, items)
        parts, more = _rows(users[order], items[order], times[order], spec.window)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    found = {name: pa.table({column: pa.array(values[column], kind) for column, kind in FIELDS.items()}) for name, values in parts.items()}
    print_ = fingerprint({**found, "catalogue": catalogue})
    return Splits(tables=found, fingerprint=print_, notes=(*notes, *more), rule="Histories", catalogue=catalogue)


def _named(raw: pa.Table, columns: dict[str, str]) -> pa.Table:
    """The table with its columns under the names of their roles."""
    for role, column in columns.items():
        if column not in raw.column_names:
            raise DataError(f"no column {column!r} (for {role}).{nearest(column, raw.column_names)} Columns: {some(raw.column_names)}.")
    roles = {column: role for role, column in columns.items()}
    kept = [name for name in raw.column_names if name in roles or name not in columns]
    table = raw.select(kept).rename_columns([roles.get(name, name) for name in kept])
    for role in ("user", "item"):
        if role not in table.column_names:
            raise DataError(f"which column is the {role}? Name it with --columns {role}=NAME. Columns: {some(raw.column_names)}.")
    if not len(table):
        raise DataError("it has no rows.")
    return table


def _key(events: pa.Table, name: str) -> np.ndarray:
    """Ids as text; `DataError` names the first row without one."""
    column = events[name].combine_chunks()
    absent = pc.is_null(column, nan_is_null=True)
    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    absent = pc.or_(absent, pc.equal(pc.fill_null(text, ""), ""))
    _refuse(absent.to_numpy(zero_copy_only=False), f"no {name}")
    found: np.ndarray = text.to_numpy(zero_copy_only=False).astype(str)
    return found


def _times(events: pa.Table) -> np.ndarray:
    """Seconds since 1970; where there is no time column, the row's number."""
    if "time" not in events.column_names:
        return np.arange(len(events), dtype=np.float64)
    column = events["time"].combine_chunks()
    try:
        if pa.types.is_string(column.type):
            column = column.cast(pa.timestamp("us", "UTC" if _zoned(column) else None))
        if pa.types.is_temporal(column.type):
            column = column.cast(pa.timestamp("us", getattr(column.type, "tz", None))).cast(pa.int64())
            seconds = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False) / 1e6
        else:
            seconds = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
            seconds = np.where(np.abs(seconds) >= MILLISECONDS, seconds / 1000, seconds)
    except (ValueError, pa.ArrowException) as error:
        raise DataError(f"its time is neither seconds nor an ISO date, all with a time zone or none ({str(error)[:100]}).") from None
    _refuse(~np.isfinite(seconds), "no time")
    _refuse(seconds > time.time() + DAY, "a time that lies in the future")
    return np.asarray(seconds, dtype=np.float64)


def _zoned(column: pa.Array) -> bool:
    return bool(pc.any(pc.match_substring_regex(column, r"(Z|[+-]\d{2}:?\d{2})\s*$")).as_py())


def _refuse(bad: np.ndarray, what: str) -> None:
    if (rows := np.flatnonzero(bad)).size:
        have = "have" if rows.size > 1 else "has"
        raise DataError(f"row{'s' * (rows.size > 1)} {some([int(row) + 1 for row in rows], 5)} of {len(bad)} {have} {what}.")


def _catalogue(events: pa.Table, items: np.ndarray) -> pa.Table:
    """Every item once, in the order of their ids: `id`, `title` and `text`, from the first event that names it."""
    ids, first = np.unique(items, return_index=True)
    place = np.argsort([_natural(name) for name in ids.tolist()])
    ids, first = ids[place], first[place]
    words = [name for name in events.column_names if name not in ("user", "item", "time", "id") and pa.types.is_string(events[name].type)]
    words.sort(key=lambda name: name != "title")
    texts = [[value or "" for value in events[name].take(pa.array(first)).to_pylist()] for name in words] or [ids.tolist()]
    joined = [". ".join(part for part in parts if part) or name for name, *parts in zip(ids.tolist(), *texts, strict=True)]
    titles = [title or name for title, name in zip(texts[0], ids.tolist(), strict=True)]
    return pa.table({"id": ids.tolist(), "title": titles, "text": joined})


def _natural(name: str) -> str:
    """Numbers in their own order."""
    return name.zfill(20) if name.isdigit() else name


def _once(order: np.ndarray, users: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Only the first of a user's events with one item: what is ranked are items that the user has not met."""
    pairs = np.char.add(np.char.add(users[order], "\x1f"), items[order])
    _, first = np.unique(pairs, return_index=True)
    again = len(order) - len(first)
    return order[np.sort(first)], [f"{again} repeated events (a user met an item again) were left out"] if again else []


def _how_often(count: int) -> str:
    return "never" if count == 0 else "1-9 times" if count < 10 else "10-99 times" if count < 100 else "100 times or more"


def _rows(users: np.ndarray, items: np.ndarray, times: np.ndarray, window: int) -> tuple[dict[str, Any], list[str]]:
    parts: dict[str, Any] = {name: {column: [] for column in FIELDS} for name in ("train", "validation", "test")}

    def add(part: str, name: str, user: str, start: int, end: int) -> None:
        """A row whose history is the user's events from `start` up to, and not including, `end`, its target."""
        values = (name, user, items[start:end].tolist(), times[start:end], times[end], str(items[end]), "")
        for column, value in zip(FIELDS, values, strict=True):
            parts[part][column].append(value)

    starts = np.flatnonzero(np.append(True, users[1:] != users[:-1]))
    short, seen = 0, Counter[str]()
    for start, last in zip(starts.tolist(), [*starts[1:].tolist(), len(users)], strict=True):
        user = str(users[start])
        if last - start >= 4:
            add("test", f"test-{user}", user, start, last - 1)
            add("validation", f"validation-{user}", user, start, last - 2)
            last -= 2
        else:
            short += 1
        seen.update(items[start:last].tolist())
        for number, end in enumerate(reversed(range(last - 1, start, -window))):
            add("train", f"train-{user}-{number}", user, start, end)
    if not parts["test"]["id"]:
        raise DataError("no user has 4 events or more: nothing can be held out.")
    for values in parts.values():
        values["target_seen"] = [_how_often(seen[target]) for target in values["target"]]
    return parts, [f"{short} users with fewer than 4 different items are in train only"] if short else []
