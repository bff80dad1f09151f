"""The plugin directory, `registry/plugins/*.toml`: which plugin has which task, and what installs it.

One file a plugin, edited by pull request: name, summary, install (a pip requirement, or a path relative to the registry),
api ("1.0": the plugin API it was written for), licence, homepage, maintainers, minimum (its oldest good version), [tasks] name = one line.
`FMHUB_REGISTRY` names a folder of one's own that is read instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fmhub.errors import FmhubError
from fmhub.home import registry, valid_name


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
        """Where its source lies when `install` is a path relative to the registry."""
        return (folder() / self.install).resolve() if self.install.startswith(("./", "../")) else None


def folder() -> Path:
    """The registry whose `plugins/` is read. Raises `FmhubError` when `FMHUB_REGISTRY` is no folder."""
    if not (chosen := os.environ.get("FMHUB_REGISTRY")):
        return registry()
    place = Path(chosen).expanduser().absolute()
    if not (place / "plugins").is_dir():
        raise FmhubError(f"FMHUB_REGISTRY={chosen} has no folder `plugins`: name a registry on this machine, or unset it.")
    return place


def entries() -> dict[str, Entry]:
    """Every entry, by name. Raises `FmhubError` naming a file that cannot be used."""
    return {entry.name: entry for entry in map(read, sorted((folder() / "plugins").glob("*.toml")))}


def read(path: Path) -> Entry:
    """One entry from its file, whose stem must be its name. Raises `FmhubError`."""
    import tomllib  # most commands never look into the directory

    try:
        values: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
        entry = Entry(**{**values, "tasks": dict(values["tasks"]), "maintainers": tuple(values.get("maintainers", ()))})
        for name, value in vars(entry).items():
            if name not in ("tasks", "maintainers") and not isinstance(value, str):
                raise TypeError(f"`{name}` must be text")
        for task in entry.tasks:
            valid_name(task, "Task")
        if valid_name(entry.name, "Plugin") != path.stem:
            raise ValueError(f"its name is {entry.name}, so its file must be {entry.name}.toml")
    except (OSError, ValueError, TypeError, KeyError, FmhubError) as error:
        raise FmhubError(f"Plugin directory: {path} cannot be used: {error}") from None
    return entry


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
