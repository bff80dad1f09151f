"""The board over HTTP: its pages, made anew when the log has grown, and the API behind its gate."""

from __future__ import annotations

import ipaddress
import threading
from typing import TYPE_CHECKING

from fmhub.errors import FmhubError, UsageError
from fmhub.leaderboard import store
from fmhub.leaderboard.export import files

if TYPE_CHECKING:
    from fastapi import FastAPI

    from fmhub.leaderboard.gate import Limits


class _Snapshot:
    """The board's files as of the log's head; whoever asks while they are being made waits for them."""

    def __init__(self) -> None:
        self.lock, self.head, self.files = threading.Lock(), "", dict[str, str]()

    def get(self) -> dict[str, str]:
        head = store.head()
        with self.lock:
            if self.head != head:
                self.files, self.head = files(), head
            return self.files


def app(host: str = "127.0.0.1", limits: Limits | None = None, *, public: bool = True) -> FastAPI:
    """The application; bound to loopback it answers to loopback's names only, so that no web page can read it by a name of its own.

    On a board that is not `public` every route needs a token.
    """
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from fmhub.leaderboard.gate import Gate, Limits
    from fmhub.leaderboard.routes import router

    limits = limits or Limits()
    found = FastAPI(title="fmhub leaderboard", version="1", docs_url=None, redoc_url=None)

    @found.exception_handler(FmhubError)
    def failed(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 503)

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
