"""What stands before every route: nothing passes that `RULES` does not name, and nobody passes without the scope it says.

Tokens, sizes and rates are looked at before a body is read, so that a stranger costs the board nothing.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fmhub.errors import FmhubError
from fmhub.leaderboard import tokens

HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
ENTRY = "[0-9a-f]{64}"
RULES = [
    (r"/api/entries", {"GET": "read"}),
    (rf"/api/entries/{ENTRY}", {"GET": "read", "PUT": "submit"}),
    (rf"/api/entries/{ENTRY}/predictions", {"GET": "read"}),
    (r"/api/receipt", {"GET": "read"}),
    (r"/api/verify", {"POST": "verify"}),
    (rf"/api/verify/{ENTRY}", {"POST": "verify"}),
    (r"/openapi\.json", {"GET": "read", "HEAD": "read"}),
    (r"/(?!api(/|$)).*", {"GET": "read", "HEAD": "read"}),
]
"""(path, {method: scope}); `read` needs no token on a public board."""
BODY_SECONDS = 60.0


@dataclass
class Limits:
    """Bytes of a body, requests a minute of one token or address, entries a day of one submitter."""

    body: int = 32 << 20
    rate: int = 600
    quota: int = 200


@dataclass
class Buckets:
    """Who asked how often: a bucket each that fills again within a minute; the longest idle are forgotten first."""

    rate: int
    most: int = 10_000
    held: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def wait(self, who: str, now: float) -> float:
        """Seconds until `who` may ask again; 0 where it may now, which is counted."""
        left, last = self.held.pop(who, (float(self.rate), now))
        left = min(self.rate, left + (now - last) * self.rate / 60)
        self.held[who] = (left - 1 if left >= 1 else left, now)
        if len(self.held) > self.most:
            self.held.popitem(last=False)
        return 0.0 if left >= 1 else (1 - left) * 60 / self.rate


class Refused(Exception):
    """An answer instead of what was asked for."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers


class Gate:
    """ASGI middleware around the whole board."""

    def __init__(self, app: ASGIApp, limits: Limits, *, public: bool) -> None:
        self.app, self.limits, self.public = app, limits, public
        self.known, self.strangers = Buckets(limits.rate), Buckets(limits.rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                named = {name.lower() for name, _ in message["headers"]}
                message["headers"] += [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in named]
            await send(message)

        try:
            await self._check(scope)
            if scope["method"] not in ("GET", "HEAD"):
                body = await asyncio.wait_for(_body(scope, receive, self.limits.body), BODY_SECONDS)
                receive = _replaying(body, receive)
        except (Refused, TimeoutError) as no:
            await _answer(no if isinstance(no, Refused) else Refused(408, "The body took too long."), sending)
        else:
            await self.app(scope, receive, sending)

    async def _check(self, scope: Scope) -> None:
        """Raises `Refused`; puts the token's holder, or None, into the request's state."""
        wanted = _wanted(scope)
        given, address = _token(scope), str((scope.get("client") or ["unknown"])[0])
        try:
            holder = await run_in_threadpool(tokens.holder, given) if given else None
        except FmhubError as error:
            raise Refused(503, str(error)) from None
        buckets, who = (self.known, holder.id) if holder else (self.strangers, address)
        if wait := buckets.wait(who, time.monotonic()):
            raise Refused(429, "Too many requests.", **{"retry-after": str(int(wait) + 1)})
        if given and holder is None:
            raise Refused(401, "This token is not valid.", **{"www-authenticate": 'Bearer, Basic realm="board"'})
        if holder is None and not (self.public and wanted == "read"):
            raise Refused(401, "This needs a token.", **{"www-authenticate": 'Bearer, Basic realm="board"'})
        if holder is not None and wanted not in holder.scopes and not (self.public and wanted == "read"):
            raise Refused(403, f"This token may not {wanted}.")
        scope.setdefault("state", {})["holder"] = holder


def _wanted(scope: Scope) -> str:
    """The scope that the first rule for this path asks for."""
    for path, methods in RULES:
        if re.fullmatch(path, scope["path"], re.DOTALL):
            if scope["method"] not in methods:
                raise Refused(405, "Not allowed.", allow=", ".join(methods))
            return methods[scope["method"]]
    raise Refused(404, "There is nothing here.")


def _token(scope: Scope) -> str:
    """The token of a Bearer header; for reading also the password of a Basic one, which browsers ask for."""
    header = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"), "")
    kind, _, value = header.partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() == "basic" and scope["method"] in ("GET", "HEAD"):
        try:
            return base64.b64decode(value.strip(), validate=True).decode("latin-1").partition(":")[2]
        except binascii.Error:
            return "malformed"
    return "malformed" if header else ""


async def _body(scope: Scope, receive: Receive, most: int) -> bytes:
    """The whole body. Raises `Refused` for one of more than `most` bytes, or that takes longer than a minute."""
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > 15 or int(length) > most:
        raise Refused(413, f"A body may have {most} bytes.")
    if b"content-encoding" in headers:
        raise Refused(415, "Bodies come as they are, not compressed.")
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "The body is not whole.")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise Refused(413, f"A body may have {most} bytes.")
        if not message.get("more_body"):
            return b"".join(parts)


def _replaying(body: bytes, receive: Receive) -> Receive:
    """`receive` that gives a body which was read already, then what comes after it."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _answer(no: Refused, send: Any) -> None:
    body = json.dumps({"detail": no.detail}).encode() + b"\n"
    headers = {**no.headers, "content-type": "application/json", "content-length": str(len(body))}
    await send({"type": "http.response.start", "status": no.status, "headers": [(k.encode(), v.encode()) for k, v in headers.items()]})
    await send({"type": "http.response.body", "body": body})
