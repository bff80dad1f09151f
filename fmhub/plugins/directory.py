"""The plugin directory, `registry/plugins/*.toml`: which plugin has which task, and what installs it.

One file a plugin, edited by pull request: name, summary, install (a pip requirement, or a path relative to the registry),
api ("1.0": that plugin API and later ones of the same major number, or a range like ">=1.0,<1.4"), licence, homepage, maintainers,
minimum (its oldest good version), [tasks] name = one line.

`FMHUB_REGISTRY` names a registry of one's own that is read instead: a folder with `plugins/*.toml`, or `URL#sha256=HASH` of one TOML file
with a table a plugin (`[fmhub-sms]`, `[fmhub-sms.tasks]`), kept in the home once it was fetched and matched.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fmhub.errors import FetchError, FmhubError, UntrustedFile
from fmhub.home import atomic, home, offline, registry, valid_name

LARGEST = 1 << 20
"""Bytes of a directory that is fetched."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One plugin as the directory describes it."""

    name: str
    summary: str
    install: str
    tasks: dict[str, str]
    api: str = "1.0"
    licence: str = ""
    homepage: str = ""
    maintainers: tuple[str, ...] = ()
    minimum: str = ""

    @property
    def folder(self) -> Path | None:
        """Where its source lies when `install` is a path relative to the registry, which one that was fetched has not."""
        return (folder() / self.install).resolve() if self.install.startswith(("./", "../")) else None


def folder() -> Path:
    """The registry whose `plugins/` is read. Raises `FmhubError` when `FMHUB_REGISTRY` is no folder."""
    if not (chosen := os.environ.get("FMHUB_REGISTRY")) or _is_url(chosen):
        return registry()
    place = Path(chosen).expanduser().absolute()
    if not (place / "plugins").is_dir():
        raise FmhubError(f"FMHUB_REGISTRY={chosen} has no folder `plugins`: name a registry on this machine, or unset it.")
    return place


def entries() -> dict[str, Entry]:
    """Every entry, by name. Raises `FmhubError` naming a file that cannot be used."""
    chosen = os.environ.get("FMHUB_REGISTRY", "")
    if _is_url(chosen):
        return _pinned(chosen)
    return {entry.name: entry for entry in map(read, sorted((folder() / "plugins").glob("*.toml")))}


def read(path: Path) -> Entry:
    """One entry from its file, whose stem must be its name. Raises `FmhubError`."""
    import tomllib  # most commands never look into the directory

    try:
        return _entry(tomllib.loads(path.read_text("utf-8")), path.stem)
    except (OSError, ValueError, TypeError, KeyError, FmhubError) as error:
        raise FmhubError(f"Plugin directory: {path} cannot be used: {error}") from None


def _entry(values: dict[str, Any], expected: str) -> Entry:
    entry = Entry(**{**values, "tasks": dict(values["tasks"]), "maintainers": tuple(values.get("maintainers", ()))})
    for name, value in vars(entry).items():
        if name not in ("tasks", "maintainers") and not isinstance(value, str):
            raise TypeError(f"`{name}` must be text")
    for task in entry.tasks:
        valid_name(task, "Task")
    if valid_name(entry.name, "Plugin") != expected:
        raise ValueError(f"its name is {entry.name}, and here {expected} is expected")
    return entry


def _is_url(chosen: str) -> bool:
    return chosen.partition("://")[0] in ("http", "https", "file")


def _pinned(chosen: str) -> dict[str, Entry]:
    """The entries of one TOML file at a URL, whose bytes must have the hash that stands behind `#sha256=`."""
    import hashlib
    import tomllib

    url, _, digest = chosen.partition("#sha256=")
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise FmhubError(f"FMHUB_REGISTRY={url} is not pinned: write it as URL#sha256=HASH, with the 64 digits that `sha256sum` prints.")
    kept = home() / "registry" / f"{digest}.toml"
    content = kept.read_bytes() if kept.is_file() else _fetch(url)
    if (has := hashlib.sha256(content).hexdigest()) != digest:
        raise UntrustedFile(f"The plugin directory at {url} has sha256 {has}, not the pinned {digest}: it is not used.")
    if not kept.is_file():
        with atomic(kept) as file:
            file.write(content)
    try:
        found = {name: _entry({"name": name, **values}, name) for name, values in sorted(tomllib.loads(content.decode()).items())}
        if local := [entry.name for entry in found.values() if entry.folder]:
            raise ValueError(f"{local[0]} is installed from a path, which a file that was fetched cannot name")
        return found
    except (ValueError, TypeError, KeyError, FmhubError) as error:
        raise FmhubError(f"Plugin directory: {url} cannot be used: {error}") from None


def _fetch(url: str) -> bytes:
    import urllib.request

    if offline() and not url.startswith("file:"):
        raise FetchError(f"The plugin directory at {url} was not fetched before, and FMHUB_OFFLINE is set.")
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            content: bytes = answer.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        raise FetchError(f"The plugin directory at {url} cannot be fetched: {error}.") from None
    if len(content) > LARGEST:
        raise UntrustedFile(f"The plugin directory at {url} is larger than {LARGEST} bytes: it is not used.")
    return content


def who_has(task: str) -> Entry | None:
    """The entry of the plugin that lists `task`."""
    return next((entry for entry in entries().values() if task in entry.tasks), None)


def search(words: str) -> Iterator[Entry]:
    """Entries in which every word of `words` occurs: in the name, the summary or the tasks."""
    wanted = words.lower().split()
    for entry in entries().values():
        text = " ".join([entry.name, entry.summary, *entry.tasks, *map(str, entry.tasks.values())]).lower()
        if all(word in text for word in wanted):
            yield entry
