"""What the home keeps so that later runs need not compute it again, a folder a kind, all under one limit: which are whole, whose turn
it is, what goes. Light, so that `fmhub doctor` can ask without torch.

A cache is a file, or a folder named by its key. Beside a folder stand `.KEY.lock`, for as long as there is a cache or somebody at work
on it, and `.KEY.tmp`, a cache being filled or removed. Whoever changes any of the three has the lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from fmhub.errors import UsageError
from fmhub.home import atomic, home, make_folder, strict_json

PARTS = ("states", "index")
LIMIT = 10 << 30
ABANDONED = 86_400
"""Seconds after which a file that is still being written has lost its writer."""
Read = TypeVar("Read")


def root(kind: str = "prefix") -> Path:
    """Where one kind lies: `prefix` (what frozen layers say), `pictures` (decoded), `items` (vectors of texts)."""
    return home() / "cache" / kind


def kept(folder: Path) -> list[Path]:
    """What is whole in a kind's folder, in no order; locks and what is being written are hidden."""
    return list(folder.glob("[!.]*"))


def limit() -> int:
    """`FMHUB_CACHE_LIMIT` in bytes (`500MB`, `20GB`; `0`: no cache is read or made), 10 GB by default. Raises `UsageError`."""
    text = os.environ.get("FMHUB_CACHE_LIMIT", "").strip()
    if not text:
        return LIMIT
    found = re.fullmatch(r"(\d{0,15}\.?\d{1,15})\s*([KMGT]?)I?B?", text.upper())
    if not found:
        raise UsageError(f"FMHUB_CACHE_LIMIT={text} is not a size. Write it as 500MB or 20GB, or as 0 for no cache.")
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2] or " "))


def meta_of(folder: Path) -> dict[str, Any]:
    """meta.json of a cache whose files have the hashes that stand in it. Raises `OSError`, `ValueError`, `KeyError` or `TypeError`."""
    meta: dict[str, Any] = strict_json((folder / "meta.json").read_bytes())
    for name in PARTS:
        with (folder / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != meta[name]:
                raise ValueError(f"{name} is not what was written")
    return meta


def size(path: Path) -> int:
    """Bytes of a file, or of a folder's files; another process may be removing them."""
    total = 0
    with suppress(OSError):
        for one in path.iterdir() if path.is_dir() else [path]:
            total += one.stat().st_size
    return total


def half(folder: Path) -> Path:
    """Where a cache stands while it is filled or removed: whoever is killed then leaves nothing that looks like a cache."""
    return folder.with_name(f".{folder.name}.tmp")


def remove(folder: Path) -> None:
    """Remove a cache, if it is there, and what a killed process left of it. Its lock must be ours.

    Who has it mapped reads on: the file goes with the last mapping.
    """
    shutil.rmtree(half(folder), ignore_errors=True)
    with suppress(OSError):
        folder.rename(half(folder))
    shutil.rmtree(half(folder), ignore_errors=True)


@contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[bool]:
    """The lock of a cache: only one process at a time has it, and none for ever, since it dies with its holder.

    Without `wait`, False where another has it.
    """
    path = folder.with_name(f".{folder.name}.lock")
    while True:
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            if not _is_at(file, path):  # its last holder removed it after we had opened it: another may have the next one
                continue
            try:
                yield True
            finally:
                if not folder.exists():
                    with suppress(OSError):
                        path.unlink()
                fcntl.flock(file, fcntl.LOCK_UN)  # closing would not do where a forked child still has the file
            return


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def make_room(opened: Path, say: Callable[[str], None]) -> None:
    """Remove what killed processes left, then what was used longest ago, of whatever kind, until all are within the limit.

    `opened`, whose lock is ours, stays, and so does what another process has the lock of. Outside of the home only what lies
    beside `opened` counts.
    """
    _sweep(opened)
    kinds = home() / "cache"
    folders = kinds.glob("*/") if opened.parent.parent == kinds else [opened.parent]
    allowed, used = limit(), {}
    for path in (path for folder in folders for path in kept(folder)):
        with suppress(OSError):  # another process may remove it first
            used[path] = (path.stat().st_mtime, size(path))
    total = sum(taken for _, taken in used.values())
    for path in sorted(used.keys() - {opened}, key=used.__getitem__):
        if total <= allowed:
            return
        if _removed(path):
            total -= (taken := used[path][1])
            why = f"to stay within FMHUB_CACHE_LIMIT ({allowed / 1e9:.3g} GB)"
            say(f"Removed the {path.parent.name} cache {path.name} ({taken / 1e6:.0f} MB) {why}.")


def _sweep(opened: Path) -> None:
    left = {path.with_name(path.stem[1:]) for path in opened.parent.glob(".*.tmp")}
    left |= {folder for path in opened.parent.glob(".*.lock") if not (folder := path.with_name(path.stem[1:])).exists()}
    for folder in left - {opened}:
        with suppress(OSError), locked(folder, wait=False) as ours:
            if ours:
                shutil.rmtree(half(folder), ignore_errors=True)
    for path in opened.parent.glob(".*"):
        with suppress(OSError):
            if path.is_file() and path.suffix != ".lock" and time.time() - path.stat().st_mtime > ABANDONED:
                path.unlink()


def _removed(path: Path) -> bool:
    """Whether it is gone now; a folder that another process has the lock of stays."""
    with suppress(OSError):
        if path.is_file():
            path.unlink(missing_ok=True)
            return True
        with locked(path, wait=False) as ours:
            if ours:
                remove(path)
            return ours
    return False


def mapped(path: Path, size: int, read: Callable[[Any], Read], write: Callable[[IO[Any]], None]) -> Read:
    """What `read` maps of the file at `path`, which `write` fills first where there is none of `size` bytes.

    One that is larger than the limit has no name and lasts as long as it is mapped.
    """
    if size > limit():
        with tempfile.TemporaryFile(dir=make_folder(path.parent)) as file:
            file.truncate(size)
            write(file)
            return read(file)
    with suppress(FileNotFoundError):  # another process may remove it
        if path.stat().st_size == size:
            os.utime(path)
            return read(path)
    with atomic(path) as file:
        file.truncate(size)
        write(file)
        found = read(file)
    make_room(path, lambda line: None)
    return found
