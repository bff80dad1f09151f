"""The board over HTTP, for reading: the same pages and files that `export` writes, made anew when the log has grown.

Nothing is served but the names that the board itself made, no route writes, and every answer forbids scripts.
"""

from __future__ import annotations

import ipaddress
import mimetypes
import threading
from typing import TYPE_CHECKING

from fmhub.errors import FmhubError, UsageError
from fmhub.leaderboard import store
from fmhub.leaderboard.export import files

if TYPE_CHECKING:
    from fastapi import FastAPI

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
TYPES = {"md": "text/markdown", "csv": "text/csv", "json": "application/json"}


class _Snapshot:
    """The board's files as of the log's head; whoever asks while they are being made waits for them."""

    def __init__(self) -> None:
        self.lock, self.head, self.files = threading.Lock(), "", dict[str, str]()

    def get(self, name: str) -> str | None:
        receipt = store.receipt()
        head = receipt["hash"] if receipt else "empty"
        with self.lock:
            if self.head != head:
                self.files, self.head = files(), head
            return self.files.get(name)


def app(host: str = "127.0.0.1") -> FastAPI:
    """The application; bound to loopback it answers to loopback's names only, so that no web page can read it by a name of its own."""
    from fastapi import FastAPI, Request
    from fastapi.responses import PlainTextResponse, Response
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    found = FastAPI(title="fmhub leaderboard", docs_url=None, redoc_url=None)
    if _loopback(host):
        found.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", "[::1]", host])
    board = _Snapshot()

    @found.api_route("/{name:path}", methods=["GET", "HEAD"], response_class=PlainTextResponse)
    def read(name: str) -> Response:
        """A page or file of the board: index.html, board.json, board.csv, board.md, and the pages that they link to."""
        content = board.get(name or "index.html")
        if content is None:
            return PlainTextResponse("There is no such page on this board.\n", 404, HEADERS)
        kind = TYPES.get(name.rpartition(".")[2]) or mimetypes.guess_type(name or "index.html")[0] or "text/plain"
        return Response(content, headers=HEADERS, media_type=f"{kind}; charset=utf-8")

    @found.exception_handler(FmhubError)
    def failed(_: Request, error: Exception) -> Response:
        return PlainTextResponse(f"{error}\n", 503, HEADERS)

    return found


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(host: str, port: int) -> None:
    """Serve until Ctrl-C. Raises `UsageError` where the extra is not installed or the port is taken."""
    try:
        import uvicorn

        application = app(host)
    except ImportError:
        raise UsageError("`fmhub leaderboard serve` needs an extra: pip install 'fmhub[serve]'") from None
    try:
        uvicorn.run(application, host=host, port=port, log_level="info", server_header=False)
    except SystemExit:
        raise FmhubError(f"Nothing can be served on {host} port {port}: see the line above.") from None
