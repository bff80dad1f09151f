"""Send a run's entries to a board elsewhere: an entry's name is its content's hash, so that sending again does no harm."""

from __future__ import annotations

import http.client
import io
import ipaddress
import json
import os
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from fmhub.errors import DataError, FmhubError, UntrustedFile, UsageError
from fmhub.home import home, offline, strict_json
from fmhub.leaderboard import entries, keys, log, submissions, unseen
from fmhub.leaderboard.schema import ENTRIES, database
from fmhub.runs import folder as run_folder

TRIES, FIRST_WAIT, LONGEST_WAIT, SECONDS = 8, 0.5, 60.0, 120.0
AGAIN = (408, 429, 500, 502, 503, 504)
Say = Callable[[str, int, int], None]
"""Told an entry's name, the bytes that are sent, and how many there are."""


def submit(folder: Path, url: str, token: str, say: Say) -> list[dict[str, Any]]:
    """Put a run and its baselines on the board at `url`; for each {name, id, new, scores, receipt}.

    What was declared of the run on the board here is declared there. What does not answer is asked again, longer and longer
    apart; a refusal is an `FmhubError` with the board's own words.
    Receipts are kept under `FMHUB_HOME/receipts`.
    """
    _check(url, token)
    unseen.prepare(folder)
    done = []
    for one in entries.from_folder(folder, _declared(folder)):
        if one.own is None or one.row["problem"]:
            raise DataError(f"{one.row['name']} cannot be submitted: {one.row['problem'] or 'it has no predictions'}.")
        found = submissions.submission_of(one)
        identity = submissions.row_of(found)["id"]
        body = json.dumps(found, allow_nan=False).encode()
        status, answer = _put(f"{url.rstrip('/')}/api/entries/{identity}", body, token, partial(say, str(one.row["name"])))
        _keep(identity, url, answer.get("receipt"))
        done.append(
            {"name": one.row["name"], "id": identity, "new": status == 201, **{key: answer.get(key) for key in ("scores", "receipt")}}
        )
    return done


def _declared(folder: Path) -> str:
    """The contamination that `fmhub leaderboard declare` put on the board here for this run, the last one; or nothing."""
    own = [ENTRIES.c.run == run_folder.read_plan(folder)["id"], ENTRIES.c.kind == "run", ENTRIES.c.submitter.is_(None)]
    with database() as engine, engine.connect() as connection:
        manifests = connection.scalars(sa.select(ENTRIES.c.manifest).where(*own).order_by(ENTRIES.c.number.desc()))
        return next((str(one["contamination"]) for one in manifests if one.get("contamination")), "")


def _check(url: str, token: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{url} is no board's address: it begins with https://.")
    if parts.scheme == "http" and not _loopback(parts.hostname):
        raise UsageError(f"{url} would show your token to whoever listens: use https.")
    if offline():
        raise FmhubError("FMHUB_OFFLINE is set: nothing is sent.")
    if not token:
        raise UsageError("Put the token that the board's keeper gave you into FMHUB_TOKEN, or into a file named by --token-file.")


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _put(url: str, body: bytes, token: str, say: Callable[[int, int], None]) -> tuple[int, dict[str, Any]]:
    """(status, answer) of the first try that the board answers."""
    wait, problem = FIRST_WAIT, ""
    for _ in range(TRIES):
        try:
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Content-Length": str(len(body))}
            request = urllib.request.Request(url, _Told(body, say), headers, method="PUT")
            with _opener(url).open(request, timeout=SECONDS) as answer:
                return answer.status, _mapping(answer.read(16 << 20))
        except urllib.error.HTTPError as error:
            problem = _detail(error)
            if error.code not in AGAIN:
                raise FmhubError(f"The board refused ({error.code}): {problem}") from None
            after = error.headers.get("Retry-After") or ""
            if after.isdigit() and int(after) > LONGEST_WAIT:
                raise FmhubError(f"The board says: {problem} Try again in {int(after) // 60} minutes; what was sent stands.") from None
            wait = max(wait, float(after) if after.isdigit() else 0.0)
        except (OSError, http.client.HTTPException) as error:
            problem = str(getattr(error, "reason", None) or error or type(error).__name__)
        time.sleep(wait * random.uniform(0.7, 1.3))
        wait = min(2 * wait, LONGEST_WAIT)
    raise FmhubError(f"{url} did not take it in {TRIES} tries: {problem}. Sending again later does no harm.")


class _Told(io.BytesIO):
    """A body that says how much of it was read."""

    def __init__(self, body: bytes, say: Callable[[int, int], None]) -> None:
        super().__init__(body)
        self.say, self.size = say, len(body)

    def read(self, size: int | None = -1, /) -> bytes:
        part = super().read(size)
        self.say(self.tell(), self.size)
        return part


class _Stay(urllib.request.HTTPRedirectHandler):
    """A token is never carried to another address."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _opener(url: str) -> urllib.request.OpenerDirector:
    own = [urllib.request.ProxyHandler({})] if _loopback(urlsplit(url).hostname or "") else []
    return urllib.request.build_opener(_Stay, *own)


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        found = _mapping(error.read(1 << 20)).get("detail", "")
    except (OSError, FmhubError, http.client.HTTPException):
        found = ""
    text = found if isinstance(found, str) else json.dumps(found)
    return "".join(letter if letter.isprintable() else " " for letter in text)[:400] or str(error.reason)


def _mapping(content: bytes) -> dict[str, Any]:
    try:
        found = strict_json(content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UntrustedFile("What answered is no board.")
    return found


def _keep(identity: str, url: str, receipt: Any) -> None:
    """Keep a receipt whose seal is valid. Raises `UntrustedFile` for another."""
    if not isinstance(receipt, Mapping) or not {"count", "hash", "keeper", "seal"} <= set(receipt):
        raise UntrustedFile("The board gave no receipt.")
    if not keys.signed(log.head(receipt["count"], receipt["hash"]), receipt["seal"], receipt["keeper"]):
        raise UntrustedFile("The board's receipt is not sealed by the key that it names.")
    run_folder.write_json(home() / "receipts" / f"{identity[:16]}.json", {**receipt, "url": url, "entry": identity})


def token_of(path: str | None) -> str:
    """The token in a file, or in FMHUB_TOKEN; never an argument, which other users of a machine can read."""
    try:
        return Path(path).read_text(encoding="utf-8").strip() if path else os.environ.get("FMHUB_TOKEN", "").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}.") from None
