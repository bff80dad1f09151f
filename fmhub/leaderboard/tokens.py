"""Who may do what on a served board: tokens, of which only a hash is kept."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from fmhub.errors import UsageError
from fmhub.leaderboard.schema import TOKENS, database, writing

SCOPES = {
    "submit": "put entries on the board, and read back what is private of one's own",
    "read": "read a board that is not public",
    "verify": "have the whole board recomputed",
}
NAME = re.compile(r"[a-z0-9-]{1,64}")
_FORM = re.compile(r"fmhub_([0-9a-f]{16})_([0-9a-f]{64})")


@dataclass(frozen=True)
class Holder:
    """Whom a token was made for: `id` is the token's, `name` the submitter's."""

    id: str
    name: str
    scopes: frozenset[str]


def new(name: str, scopes: Sequence[str]) -> str:
    """A new token for `name`; it is shown this once. Tokens of one name are one submitter. Raises `UsageError`."""
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no submitter's name: use 1 to 64 of a-z, 0-9 and '-'.")
    if unknown := sorted(set(scopes) - set(SCOPES)):
        raise UsageError(f"Unknown scope {unknown[0]!r}. Known: {', '.join(SCOPES)}.")
    public, secret = secrets.token_hex(8), secrets.token_hex(32)
    row = {"id": public, "name": name, "hash": _hash(secret), "scopes": sorted(set(scopes)), "made": _now(), "revoked": None}
    with database() as engine, writing(engine) as connection:
        connection.execute(TOKENS.insert().values(row))
    return f"fmhub_{public}_{secret}"


def listing() -> list[dict[str, Any]]:
    """Every token without its hash, oldest first."""
    shown = [column for column in TOKENS.c if column.name != "hash"]
    with database() as engine, engine.connect() as connection:
        return [dict(row) for row in connection.execute(sa.select(*shown).order_by(TOKENS.c.made, TOKENS.c.id)).mappings()]


def revoke(what: str) -> int:
    """Revoke the token of that id, or all of that name; returns how many were valid until now. Raises `UsageError`."""
    named = sa.or_(TOKENS.c.id == what, TOKENS.c.name == what)
    with database() as engine, writing(engine) as connection:
        if connection.scalar(sa.select(sa.func.count()).where(named)) == 0:
            raise UsageError(f"No token {what!r}: `fmhub leaderboard token list` shows them.")
        done = connection.execute(TOKENS.update().where(named, TOKENS.c.revoked.is_(None)).values(revoked=_now()))
        return int(done.rowcount)


def holder(token: str) -> Holder | None:
    """Who holds the token; None for one that is malformed, unknown or revoked, found out in the same time for the same form."""
    found = _FORM.fullmatch(token)
    if found is None:
        return None
    with database() as engine, engine.connect() as connection:
        row = connection.execute(sa.select(TOKENS).where(TOKENS.c.id == found[1])).mappings().one_or_none()
    right = hmac.compare_digest(_hash(found[2]), row["hash"] if row else "0" * 64)
    return Holder(row["id"], row["name"], frozenset(row["scopes"])) if row and right and row["revoked"] is None else None


def _hash(secret: str) -> str:
    """Plain sha256: the secret is 256 random bits, so that nobody can guess it from the hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
