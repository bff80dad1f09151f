"""From prices to the rows of `Windows`: read, checked, cut by time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fmhub import DataError
from fmhub.data import Splits
from fmhub.data.fingerprint import fingerprint
from fmhub.data.read import read
from fmhub.data.tables import some
from fmhub.errors import nearest
from fmhub.stems.returns import log_variance

if TYPE_CHECKING:
    from fmhub_finance.windows import Windows

LONGEST = 14
"""Days without a price after which no window goes on."""
JUMP, NEAR = 0.6, 0.015
"""A log return above the first that is a ratio of small whole numbers, up to the second, looks like a split nobody adjusted for."""
RATIOS = (2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 25, 50, 100)
WEEK = 5
APART = "shift:others"
ZONE = r":\d{2}(\.\d+)?\s*(Z|[+-]\d{2}:?\d{2})\s*$"


@dataclass(frozen=True)
class One:
    """A series in the order of its days: `days` (since 1970) and `prices`."""

    name: str
    days: np.ndarray
    prices: np.ndarray

    def broken(self) -> tuple[np.ndarray, np.ndarray]:
        """Which steps span a long pause, and which look like an unadjusted split."""
        moves = np.diff(np.log(self.prices))
        ratio = np.exp(np.abs(moves))
        exact = np.min([np.abs(ratio / one - 1) for one in RATIOS], axis=0) < NEAR
        return np.diff(self.days) > LONGEST, (np.abs(moves) > JUMP) & exact


def load(spec: Windows) -> Splits:
    """Read, check, cut into windows, split by time."""
    where = spec.prices.files[0][1] if spec.prices.files else f"{getattr(spec.prices.function, '__name__', 'rows')}()"
    tables = read(spec.prices)
    try:
        if list(tables) != [""]:
            raise DataError("it declares splits of its own; prices are split by time: give one table.")
        found = list(_series(_named(tables[""], dict(spec.prices.columns))))
        if spec.series is not None and spec.series not in [one.name for one in found]:
            raise DataError(f"it has no series {spec.series!r}.")
        rows, notes = _rows(spec, found)
        parts, more = _split(spec, rows)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    return Splits(tables=parts, fingerprint=fingerprint(parts), notes=(*notes, *more), rule="Temporal")


def _named(raw: pa.Table, columns: dict[str, str]) -> pa.Table:
    """`time`, `close` and `series`, by role or by their own name."""
    chosen = {}
    for role in ("time", "close", "series"):
        name = columns.get(role, role)
        if name in raw.column_names:
            chosen[role] = raw[name]
        elif role in columns or role != "series":
            raise DataError(f"no column {name!r} (for {role}): --columns {role}=NAME.{nearest(name, raw.column_names)} "
                            f"Columns: {some(raw.column_names)}.")  # fmt: skip
    return pa.table(chosen)


def _series(table: pa.Table) -> Iterator[One]:
    days, prices = _days(table["time"]), _prices(table["close"])
    if "series" in table.column_names:
        names = np.array([str(name) if name is not None else "" for name in table["series"].to_pylist()])
        _refuse(names == "", "no series")
    else:
        names = np.full(len(days), "price")
    for name in sorted(set(names.tolist())):
        rows = np.flatnonzero(names == name)
        rows = rows[np.argsort(days[rows], kind="stable")]
        if (twice := np.flatnonzero(np.diff(days[rows]) == 0)).size:
            day = np.datetime64(int(days[rows][twice[0]]), "D")
            raise DataError(f"rows {rows[twice[0]] + 1} and {rows[twice[0] + 1] + 1} are both {name} of {day}: one price a day.")
        yield One(name, days[rows], prices[rows])


def _days(column: pa.ChunkedArray) -> np.ndarray:
    """Days since 1970."""
    text = pa.types.is_string(column.type)
    if not text and not pa.types.is_temporal(column.type):
        raise DataError(f"its time holds numbers ({column[0].as_py()!r}): give dates (2024-05-31).")
    if getattr(column.type, "tz", None) or (text and pc.any(pc.match_substring_regex(column, ZONE)).as_py()):
        raise DataError("its times carry a time zone: give the exchange's own dates (2024-05-31), for a shifted one is another day.")
    _refuse(np.array(pc.is_null(column)), "no time")
    try:
        stamps = column.cast(pa.timestamp("us")).cast(pa.date32()) if not pa.types.is_date32(column.type) else column
        days = np.array(stamps.cast(pa.int32())).astype(np.int64)
    except (ValueError, pa.ArrowException) as error:
        raise DataError(f"its time is no ISO date ({str(error)[:80]}).") from None
    _refuse(days > time.time() / 86_400 + 1, "a day that lies in the future")
    return days


def _prices(column: pa.ChunkedArray) -> np.ndarray:
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        row = next((row for row, value in enumerate(column.to_pylist(), 1) if not _number(value)), 1)
        raise DataError(f"row {row} holds {column[row - 1].as_py()!r} where a price should be.")
    prices = column.cast(pa.float64()).to_numpy()
    _refuse(~np.isfinite(prices), "no price; leave days without trade out")
    _refuse(prices <= 0, "a price that is not above 0")
    return prices


def _number(value: Any) -> bool:
    try:
        return bool(np.isfinite(float(value)))
    except (TypeError, ValueError):
        return False


def _refuse(bad: np.ndarray, what: str) -> None:
    if (rows := np.flatnonzero(bad)).size:
        have = "have" if rows.size > 1 else "has"
        raise DataError(f"row{'s' * (rows.size > 1)} {some([int(row) + 1 for row in rows], 5)} of {len(bad)} {have} {what}.")


@dataclass
class Row:
    """One window: it ends at `day`, and `value` is what the days after it bring, the last of which is `until`."""

    series: str
    day: int
    until: int
    prices: np.ndarray
    days: np.ndarray
    value: float


def _rows(spec: Windows, found: list[One]) -> tuple[list[Row], list[str]]:
    rows, pauses, splits, short = [], 0, 0, []
    for one in found:
        pause, split = one.broken()
        pauses, splits = pauses + int(pause.sum()), splits + int(split.sum())
        bad = np.append(0, np.cumsum(pause | split))
        moves = np.diff(np.log(one.prices))
        before = len(rows)
        step = max(spec.horizon, WEEK) if spec.series not in (None, one.name) else 1  # of what is only tested a day a week will do
        for end in range(spec.window, len(one.days) - spec.horizon, step):
            start, until = end - spec.window, end + spec.horizon
            if bad[until] == bad[start]:
                ahead = moves[end:until]
                value = float(ahead.sum()) if spec.target == "direction" else float(log_variance(ahead[None], spec.horizon)[0])
                span = slice(start, end + 1)
                rows.append(Row(one.name, int(one.days[end]), int(one.days[until]), one.prices[span], one.days[span], value))
        if len(rows) == before:
            short.append(one.name)
    notes = [f"{pauses} pauses of more than {LONGEST} days: no window goes across"] if pauses else []
    notes += [f"{splits} days look like a split that the prices are not adjusted for: no window goes across"] if splits else []
    notes += [f"series with fewer than {spec.window + spec.horizon + 1} days in a row: {some(short)}"] if short else []
    if not rows:
        raise DataError(f"no series has {spec.window + spec.horizon + 1} days in a row.")
    return rows, notes


def _split(spec: Windows, rows: list[Row]) -> tuple[dict[str, pa.Table], list[str]]:
    first, second = _cutoffs(spec, rows)
    main = [row for row in rows if spec.series in (None, row.series)]
    parts = {
        "train": [row for row in main if row.until < first],
        "validation": [row for row in main if row.day >= first and row.until < second],
        "test": [row for row in main if row.day >= second],
        APART: [row for row in rows if spec.series not in (None, row.series) and row.day >= second],
    }
    for name in ("train", "validation", "test"):
        if not parts[name]:
            raise DataError(f"the {name} part has no row: there are too few days.")
    left = len(main) - sum(len(parts[name]) for name in ("train", "validation", "test"))
    median = float(np.median([row.value for row in parts["train"]]))
    tables = {name: _table(spec, part, median) for name, part in parts.items() if part}
    return tables, [f"{left} rows whose target reaches over a cutoff were left out"] if left else []


def _cutoffs(spec: Windows, rows: list[Row]) -> tuple[int, int]:
    """Days since 1970; of the user's own prices the first days of quarters."""
    if spec.cutoffs is not None:
        first, second = (int(np.datetime64(cutoff, "D").astype(int)) for cutoff in spec.cutoffs)
        return first, second
    quarters = sorted({_quarter(row.day) for row in rows})
    if len(quarters) < 8:
        raise DataError(f"its windows end in {len(quarters)} quarters; at least 8 are needed to learn, to choose and to test.")
    places = (round(0.7 * len(quarters)), round(0.85 * len(quarters)))
    first, second = (int(np.datetime64(f"{quarters[at] // 4}-{quarters[at] % 4 * 3 + 1:02}-01", "D").astype(int)) for at in places)
    return first, second


def _quarter(day: int) -> int:
    """Quarters since the year 0."""
    return int(np.datetime64(day, "D").astype("datetime64[M]").astype(int)) // 3 + 1970 * 4


def _table(spec: Windows, rows: list[Row], median: float) -> pa.Table:
    dates = [str(np.datetime64(row.day, "D")) for row in rows]
    quarters = [_quarter(row.day) for row in rows]
    return pa.table({
        "id": pa.array([f"{row.series} {date}" for row, date in zip(rows, dates, strict=True)]),
        "series": pa.array([row.series for row in rows]),
        "time": pa.array(dates),
        "group": pa.array([f"{quarter // 4} Q{quarter % 4 + 1}" for quarter in quarters]),
        "prices": pa.array([row.prices for row in rows], pa.list_(pa.float64())),
        "days": pa.array([row.days for row in rows], pa.list_(pa.int64())),
        "target": pa.array([_target(spec, row.value, median) for row in rows]),
    })  # fmt: skip


def _target(spec: Windows, value: float, median: float) -> float | str:
    if spec.target == "level":
        return value
    if spec.target == "class":
        return "high" if value > median else "low"
    return "up" if value > 0 else "down"
