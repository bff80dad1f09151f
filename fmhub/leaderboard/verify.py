"""Whether the board is what it was: every row that was changed, removed, reordered or added since is found and named."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from fmhub.errors import FmhubError
from fmhub.leaderboard import again, entries, keys, log, targets
from fmhub.leaderboard.schema import ENTRIES, LOG, PREDICTIONS, database

TOLERANCE = 1e-9
"""How far a score may lie from the stored one: other versions of numpy may round sums differently."""


def verify(entry: str | None = None, receipt: Mapping[str, Any] | None = None) -> tuple[int, list[str]]:
    """(entries looked at, what is wrong, one line each) of the whole board, or of one entry given by id, its beginning, or name.

    Of one entry: its row, signature, scores, and its log row's hash and seal. Of all: the whole chain as well. With a `receipt`
    whether what the board was then is still its beginning. Raises `UsageError` for an unknown entry.
    """
    with database() as engine, engine.connect() as connection:
        rows = list(_rows(connection))
        links = [dict(row) for row in connection.execute(sa.select(LOG).order_by(LOG.c.number)).mappings()]
        of = {link["entry"]: link for link in links}
        looked = again.chosen(rows, entry)
        board = targets.Targets(connection)
        wrong = [line for row in looked for line in _entry(board, row, of.get(row["id"]))]
        wrong += _checks(connection, {row["id"] for row in looked})
        if entry is not None:
            wrong = [*(line for row in looked if (link := of.get(row["id"])) for line in _link(link, keys.trusted())), *wrong]
        else:
            wrong = [*_chain(links, {row["id"] for row in rows}), *_predictions(connection, rows), *wrong]
        if receipt is not None:
            wrong += _receipt(links, receipt)
    return len(looked), wrong


def _rows(connection: sa.Connection) -> Iterator[dict[str, Any]]:
    """Every entry; one whose JSON cannot be read any more has its text instead, which no hash fits."""
    texts = [sa.cast(column, sa.Text).label(column.name) if isinstance(column.type, sa.JSON) else column for column in ENTRIES.c]
    for row in connection.execute(sa.select(*texts).order_by(ENTRIES.c.number)).mappings():
        found = dict(row)
        for column in ENTRIES.c:
            if isinstance(column.type, sa.JSON) and not (column.nullable and found[column.name] is None):
                try:
                    found[column.name] = json.loads(found[column.name])
                except (ValueError, TypeError, RecursionError):
                    found["unreadable"] = column.name
        yield found


def _checks(connection: sa.Connection, ids: set[str]) -> Iterator[str]:
    """What was done again: rows that nobody believed has sealed."""
    for check, sealed in again.checks(connection):
        if check["entry"] in ids and not sealed:
            yield f"the {check['kind']} of entry {check['entry'][:12]} is not sealed by a key that you trust: it proves nothing"


def _name(row: Mapping[str, Any]) -> str:
    return f"entry {str(row['id'])[:12]} ({row['name']})"


def _chain(links: list[dict[str, Any]], ids: set[str]) -> Iterator[str]:
    """The log by itself: numbers, hashes, seals, and that each row's entry stands."""
    trusted, previous = keys.trusted(), log.START
    for place, link in enumerate(links, start=1):
        where = _where(link)
        if link["number"] != place and (place == 1 or links[place - 2]["number"] != link["number"] - 1):
            yield f"log row {link['number'] - 1} is missing: the one before {where} was removed"
        if link["previous"] != previous:
            yield f"{where} does not follow the row before it: rows were removed, added or reordered here"
        yield from _link(link, trusted)
        if link["entry"] not in ids:
            yield f"entry {str(link['entry'])[:12]} was removed or renamed: log row {link['number']} names it"
        previous = link["hash"]


def _where(link: Mapping[str, Any]) -> str:
    return f"log row {link['number']} (entry {str(link['entry'])[:12]})"


def _link(link: Mapping[str, Any], trusted: Collection[str]) -> Iterator[str]:
    """One row of the log: its own hash, its seal, and whose it is."""
    where = _where(link)
    if link["hash"] != _digest(log.digest, {key: link[key] for key in log.CHAINED}):
        yield f"{where} was changed"
    if not keys.signed(log.head(link["number"], link["hash"]), link["seal"], link["keeper"]):
        yield f"{where} has no valid seal: it was not written by the board"
    elif link["keeper"] not in trusted:
        yield f"{where} is sealed by key {link['keeper']}, which is not yours: put it in trusted_keys if it should be believed"


def _predictions(connection: sa.Connection, rows: list[dict[str, Any]]) -> Iterator[str]:
    named = Counter(row["predictions"] for row in rows)
    for (sha256,) in connection.execute(sa.select(PREDICTIONS.c.sha256)):
        if sha256 not in named:
            yield f"predictions {str(sha256)[:12]} belong to no entry: they were added, or their name was changed"


def _entry(board: targets.Targets, row: dict[str, Any], link: Mapping[str, Any] | None) -> Iterator[str]:
    """One entry: as it was logged, as it was signed, as its predictions say."""
    name = _name(row)
    if "unreadable" in row:
        yield f"{name} was changed: its {row['unreadable']} cannot be read"
        return
    if link is None:
        yield f"{name} is not in the log: it was added without the board, or renamed"
    elif _digest(log.content, row) != link["content"]:
        yield f"{name} was changed since it was logged"
    if link is not None and not _signed(row, link):
        yield f"{name} is not what its submitter signed"
    yield from (f"{name}: {line}" for line in _scores(board, row))


def _digest(by: Callable[[Any], str], value: Any) -> str | None:
    """None, which equals no hash, for what cannot be written as JSON."""
    try:
        return by(value)
    except (TypeError, ValueError):
        return None


def _signed(row: Mapping[str, Any], link: Mapping[str, Any]) -> bool:
    try:
        return keys.signed(log.claim(row), link["signature"], link["signer"])
    except (TypeError, ValueError):
        return False


def _named(content: bytes, sha256: str) -> bool:
    try:
        return targets.named(content, sha256)
    except (FmhubError, TypeError, ValueError):
        return False


def _scores(board: targets.Targets, row: dict[str, Any]) -> Iterator[str]:
    """What the stored predictions say against what the row says."""
    try:
        if entries.identity(row) != row["id"]:
            yield "its id is not the hash of what it is"
        if row["predictions"] is None:
            if row["scores"]:
                yield "it has scores, and no predictions that they could come from"
            return
        content = board.connection.scalar(sa.select(PREDICTIONS.c.content).where(PREDICTIONS.c.sha256 == row["predictions"]))
        if content is None:
            yield "its predictions were removed"
            return
        if not isinstance(content, bytes) or not _named(content, row["predictions"]):
            yield "its predictions were changed"
            return
        table = board.whole(content, row)
        if targets.truth_of(targets.of_split(table, "test")) != row["truth"]:
            yield "its hash of the test targets is not that of its predictions"
        computed, _ = entries.scores_of(table, row)
    except (FmhubError, KeyError, TypeError, ValueError, AttributeError, pa.ArrowException) as error:
        yield f"its scores cannot be computed again: {(str(error).splitlines() or [type(error).__name__])[0]}"
        return
    if different := list(_differences(row["scores"], computed)):
        yield f"its predictions do not give its scores: {', '.join(different[:3])}"


def _differences(stored: Any, computed: Any, where: str = "") -> Iterator[str]:
    if isinstance(stored, dict) and isinstance(computed, dict):
        for key in sorted({*stored, *computed}, key=str):
            yield from _differences(stored.get(key), computed.get(key), f"{where} {key}".strip())
    elif _number(stored) and _number(computed):
        if not math.isclose(stored, computed, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            yield f"{where} is {computed:.6g}, not {stored:.6g}"
    elif stored != computed:
        yield f"{where} is {_short(computed)}, not {_short(stored)}"


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _short(value: Any) -> str:
    return f"{value:.6g}" if _number(value) else str(value)[:40]


def _receipt(links: list[dict[str, Any]], receipt: Mapping[str, Any]) -> Iterator[str]:
    """Whether the log that the receipt sealed is still the beginning of this one."""
    try:
        count, chained = int(receipt["count"]), str(receipt["hash"])
        sound = keys.signed(log.head(count, chained), receipt["seal"], receipt["keeper"])
    except (KeyError, TypeError, ValueError):
        sound = False
    if not sound:
        yield "the receipt's seal is not valid: it proves nothing"
        return
    if links and all(link["keeper"] != receipt["keeper"] for link in links):
        yield f"the receipt is of another board, whose key is {receipt['keeper']}"
    elif len(links) < count:
        yield f"the log's tail was cut: it has {len(links)} rows, and the receipt saw {count}"
    elif links[count - 1]["hash"] != chained:
        yield f"the log is not the one that the receipt saw: log row {count} or one before it was replaced"
