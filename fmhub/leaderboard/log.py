"""The board's log: one row an entry, each naming the hash of the one before, each sealed by the board's key.

What an entry's submitter signs is what it claims to be; what the log's hash covers is the whole stored row, with the
scores that the board computed. The seal of the last row says how long the log is: given away, it is a receipt.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from fmhub.leaderboard import keys
from fmhub.leaderboard.schema import LOG

CLAIMED = (
    "id", "kind", "name", "run", "task", "version", "fingerprint", "family", "metric", "truth", "labels", "predictions", "manifest",
)  # fmt: skip
"""The columns of an entry that its submitter vouches for: all but what the board finds out and counts itself."""
LATER = ("truths", "submitter")
"""Columns that boards of before did not have: empty, they leave no trace in a row's hash."""
CHAINED = ("number", "entry", "content", "signer", "signature", "at", "previous")
START = "0" * 64


def canonical(value: Any) -> bytes:
    """JSON that is the same bytes for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest(value: Any) -> str:
    """sha256 of the canonical JSON."""
    return hashlib.sha256(canonical(value)).hexdigest()


def content(row: Mapping[str, Any]) -> str:
    """Hash of an entry's whole row."""
    return digest({name: value for name, value in row.items() if name not in LATER or value is not None})


def claim(row: Mapping[str, Any]) -> bytes:
    """What is signed of an entry."""
    return b"fmhub entry 1\n" + canonical({name: row[name] for name in CLAIMED})


def head(number: int, chained: str) -> bytes:
    """What is sealed: how many rows there are, and the hash of the last."""
    return f"fmhub head 1\n{number}\n{chained}\n".encode()


def append(connection: sa.Connection, row: Mapping[str, Any], *, signer: str = "", signature: str = "", table: sa.Table = LOG) -> None:
    """Log a stored entry (with its `number`) inside a writing transaction; without a signature it is signed with one's own key."""
    last = connection.execute(sa.select(table.c.number, table.c.hash).order_by(table.c.number.desc()).limit(1)).one_or_none()
    number, previous = (last.number + 1, last.hash) if last else (1, START)
    link = {
        "number": number, "entry": row["id"], "content": content(row), "signer": signer or keys.public(),
        "signature": signature or keys.sign(claim(row)), "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "previous": previous,
    }  # fmt: skip
    chained = digest(link)
    seal = {"hash": chained, "keeper": keys.public(), "seal": keys.sign(head(number, chained))}
    connection.execute(table.insert().values({**link, **seal}))


def receipt(connection: sa.Connection) -> dict[str, Any] | None:
    """The sealed head, {count, hash, keeper, seal}: whoever keeps it can tell later that nothing before it was touched."""
    last = connection.execute(sa.select(LOG).order_by(LOG.c.number.desc()).limit(1)).mappings().one_or_none()
    return {"count": last["number"], **{key: last[key] for key in ("hash", "keeper", "seal")}} if last else None
