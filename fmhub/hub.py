"""Finds plugins, keeps the broken ones from harming anybody, and answers "which task, which backbone".

Plugins are the distributions with an entry point in group `fmhub`; a plugin's name is its distribution's. They are loaded one
by one: whatever one of them does, the others work, and the order in which they load decides nothing.
"""

from __future__ import annotations

import copy
import functools
import os
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fmhub.errors import FmhubError, UsageError, nearest
from fmhub.home import valid_name
from fmhub.plugins import directory
from fmhub.plugins.plugin import Plugin, clock, from_object, load, normalise
from fmhub.task import Task

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

GROUP = "fmhub"
TOTAL = 1.25
"""All plugins together may take this many times what one may; after that, each has only what shows that it hangs."""

_registered: dict[str, Plugin] = {}


class NotInstalled(UsageError):
    """A task that no installed plugin has, but plugin `plugin` of the directory does."""

    def __init__(self, task: str, plugin: str) -> None:
        super().__init__(f"Task {task!r} is in plugin {plugin}, which is not installed. Install it: fmhub install {plugin}")
        self.plugin = plugin


@functools.cache
def plugins() -> tuple[Plugin, ...]:
    """Every plugin, by name: the working, the broken and the disabled. Loaded at the first call; `refresh()` forgets them."""
    found = {plugin.name: plugin for plugin in _load_installed()} | _registered
    owners: dict[tuple[str, str], list[str]] = defaultdict(list)
    for plugin in found.values():
        for claim in _claims(plugin):
            owners[claim].append(plugin.name)
    return tuple(_with_notes(found[name], owners) for name in sorted(found))


def _claims(plugin: Plugin) -> set[tuple[str, str]]:
    """What a plugin calls its own, and others might, too."""
    points = {("entry-point name", point.partition(" = ")[0]) for point in plugin.entry_points}
    return points | {("task", task.name) for task in plugin.tasks} | {("backbone", card.name) for card in plugin.backbones}


def _with_notes(plugin: Plugin, owners: dict[tuple[str, str], list[str]]) -> Plugin:
    """Say which names it shares: none of the plugins is dropped, for each is known by its distribution."""
    shared = [(what, word, owners[what, word]) for what, word in sorted(_claims(plugin)) if len(owners[what, word]) > 1]
    remedy = {"task": "use full names", "backbone": "the first by plugin name counts", "entry-point name": "both are kept"}
    notes = tuple(f"{what} {word!r} is claimed by {' and '.join(sorted(names))}: {remedy[what]}" for what, word, names in shared)
    return replace(plugin, notes=notes) if notes else plugin


def tasks() -> tuple[tuple[Task, Plugin], ...]:
    """Every task with its plugin, by name."""
    pairs = [(task, plugin) for plugin in plugins() for task in plugin.tasks]
    return tuple(sorted(pairs, key=lambda pair: (pair[0].name, pair[1].name)))


def task(name: str) -> tuple[Task, Plugin]:
    """The task called `name`, bare or as `plugin:task`.

    Raises `NotInstalled`, or `UsageError` with the nearest names, or with both full names where two plugins claim a bare one.
    """
    owner, colon, bare = name.rpartition(":")
    if colon:
        plugin(owner)
    found = [(task, plugin) for task, plugin in tasks() if task.name == bare and owner in ("", plugin.name)]
    if len(found) == 1:
        return found[0]
    if found:
        names = " and ".join(f"{plugin.name}:{task.name}" for task, plugin in found)
        raise UsageError(f"Task {bare!r} is not unique: {names}. Use a full name.")
    raise _unknown_task(owner, bare)


def _unknown_task(owner: str, bare: str) -> UsageError:
    broken = {plugin.name: plugin for plugin in plugins() if plugin.status != "ok"}
    entry = directory.who_has(bare)
    if entry and not owner and entry.name in broken:
        return UsageError(f"Task {bare!r} is in plugin {entry.name}, which is {broken[entry.name].status}: {broken[entry.name].problem}.")
    if entry and not owner:
        return NotInstalled(bare, entry.name)
    known = [task.name for task, plugin in tasks() if owner in ("", plugin.name)]
    listed = [] if owner else [name for one in directory.entries().values() for name in one.tasks]
    where = f" in plugin {owner}" if owner else ""
    return UsageError(f"Unknown task {bare!r}{where}.{nearest(bare, {*known, *listed})} `fmhub tasks` lists them.")


def plugin(name: str) -> Plugin:
    """The working plugin called `name`. Raises `UsageError`: unknown, not installed, or quarantined and why."""
    known = {plugin.name: plugin for plugin in plugins()}
    found = known.get(normalise(name))
    if found is None:
        if name in directory.entries():
            raise UsageError(f"Plugin {name} is not installed. Install it: fmhub install {name}")
        raise UsageError(f"Unknown plugin {name!r}.{nearest(name, [*known, *directory.entries()])} `fmhub plugins` lists them.")
    if found.status != "ok":
        raise UsageError(f"Plugin {name} is {found.status}: {found.problem}. `fmhub doctor` says more.")
    return found


def backbones() -> tuple[tuple[Any, Plugin], ...]:
    """Every card that a plugin declares, with its plugin, by name; fmhub's own are in `fmhub.backbones`."""
    return tuple(
        sorted(((card, plugin) for plugin in plugins() for card in plugin.backbones), key=lambda pair: (pair[0].name, pair[1].name))
    )


def hook(name: str, /, **arguments: Any) -> None:
    """Call an observer hook of every plugin. One that raises, exits or changes what it is told never harms a run: it has copies, and what
    it raises is logged as one line.
    """
    for plugin in plugins():
        for manager in plugin.managers:
            call = getattr(manager.hook, name)
            if not call.get_hookimpls():
                continue
            try:
                call(**copy.deepcopy(arguments))
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                import logging

                logging.getLogger("fmhub").warning("Plugin %s: %s raised %s: %s", plugin.name, name, type(error).__name__, error)


def register(part: Any, name: str = "local", version: str = "0") -> Plugin:
    """Add a module (or any object with hooks) as plugin `name` of this process, for tests and notebooks.

    It stands in for an installed plugin of that name. Raises `FmhubError` with the reason for which it would be quarantined.
    """
    found = from_object(part, valid_name(name, "Plugin"), version, seconds=_seconds())
    if found.problem:
        raise FmhubError(f"Plugin {name}: {found.problem}.")
    _registered[name] = found
    plugins.cache_clear()
    return found


def unregister(name: str = "local") -> None:
    """Take back what `register` added; nothing happens if there is none."""
    _registered.pop(name, None)
    plugins.cache_clear()


def is_local(name: str) -> bool:
    """Whether plugin `name` was registered in this process, so that another process does not know it."""
    return name in _registered


def refresh() -> None:
    """Look for installed plugins anew at the next question."""
    _load_installed.cache_clear()
    plugins.cache_clear()


@functools.cache
def _load_installed() -> tuple[Plugin, ...]:
    found = installed()
    disabled = {word.strip() for word in os.environ.get("FMHUB_DISABLE_PLUGINS", "").split(",") if word.strip()}
    seconds = _seconds()
    deadline = clock() + TOTAL * seconds
    result = []
    for name, (distribution, points) in sorted(found.items()):
        words = {"all", name, *(point.name for point in points)}
        if words & disabled:
            names = tuple(f"{point.name} = {point.value}" for point in points)
            result.append(Plugin(name, distribution.version, names, status="disabled", problem="switched off by FMHUB_DISABLE_PLUGINS"))
            continue
        result.append(load(distribution, points, seconds=min(seconds, max(0.5, deadline - clock()))))
    return tuple(result)


def _seconds() -> float:
    """Seconds of `clock` that one plugin may take to load."""
    try:
        return max(0.1, float(os.environ.get("FMHUB_PLUGIN_SECONDS") or "4"))
    except ValueError:
        raise UsageError("FMHUB_PLUGIN_SECONDS takes a number of seconds.") from None


def installed() -> dict[str, tuple[Distribution, list[EntryPoint]]]:
    """Each distribution of the group with its entry points; of one installed twice, the first on the path counts, as for imports."""
    from importlib.metadata import distributions

    found: dict[str, tuple[Distribution, list[EntryPoint]]] = {}
    for distribution in distributions():
        text = distribution.read_text("entry_points.txt") or ""
        if f"[{GROUP}]" not in text:
            continue
        name = distribution.metadata["Name"]  # read once: each look parses the file anew
        points = [point for point in distribution.entry_points if point.group == GROUP]
        if name and points:
            found.setdefault(normalise(name), (distribution, points))
    return found
