"""Sockets closed, by an audit hook: nothing in this process reaches the network, and whoever tried is named."""

from __future__ import annotations

import importlib.util
import socket
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint
    from types import FrameType

REACHING = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.sendto", "socket.sendmsg")
"""Events that leave the machine, or ask how to."""
MAKING = ("socket.__new__", "socket.bind")
"""Events of a socket that goes nowhere yet: libraries try out IPv6 with one while they are imported, a plugin has no use for it."""


class Closed(OSError):
    """A socket was opened where none may be."""


def close(roots: Sequence[str] = ()) -> list[str]:
    """Refuse every socket from now on, for the rest of the process; returns the list that attempts are written to.

    `roots` are folders and files of the plugin: of its own code not even making a socket is allowed.
    """
    tried: list[str] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if not event.startswith("socket.") or event not in REACHING + MAKING or _local(event, arguments):
            return
        if event in REACHING or _made_by(roots):
            tried.append(f"{event.removeprefix('socket.').strip('_')}{_where(event, arguments)}")
            raise Closed(f"sockets are closed while a plugin is checked ({tried[-1]})")

    sys.addaudithook(hook)
    return tried


def roots(points: Iterable[EntryPoint]) -> list[str]:
    """Folders and files of the modules that these entry points name, found without importing them."""
    specs = [importlib.util.find_spec(name) for name in {point.module.split(".")[0] for point in points}]
    return [place for spec in specs if spec for place in (spec.submodule_search_locations or [spec.origin or ""]) if place]


def _local(event: str, arguments: tuple[Any, ...]) -> bool:
    """A socket of this machine's own files, as multiprocessing uses."""
    if event == "socket.__new__":
        return bool(arguments[1] == socket.AF_UNIX)
    return event == "socket.connect" and isinstance(arguments[1], str | bytes)


def _where(event: str, arguments: tuple[Any, ...]) -> str:
    return f" {arguments[1 if event == 'socket.connect' else 0]}" if event in REACHING[:3] else ""


def _made_by(roots: Sequence[str]) -> bool:
    """Whether the plugin's own code is nearer than the import of a library."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if any(name.startswith(root) for root in roots):
            return True
        if name.startswith("<frozen importlib"):
            return False
        frame = frame.f_back
    return False
