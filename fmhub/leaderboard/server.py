"""The board over HTTP: its pages, made anew when the log has grown, and the API behind its gate."""

from __future__ import annotations

import ipaddress
import json
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from fmhub.errors import FmhubError, UsageError
from fmhub.leaderboard import store
from fmhub.leaderboard.export import files

if TYPE_CHECKING:
    from fastapi import FastAPI

    from fmhub.leaderboard.gate import Limits

PATIENCE = 0.2
"""Seconds for which a reader waits for new pages where there are old ones."""


class _Snapshot:
    """The board's files as of the log's head, made by one thread; who asks meanwhile waits a moment, then gets the last ones."""

    def __init__(self) -> None:
        self.lock, self.maker = threading.Lock(), ThreadPoolExecutor(1)
        self.made: tuple[str, dict[str, str]] | None = None
        self.making: tuple[str, Future[dict[str, str]]] | None = None

    def get(self) -> dict[str, str]:
        head = store.head()
        with self.lock:
            if self.made and self.made[0] == head:
                return self.made[1]
            if self.making is None or self.making[1].done():
                self.making = head, self.maker.submit(files)
            wanted, making = self.making
            last = self.made
        try:
            found = making.result(PATIENCE if last else None)
        except TimeoutError:
            assert last is not None
            return last[1]
        with self.lock:
            self.made = wanted, found
        return found


def app(host: str = "127.0.0.1", limits: Limits | None = None, *, public: bool = True) -> FastAPI:
    """The application; bound to loopback it answers to loopback's names only, so that no web page can read it by a name of its own.

    On a board that is not `public` every route needs a token.
    """
    from fastapi import FastAPI, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse, Response
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from fmhub.leaderboard.gate import Gate, Limits
    from fmhub.leaderboard.routes import router

    limits = limits or Limits()
    found = FastAPI(title="fmhub leaderboard", version="1", docs_url=None, redoc_url=None)

    @found.exception_handler(FmhubError)
    def failed(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 503)

    @found.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> Response:
        """What is wrong and where, in ASCII, without the input: that may be large, or text that no answer can hold."""
        said = [{key: one[key] for key in ("type", "loc", "msg")} for one in error.errors()]
        return Response(json.dumps({"detail": said}), 422, media_type="application/json")

    found.include_router(router(_Snapshot().get, limits.quota))
    found.add_middleware(Gate, limits=limits, public=public)
    if _loopback(host):
        found.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", "[::1]", host])
    return found


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(host: str, port: int, *, rate: int, quota: int, public: bool) -> None:
    """Serve until Ctrl-C. Raises `UsageError` where the extra is not installed or the port is taken."""
    try:
        import uvicorn

        from fmhub.leaderboard.gate import Limits

        application = app(host, Limits(rate=rate, quota=quota), public=public)
    except ImportError:
        raise UsageError("`fmhub leaderboard serve` needs an extra: pip install 'fmhub[serve]'") from None
    store.head()  # a database that cannot be used is said before anything is served
    try:
        uvicorn.run(application, host=host, port=port, log_level="info", server_header=False, limit_concurrency=256)
    except SystemExit:
        raise FmhubError(f"Nothing can be served on {host} port {port}: see the line above.") from None
