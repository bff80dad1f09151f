"""What comes in from others: every word of it is checked, and scored against the board's own targets.

A submission's table must have been opened by the board's keeper, with an entry of their own: its first one says which
metric, labels and examples there are. Raises `DataError` with what is wrong.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from fmhub.errors import DataError, FmhubError
from fmhub.home import strict_json
from fmhub.leaderboard import entries, keys, log, store, targets
from fmhub.leaderboard.schema import ENTRIES, LOG, database, writing
from fmhub.leaderboard.tokens import NAME

MANIFEST_BYTES = 64 << 10
SAID = ("family", "metric", "labels", "truth")
"""What an entry says of its table, and must say as the table's first entry does."""
UNFIT = re.compile(r"[\0\ud800-\udfff]")
"""Letters that PostgreSQL (NUL) or UTF-8 (lone surrogates) cannot hold."""


class OverQuota(FmhubError):
    """The submitter had as many entries as one may in a day."""


def parsed(body: bytes) -> Any:
    """The JSON of a body, exactly as it was signed. Raises `DataError` for what is none and for `UNFIT` texts."""
    try:
        found = strict_json(body)
    except ValueError as error:
        raise DataError(f"The body is no JSON: {error}.") from None
    if (text := next(_unfit(found), None)) is not None:
        raise DataError(f"The text {ascii(text)[:60]} holds a NUL or half a character (a lone surrogate): leave it out.")
    return found


def _unfit(value: Any) -> Iterator[str]:
    """Every key and text anywhere in parsed JSON that has a letter of `UNFIT`; a stack, for what is nested may be deep."""
    stack = [value]
    while stack:
        at = stack.pop()
        if isinstance(at, str):
            if UNFIT.search(at):
                yield at
        elif isinstance(at, (dict, list)):
            stack += (*at, *at.values()) if isinstance(at, dict) else at


def row_of(submission: dict[str, Any]) -> dict[str, Any]:
    """The claimed columns of a submission's entry."""
    row = {**submission["entry"], "predictions": targets.name_of(submission["columns"])}
    return {**row, "id": entries.identity(row)}


def submission_of(one: entries.Scored) -> dict[str, Any]:
    """A run's entry as it is sent, signed with one's own key."""
    assert one.own is not None
    entry = {name: one.row[name] for name in log.CLAIMED if name not in ("id", "predictions")}
    entry |= {name: re.sub("[^a-z0-9-]", "-", entry[name]) for name in ("name", "run")}
    found = {"entry": entry, "columns": targets.columns_of(one.own)}
    return {**found, "signer": keys.public(), "signature": keys.sign(log.claim(row_of(found)))}


def take(submission: dict[str, Any], submitter: str, quota: int) -> tuple[bool, dict[str, Any]]:
    """(whether it is new, {id, scores, receipt}) of a submission that is stored and logged when this returns.

    Raises `DataError` for what is wrong with it, `OverQuota`, or what the database refuses.
    """
    row = row_of(submission)
    _check(row)
    if not keys.signed(log.claim(row), submission["signature"], submission["signer"]):
        raise DataError("The signature is not the signer's of this entry")
    with database() as engine:
        with engine.connect() as connection:
            stands = connection.execute(sa.select(ENTRIES).where(ENTRIES.c.id == row["id"])).mappings().one_or_none()
            if stands is not None and row["kind"] == "run" and log.claim(dict(stands)) != log.claim(row):
                raise DataError(f"Its predictions stand as entry {row['id'][:12]} with another manifest, and an entry is never changed")
            scored = None if stands is not None else _scored(connection, row, submission["columns"], submitter)
        with writing(engine) as connection:
            if scored is not None:
                _count(connection, submitter, quota)
            signed = {key: submission[key] for key in ("signer", "signature")}
            fresh = scored is not None and store.insert(connection, scored, **signed)
            scores = connection.scalar(sa.select(ENTRIES.c.scores).where(ENTRIES.c.id == row["id"]))
            return fresh, {"id": row["id"], "scores": scores, "receipt": log.receipt(connection)}


def _check(row: dict[str, Any]) -> None:
    for name in ("name", "run"):
        if not NAME.fullmatch(row[name]):
            raise DataError(f"{name} {row[name]!r} is none: use 1 to 64 of a-z, 0-9 and '-'")
    if len(log.canonical(row["manifest"])) > MANIFEST_BYTES:
        raise DataError(f"The manifest may have {MANIFEST_BYTES} bytes")
    if row["manifest"].get("own_data"):
        raise DataError("The run was made with data of the submitter's own")


def _count(connection: sa.Connection, submitter: str, quota: int) -> None:
    """Raises `OverQuota` where the submitter had as many entries in the last day as one may."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 86400))
    mine = sa.select(ENTRIES.c.id).where(ENTRIES.c.submitter == submitter)
    if (connection.scalar(sa.select(sa.func.count()).where(LOG.c.at > since, LOG.c.entry.in_(mine))) or 0) >= quota:
        raise OverQuota(f"{submitter} had {quota} entries in a day, which is the most that one may have.")


def _scored(connection: sa.Connection, row: dict[str, Any], columns: dict[str, list[Any]], submitter: str) -> entries.Scored:
    """The entry with its scores."""
    first = _opener(connection, row)
    if different := [name for name in SAID if row[name] != first[name]]:
        raise DataError(f"Its {different[0]} is {_short(row[different[0]])}, and this table's is {_short(first[different[0]])}")
    if row["manifest"].get("metrics") != first["manifest"].get("metrics"):
        raise DataError(f"Its metrics are not those of this table: {', '.join(first['manifest'].get('metrics') or ())}")
    board = targets.Targets(connection)
    found = {split: (name, board.of(name)) for split, name in (first["truths"] or {}).items()}
    if secret := targets.hidden(board, row):
        found[targets.HIDDEN] = secret
    own = _own(columns)
    kept = _whole(own, found)
    try:
        scores, problem = entries.scores_of(targets.joined(own, kept, first), row)
    except FmhubError as error:
        raise DataError(f"Its predictions cannot be scored: {error}") from None
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError, pa.ArrowException) as error:
        # a metric's own way to stumble over values of another kind
        raise DataError(f"Its predictions are not of this task's kind: {type(error).__name__}") from None
    if problem:
        raise DataError(f"Its predictions cannot be scored: {problem}")
    truths = {split: name for split, (name, _) in kept.items()}
    return entries.Scored({**row, "scores": scores, "truths": truths, "problem": "", "submitter": submitter}, own)


def _opener(connection: sa.Connection, row: dict[str, Any]) -> dict[str, Any]:
    """The first entry of the keeper's own in the row's table."""
    where = [ENTRIES.c[key] == row[key] for key in ("task", "version", "fingerprint")]
    query = sa.select(ENTRIES).where(*where, ENTRIES.c.submitter.is_(None), ENTRIES.c.problem == "").order_by(ENTRIES.c.number).limit(1)
    found = connection.execute(query).mappings().one_or_none()
    if found is None:
        raise DataError(f"This board has no table of {row['task']} version {row['version']} on data {row['fingerprint'][:12]}")
    return dict(found)


def _own(columns: dict[str, list[Any]]) -> pa.Table:
    """The predictions as a table, which must be exactly what was sent: named once, sorted, of one type a column."""
    try:
        table = targets.predicted(pa.table({name: pa.array(values) for name, values in columns.items()}), columns)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"The columns are no table: {(str(error).splitlines() or [''])[0][:200]}") from None
    kinds = {"id": pa.types.is_string, "split": pa.types.is_string, "fold": pa.types.is_integer, "seed": pa.types.is_integer}
    for name, fits in kinds.items():
        if name in columns and not fits(table.schema.field(name).type):
            raise DataError(f"Column {name} holds {table.schema.field(name).type}")
    if {"id", "split", "prediction"} - set(columns) or targets.columns_of(table) != columns:
        raise DataError(f"The columns are not those of predictions, sorted by {', '.join(targets.ORDER)}")
    return table


def _whole(own: pa.Table, found: dict[str, tuple[str, pa.Table]]) -> dict[str, tuple[str, pa.Table]]:
    """The splits that are predicted, each of whose examples must stand there once a seed; test and hidden must be among them."""
    seeds = own["seed"].to_pylist() if "seed" in own.column_names else [0] * len(own)
    rows = Counter(zip(own["split"].to_pylist(), seeds, own["id"].to_pylist(), strict=True))
    parts: dict[tuple[str, int], set[str]] = {}
    for (split, seed, name), count in rows.items():
        if count > 1:
            raise DataError(f"{split} example {name!r} is predicted {count} times")
        parts.setdefault((split, seed), set()).add(name)
    for (split, _), ids in parts.items():
        if split not in found:
            raise DataError(f"This table has no split {split!r}")
        if ids != (wanted := set(found[split][1]["id"].to_pylist())):
            raise DataError(f"It predicts {len(ids & wanted)} of {len(wanted)} examples of {split}, and {len(ids - wanted)} others")
    kept = {split for split, _ in parts}
    if lacking := {"test", targets.HIDDEN} & set(found) - kept:
        raise DataError(f"It has no predictions of the {' and the '.join(sorted(lacking))} part")
    return {split: found[split] for split in kept}


def _short(value: Any) -> str:
    return str(value)[:60]
