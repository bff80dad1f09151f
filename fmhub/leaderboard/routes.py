"""The board's HTTP API. The gate has looked at token, size and rate before anything here runs."""

from __future__ import annotations

import json
import mimetypes
import re
import threading
from collections.abc import Callable
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Body, Depends, HTTPException, Path, Request, Response
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from fmhub.errors import DataError, UsageError
from fmhub.leaderboard import reports, store, submissions, targets
from fmhub.leaderboard.schema import ENTRIES, LOG, PREDICTIONS, database
from fmhub.leaderboard.tokens import Holder
from fmhub.leaderboard.verify import verify

TYPES = {"md": "text/markdown", "csv": "text/csv", "json": "application/json"}
Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Text = Annotated[str, Field(max_length=400)]
Number = Annotated[int, Field(ge=0, le=10**15)] | Annotated[float, Field(ge=0, le=1e15)] | None
EntryId = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="an entry's id: the hash of its content")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Backbone(_Model):
    name: Text
    sha256: Hash


class Manifest(_Model):
    """How an entry came about, as its submitter says; nothing of it ranks."""

    metrics: list[Text] = Field(max_length=50)
    own_data: Literal[False] = False
    data: dict[Text, int | Text]
    backbone: Backbone | None = None
    recipe: dict[Text, JsonValue] | None = None
    cost: dict[Text, Number] | None = None
    environment: dict[Text, JsonValue] | None = None
    started: Text | None = None
    seeds: int | None = None
    options: dict[Text, JsonValue] | None = None
    hashes: dict[Text, Hash] | None = None
    contamination: Text | None = None
    claimed: dict[Text, JsonValue] | None = None


class Entry(_Model):
    kind: Literal["run", "baseline"]
    name: str = Field(pattern="^[a-z0-9-]{1,64}$")
    run: str = Field(pattern="^[a-z0-9-]{1,64}$")
    task: str = Field(max_length=160)
    version: str = Field(max_length=32)
    fingerprint: str = Field(max_length=128)
    family: str = Field(max_length=64)
    metric: str = Field(max_length=64)
    truth: Hash
    labels: list[Text] = Field(max_length=100_000)
    manifest: Manifest


class Submission(_Model):
    """An entry, its predictions column by column (sorted by split, seed, fold, id), and the submitter's Ed25519 signature."""

    entry: Entry
    columns: dict[Text, list[JsonValue]] = Field(description="id, split, prediction and, where there are any, fold, seed, scores")
    signer: Hash
    signature: str = Field(pattern="^[0-9a-f]{128}$")


class Receipt(BaseModel):
    """The sealed head of the log: whoever keeps it can tell later that nothing before it was touched."""

    count: int
    hash: str
    keeper: str
    seal: str


class Taken(BaseModel):
    id: str
    scores: dict[str, Any]
    receipt: Receipt


class Verified(BaseModel):
    entries: int
    wrong: list[str]


def holder_of(request: Request) -> Holder | None:
    held: Holder | None = getattr(request.state, "holder", None)
    return held


async def raw_of(request: Request) -> dict[str, Any]:
    """The submission exactly as it was signed."""
    try:
        found: dict[str, Any] = submissions.parsed(await request.body())
    except DataError as error:
        raise HTTPException(422, str(error)) from None
    return found


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": words}
    for status, words in {401: "No valid token", 403: "The token's scope is another", 404: "There is no such thing", 413: "Too large",
                          429: "Too often, or the day's quota is used up", 503: "The board cannot answer now"}.items()
}  # fmt: skip


def router(files: Callable[[], dict[str, str]], quota: int) -> APIRouter:
    """The routes; `files` gives the board's pages and exports as they are now."""
    found = APIRouter(
        responses=ERRORS, dependencies=[Depends(HTTPBearer(auto_error=False, description="`fmhub leaderboard token new NAME`"))]
    )
    verifying = threading.Lock()

    @found.get("/api/entries")
    def listing(task: str | None = None) -> list[dict[str, Any]]:
        """Every entry of the board, or of one task, with rank, scores and cost."""
        tables = [one for one in json.loads(files()["board.json"])["tables"] if task in (None, one["task"], one["task"].partition(":")[2])]
        if task is not None and not tables:
            raise HTTPException(404, f"The board has no entry of task {task[:160]!r}.")
        return [{key: one[key] for key in ("task", "version", "fingerprint", "metric", "split")} | entry
                for one in tables for entry in one["entries"]]  # fmt: skip

    @found.get("/api/entries/{entry}")
    def entry(entry: EntryId) -> dict[str, Any]:
        """One entry as it is stored, with its row of the log."""
        with database() as engine, engine.connect() as connection:
            row = connection.execute(sa.select(ENTRIES).where(ENTRIES.c.id == entry)).mappings().one_or_none()
            link = connection.execute(sa.select(LOG).where(LOG.c.entry == entry)).mappings().one_or_none()
        if row is None:
            raise HTTPException(404, "No such entry.")
        return {"entry": dict(row), "log": dict(link) if link else None}

    @found.get("/api/entries/{entry}/predictions")
    def predictions(entry: EntryId, who: Annotated[Holder | None, Depends(holder_of)]) -> dict[str, list[Any]]:
        """What an entry predicts, column by column; of the hidden part to its submitter alone."""
        query = sa.select(ENTRIES.c.submitter, PREDICTIONS.c.content).join_from(ENTRIES, PREDICTIONS).where(ENTRIES.c.id == entry)
        with database() as engine, engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise HTTPException(404, "No such entry, or it has no predictions.")
        own = who is not None and "submit" in who.scopes and who.name == row.submitter
        return targets.visible(row.content, hidden=own)

    @found.put("/api/entries/{entry}", status_code=201, responses={200: {"model": Taken, "description": "It stands already"}})
    def submit(
        entry: EntryId, body: Annotated[Submission, Body()], response: Response, who: Annotated[Holder, Depends(holder_of)],
        raw: Annotated[dict[str, Any], Depends(raw_of)],
    ) -> Taken:  # fmt: skip
        """Put an entry on the board: scored here, stored and logged when this answers. Doing it again changes nothing."""
        try:
            if submissions.row_of(raw)["id"] != entry:
                raise DataError("The id is not the hash of what was sent")
            fresh, taken = submissions.take(raw, who.name, quota)
        except DataError as error:
            raise HTTPException(422, str(error)) from None
        except submissions.OverQuota as error:
            raise HTTPException(429, str(error), {"retry-after": "3600"}) from None
        response.status_code = 201 if fresh else 200
        return Taken(**taken)

    @found.get("/api/receipt")
    def receipt() -> Receipt:
        """The sealed head of the log as it is now."""
        if (head := store.receipt()) is None:
            raise HTTPException(404, "The board is empty.")
        return Receipt(**head)

    @found.post("/api/verify")
    @found.post("/api/verify/{entry}")
    def verified(entry: str | None = None) -> Verified:
        """Hashes, signatures, log and scores, of one entry or of the whole board; one at a time."""
        if not verifying.acquire(blocking=False):
            raise HTTPException(503, "The board is being verified already.", {"retry-after": "30"})
        try:
            count, wrong = verify(entry)
        except UsageError as error:
            raise HTTPException(404, str(error)) from None
        finally:
            verifying.release()
        return Verified(entries=count, wrong=wrong)

    @found.api_route("/{name:path}", methods=["GET", "HEAD"], include_in_schema=False)
    def page(name: str) -> Response:
        """A page or an export: index.html, board.json, board.csv, board.md, and what they link to."""
        if (asked := re.fullmatch("report-([0-9a-f]{64})[.]html", name)) and (report := reports.find(asked[1])) is not None:
            return Response(report, media_type="text/html; charset=utf-8", headers={"content-security-policy": reports.POLICY})
        content = files().get(name or "index.html")
        if content is None:
            raise HTTPException(404, "There is no such page on this board.")
        kind = TYPES.get(name.rpartition(".")[2]) or mimetypes.guess_type(name or "index.html")[0] or "text/plain"
        return Response(content, media_type=f"{kind}; charset=utf-8")

    return found
