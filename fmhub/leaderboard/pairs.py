"""Two entries of one table compared by their predictions: their paired difference, and whether one repeats the other.

A comparison costs a bootstrap, and its answer never changes: each is made once and kept under `FMHUB_HOME/cache`, by the hashes
of what was compared. Losing that file costs time alone.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from fmhub import __version__
from fmhub.errors import FmhubError
from fmhub.evaluation import better, difference, metrics
from fmhub.evaluation.metrics.columns import columns
from fmhub.home import home, make_folder, strict_json, write_text
from fmhub.leaderboard import copies
from fmhub.leaderboard.schema import PREDICTIONS
from fmhub.leaderboard.statistics import LEVEL, RESAMPLES
from fmhub.leaderboard.targets import Targets, of_split

ENDS = ("value", "low", "high")
MOST = 500_000
"""Comparisons that are kept; with more of them all begin anew."""


class Kept:
    """Answers by key, read from the home's file when a home is first asked for, written when there are new ones."""

    def __init__(self) -> None:
        self.held: dict[str, Any] = {}
        self.read_from: set[Path] = set()
        self.new = False

    def read(self) -> None:
        """Whatever in the file is no answer is left out."""
        if (path := _file()) in self.read_from:
            return
        self.read_from.add(path)
        try:
            found = strict_json(path.read_bytes())
        except (OSError, ValueError):
            return
        if isinstance(found, dict):
            self.held |= {str(key): value for key, value in found.items() if _sound(value)}

    def put(self, key: str, value: Any) -> Any:
        self.held[key], self.new = value, True
        return value

    def write(self) -> None:
        """Keep what is new for the next process; a home that cannot be written only costs time."""
        if not self.new:
            return
        self.new = False
        if len(self.held) > MOST:
            self.held.clear()
        try:
            make_folder(_file().parent)
            write_text(_file(), json.dumps(self.held, separators=(",", ":")))
        except (OSError, FmhubError):
            return


KEPT = Kept()


def _file() -> Path:
    return home() / "cache" / "comparisons.json"


def _sound(value: Any) -> bool:
    if isinstance(value, list) and len(value) == len(ENDS):
        return all(end is None or (isinstance(end, (int, float)) and math.isfinite(end)) for end in value)
    return isinstance(value, bool)


def _key(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, (__version__, *parts))).encode()).hexdigest()[:40]


class Pairs:
    """Comparisons of the entries of one table."""

    def __init__(self, connection: sa.Connection, metric: metrics.Metric, split: str) -> None:
        self.metric, self.split = metric, split
        self.board, self.connection = Targets(connection), connection
        self.parts: dict[str, pa.Table] = {}
        self.sides: dict[str, dict[str, Any]] = {}
        KEPT.read()

    def read(self, row: dict[str, Any]) -> pa.Table:
        """The rows of the part that ranks."""
        sha256 = row["predictions"]
        if sha256 not in self.parts:
            content = self.connection.scalar(sa.select(PREDICTIONS.c.content).where(PREDICTIONS.c.sha256 == sha256))
            self.parts[sha256] = of_split(self.board.whole(content or b"", row), self.split)
        return self.parts[sha256]

    def gap(self, left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any] | None:
        """The paired difference of left minus right, {value, low, high, to: the id of right}; None without predictions."""
        one, other = left["predictions"], right["predictions"]
        if None in (one, other):
            return None
        if one == other:
            return {**dict.fromkeys(ENDS, 0.0), "to": right["id"]}
        truth = (left["truths"] or {}).get(self.split)
        key = _key("gap", one, other, left["task"], left["version"], self.metric.name, self.split, truth, left["labels"], RESAMPLES, LEVEL)
        if (found := KEPT.held.get(key)) is None:
            made = difference(self.read(left), self.read(right), self.metric, left["labels"] or None, resamples=RESAMPLES, level=LEVEL)
            found = KEPT.put(key, [None if made[end] is None else float(made[end]) for end in ENDS])
        return {**dict(zip(ENDS, found, strict=True)), "to": right["id"]}

    def apart(self, left: dict[str, Any], right: dict[str, Any]) -> bool:
        """Whether the paired interval of the better minus the other excludes 0; without predictions, whether their own intervals meet."""
        found = self.gap(right, left)
        if found is not None:
            return better(found, self.metric) is not None
        one, other = (row["scores"].get(self.split, {}).get(self.metric.name) or {} for row in (left, right))
        known = None not in (one.get("low"), one.get("high"), other.get("low"), other.get("high"))
        return bool(known and (one["low"] > other["high"] or one["high"] < other["low"]))

    def copied(self, left: dict[str, Any], right: dict[str, Any]) -> bool:
        """Whether one of both is a near-copy of the other."""
        one, other = left["predictions"], right["predictions"]
        if None in (one, other):
            return False
        if one == other:
            return True
        scored = "scores" in self.metric.reads
        key = _key("near-copy", one, other, self.split, (left["truths"] or {}).get(self.split), scored)
        if (found := KEPT.held.get(key)) is None:
            found = KEPT.put(key, copies.agree(self.aligned(left), self.aligned(right), scored=scored))
        return bool(found)

    def aligned(self, row: dict[str, Any]) -> dict[str, Any]:
        """Predictions, targets and scores in the ids' order, once an entry."""
        sha256 = row["predictions"]
        if sha256 not in self.sides:
            self.sides[sha256] = copies.aligned(columns(self.read(row)))
        return self.sides[sha256]
