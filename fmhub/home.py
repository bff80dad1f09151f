"""Where fmhub keeps things, and how a file gets there whole."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from fmhub.errors import FmhubError, UntrustedFile, UsageError

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def home() -> Path:
    """`FMHUB_HOME`, or `~/.fmhub`; made when it is first written to."""
    return Path(os.environ.get("FMHUB_HOME") or Path.home() / ".fmhub").expanduser().absolute()


def registry() -> Path:
    """The shipped folder of plugins, cards and reference results: inside the wheel, or the repository's in a checkout."""
    inside = Path(__file__).with_name("registry")
    return inside if inside.is_dir() else Path(__file__).parent.parent / "registry"


def offline() -> bool:
    """Whether `FMHUB_OFFLINE` (or the hub's own `HF_HUB_OFFLINE`) forbids every socket."""
    return any(os.environ.get(name, "").lower() in {"1", "true", "yes", "on"} for name in ("FMHUB_OFFLINE", "HF_HUB_OFFLINE"))


def valid_name(name: str, what: str) -> str:
    """`name` itself, if it is a safe file and task name (`[a-z0-9._-]`, at most 64), else a `UsageError`."""
    if not NAME.fullmatch(name) or ".." in name:
        raise UsageError(f"{what} {name!r} is not a valid name: use 1 to 64 of a-z, 0-9, '.', '_' and '-'.")
    return name


def make_folder(path: Path) -> Path:
    """Make `path` and its parents; an `FmhubError` says in one line why that failed."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FmhubError(f"Cannot write to {path}: {error.strerror}. Set FMHUB_HOME to a folder that you own.") from None
    return path


@contextlib.contextmanager
def atomic(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; fsync and rename it on success, remove it on any failure.

    A reader sees the old content or the new one, never a part. A full disk is an `FmhubError`.
    """
    make_folder(path.parent)
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:40]}.", dir=path.parent)
        with os.fdopen(descriptor, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        if temporary:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
        if isinstance(error, OSError):
            raise FmhubError(f"Cannot write {path}: {error.strerror or error}.") from None
        raise


def write_text(path: Path, text: str) -> None:
    """Write `text` atomically as UTF-8."""
    with atomic(path, "w") as file:
        file.write(text)


def sync_folder(path: Path) -> None:
    """Make a rename inside `path` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path, *, limit: int = 64 << 20) -> Any:
    """JSON of at most `limit` bytes; see `strict_json`. Raises `UntrustedFile`."""
    try:
        if path.stat().st_size > limit:
            raise ValueError(f"it is larger than {limit} bytes")
        return strict_json(path.read_bytes())
    except FileNotFoundError:
        raise UntrustedFile(f"{path} is missing.") from None
    except (OSError, ValueError) as error:
        raise UntrustedFile(f"{path} cannot be read: {error}.") from None


def strict_json(data: bytes) -> Any:
    """JSON without doubled keys, NaN, infinities or absurd depth; `ValueError` otherwise."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(items)) < len(items):
            raise ValueError("a key stands twice")
        return found

    def constant(name: str) -> Any:
        raise ValueError(f"{name} is not a number")

    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
