"""Looks at everything that fmhub stands on and says of each: well or not, and what mends it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fmhub import hub
from fmhub.errors import FmhubError
from fmhub.home import home, offline
from fmhub.plugins.environment import installed

ROOM = 2 << 30
"""Bytes free on the home's disk below which a run may fail."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `ok` is None where it is only told."""

    what: str
    ok: bool | None
    detail: str
    mend: str = ""
    traceback: str = ""


def examine(*, device: bool = True) -> Iterator[Finding]:
    """Every finding, one by one. `device` asks torch, which takes seconds, in a process of its own."""
    asked = [_device] if device else []
    checks: list[Callable[[], Iterator[Finding]]] = [_versions, *asked, _home, _plugins, _weights, _data, _cache, _board, _network]
    for check in checks:
        try:
            yield from check()
        except FmhubError as error:
            yield Finding(check.__name__.strip("_"), False, str(error))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _versions() -> Iterator[Finding]:
    ours = sys.version.split()[0]
    yield Finding("python", sys.version_info >= (3, 11), ours, "fmhub needs Python 3.11 or newer")
    for name in ("fmhub", "torch", "transformers", "peft", "accelerate"):
        found = installed(name)
        yield Finding(name, found is not None, found.version if found else "not installed", f"pip install {name}")


def _device() -> Iterator[Finding]:
    """What torch would train on. The import may crash or hang, so it is not ours."""
    code = (
        "import json, torch; a = torch.accelerator; "
        "print(json.dumps([str(a.current_accelerator()) if a.is_available() else 'cpu', torch.get_num_threads()]))"
    )
    try:
        done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=120, check=True)
        kind, threads = json.loads(done.stdout)
        yield Finding("device", True, f"{kind}, {threads} threads of {os.cpu_count()} CPUs")
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip() or "no message").splitlines()[-1]
        yield Finding("device", False, f"torch does not import: {last}", "pip install --force-reinstall torch", error.stderr)
    except (subprocess.TimeoutExpired, ValueError):
        yield Finding("device", False, "torch did not answer within 120 s", "pip install --force-reinstall torch")


def _home() -> Iterator[Finding]:
    place = home()
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    yield Finding("home", writable, f"{place}{'' if writable else ' cannot be written to'}", "set FMHUB_HOME to a folder that you own")
    free = shutil.disk_usage(there).free
    yield Finding("disk", free >= ROOM, f"{free / 2**30:.1f} GiB free", f"{ROOM >> 30} GiB are wanted: delete old runs (fmhub runs rm RUN)")


def _plugins() -> Iterator[Finding]:
    for plugin in hub.plugins():
        where = f"plugin {plugin.name} {plugin.version}"
        told = [
            plugin.problem or _count(len(plugin.tasks), "task"),
            *plugin.notes,
            *([plugin.file] if plugin.problem and plugin.file else []),
        ]
        ok = {"ok": True, "broken": False, "disabled": None}[plugin.status]
        yield Finding(where, ok, "; ".join(told), plugin.mend, plugin.traceback)


def _weights() -> Iterator[Finding]:
    """The kept files of every card, read in full and compared with the promised hashes."""
    from fmhub import artifacts
    from fmhub.backbones import builtin

    cards = {card.name: card for card, _ in reversed(hub.backbones())} | dict(builtin())
    for name, card in sorted(cards.items()):
        place: Path = artifacts.folder(card.artifact)
        if not place.is_dir():
            yield Finding(f"backbone {name}", None, "not fetched yet")
        else:
            wrong = artifacts.check(card.artifact)
            yield Finding(f"backbone {name}", not wrong, "; ".join(wrong) or "every hash is right", f"delete {place}: it is fetched again")
    for name, place, whole in artifacts.kept("backbones", but={artifacts.folder(card.artifact) for card in cards.values()}):
        told = f"{place} {'is as it was fetched' if whole else 'is not whole, or was changed'}; no card of now names it"
        yield Finding(f"backbone {name}", whole, told, f"delete {place}")


def _data() -> Iterator[Finding]:
    """Every data set that was fetched, read in full and compared with the hashes that its folder is named by."""
    from fmhub import artifacts

    found = list(artifacts.kept("data"))
    wrong = [(name, place) for name, place, whole in found if not whole]
    for name, place in wrong:
        yield Finding(f"data {name}", False, f"{place} is not whole, or was changed", f"delete {place}: it is fetched again")
    if not wrong:
        yield Finding(
            "data", bool(found) or None, f"{_count(len(found), 'fetched set')}, every hash is right" if found else "nothing fetched yet"
        )


def _cache() -> Iterator[Finding]:
    """What is kept for later runs: damaged states of frozen layers are built again, and until then take room for nothing."""
    from fmhub import cache

    def told(paths: list[Path], one: str, what: str) -> list[str]:
        taken = sum(cache.size(path) for path in paths) / 1e6
        return [f"{_count(len(paths), one)} of {what}, {taken:,.0f} MB"] if paths else []

    folders = [path for path in sorted(cache.kept(cache.root())) if path.is_dir()]
    halves = list(cache.root().glob(".*.tmp"))
    wrong = []
    for folder in folders:
        try:
            cache.meta_of(folder)
        except (OSError, ValueError, KeyError, TypeError) as error:
            if not folder.exists():  # a run has just removed it, to stay within its limit
                continue
            wrong.append(folder)
            yield Finding("cache", False, f"{folder} is damaged: {error}", f"delete {folder}: it is built again")
    if not wrong:
        found = [line + ", every hash is right" for line in told(folders, "cache", "frozen layers")]
        for kind, what in (("pictures", "decoded pictures"), ("items", "vectors of texts")):
            found += told(cache.kept(cache.root(kind)), "file", what)
        yield Finding("cache", bool(found) or None, "; ".join(found) or "empty")
    if halves:
        taken = sum(cache.size(folder) for folder in halves)
        rest = f"{len(halves)}, {taken / 1e6:,.0f} MB: being filled, or left by a killed run and removed by the next that keeps one"
        yield Finding("unfinished caches", None, rest)


def _board() -> Iterator[Finding]:
    file = home() / "board.sqlite"
    if not os.environ.get("FMHUB_DATABASE") and not file.exists():
        yield Finding("board", None, "no runs on it yet")
        return
    from fmhub.leaderboard import store

    mend = "restore it from a backup, or move the file away to begin anew"
    try:
        if not os.environ.get("FMHUB_DATABASE"):
            _read_through(file)
        yield Finding("board", True, f"opens, {_count(len(store.board()), 'task')}")
    except FmhubError as error:
        yield Finding("board", False, str(error), mend)


def _read_through(file: Path) -> None:
    """Have SQLite look at every page, which opening does not. Raises `FmhubError`."""
    import sqlite3

    try:
        with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            (answer,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as error:
        answer = str(error)
    if answer != "ok":
        raise FmhubError(f"{file} is damaged: {' '.join(str(answer).split())}.")


def _network() -> Iterator[Finding]:
    yield Finding(
        "network", None, "never used: offline is switched on" if offline() else "used to fetch what is absent (FMHUB_OFFLINE=1 forbids it)"
    )
