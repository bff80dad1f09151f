"""One plugin: what it is, and how it is loaded so that whatever is wrong with it stays its own.

Every plugin has its own pluggy manager: a hook that cannot be registered, or that raises, concerns nobody else.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pluggy

import fmhub
from fmhub import hookspecs
from fmhub.errors import FmhubError
from fmhub.home import valid_name
from fmhub.task import API_VERSION, Task

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

    from packaging.specifiers import SpecifierSet

MOST = 1000
"""Tasks or backbones that one plugin may declare; a generator that never ends stops here."""


@dataclass(frozen=True)
class Plugin:
    """An installed plugin, named by its distribution. `status` is `broken` when it is quarantined; `problem` says why in one line."""

    name: str
    version: str
    entry_points: tuple[str, ...] = ()
    file: str = ""
    summary: str = ""
    status: Literal["ok", "broken", "disabled"] = "ok"
    problem: str | None = None
    mend: str = ""
    traceback: str = field(default="", repr=False)
    notes: tuple[str, ...] = ()
    tasks: tuple[Task, ...] = ()
    backbones: tuple[Any, ...] = ()
    managers: tuple[pluggy.PluginManager, ...] = field(default=(), repr=False, compare=False)


class Broken(FmhubError):
    """Why a plugin is quarantined, and what mends it."""

    def __init__(self, problem: str, mend: str = "") -> None:
        super().__init__(problem)
        self.mend = mend


class TooSlow(BaseException):
    """The plugin's time is up. Not an `Exception`, so that a plugin's own `except Exception` lets it through."""


def normalise(name: str) -> str:
    """A distribution's name as package indexes compare it: `Fmhub_SMS` -> `fmhub-sms`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def load(distribution: Distribution, entry_points: Sequence[EntryPoint], *, seconds: float) -> Plugin:
    """Import a distribution's entry points and collect what they declare. Never raises but for Ctrl-C."""
    metadata = distribution.metadata  # once: each look parses the file anew
    points = tuple(f"{point.name} = {point.value}" for point in entry_points)
    plugin = Plugin(normalise(metadata["Name"]), metadata["Version"], points, summary=metadata["Summary"] or "")
    requires = metadata.get_all("Requires-Dist") or distribution.requires or ()
    parts: list[Any] = []
    return guarded(plugin, seconds, lambda: _load(plugin, requires, entry_points, parts))


def from_object(part: Any, name: str, version: str, *, seconds: float) -> Plugin:
    """A plugin from a module or object at hand, without a distribution."""
    plugin = Plugin(name, version, file=str(getattr(part, "__file__", "") or ""))
    return guarded(plugin, seconds, lambda: _collect(plugin, [part]))


def guarded(plugin: Plugin, seconds: float, work: Callable[[], Plugin]) -> Plugin:
    """What `work` returns, or `plugin` quarantined with the reason. What the plugin prints goes to stderr: stdout may be JSON."""
    try:
        with contextlib.redirect_stdout(sys.stderr), time_limit(seconds):
            return work()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        problem, mend = _explain(plugin, error, seconds)
        text = "".join(traceback.format_exception(error))
        return replace(plugin, status="broken", problem=problem, mend=mend, traceback=text, file=plugin.file or _file_of(plugin))


def clock() -> float:
    """Seconds that go on while the main thread runs, sleeps or waits for a file, but not while it is kept waiting for a core: a plugin
    is not to blame for a busy machine. Wall clock where the system does not count that."""
    try:
        waited = int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        waited = 0.0
    return time.monotonic() - waited


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `TooSlow` in the body after `seconds` of `clock`, and again every half second should it be swallowed.

    An alarm rather than a daemon thread: it really stops the import (sleeping, waiting or spinning), leaves no thread behind that
    holds import locks, and modules are imported where they expect to be, in the main thread. Elsewhere, and on a plugin
    stuck inside C code that never looks at signals, there is no limit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    armed, began = False, clock()

    def ring(*_: object) -> None:
        if armed and clock() - began >= seconds:
            raise TooSlow

    handler = signal.signal(signal.SIGALRM, ring)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 0.5)
    armed = True
    try:
        try:
            yield
        finally:
            armed = False  # should the bell ring on this very line, the next one is half a second away
    finally:
        signal.setitimer(signal.ITIMER_REAL, left, interval)
        signal.signal(signal.SIGALRM, handler)


def _load(plugin: Plugin, requires: Sequence[str], entry_points: Sequence[EntryPoint], parts: list[Any]) -> Plugin:
    valid_name(plugin.name, "Plugin")
    for line in requires:
        _check_requirement(line)
    for point in entry_points:
        part = point.load()
        if part not in parts:
            parts.append(part)
    return _collect(plugin, parts)


def _check_requirement(line: str) -> None:
    """Whether this fmhub is one that a line of a distribution's requirements asks for."""
    asked = re.match(r"fmhub(?![\w.-])\s*(?:\[[\w\s,.-]*\])?", line, re.IGNORECASE)
    if not asked:
        return
    specifier, applies = _parsed(line, line[asked.end() :])
    if applies and not specifier.contains(fmhub.__version__, prereleases=True):
        raise Broken(f"it requires fmhub{specifier}, and this is fmhub {fmhub.__version__}", "upgrade the older of the two")


def _parsed(line: str, versions: str) -> tuple[SpecifierSet, bool]:
    """A requirement's versions, and whether its marker holds here. The parser of whole requirements costs a fifth of `fmhub tasks`'s
    imports, so that a line of versions alone, as all but a few are, goes without."""
    from packaging.specifiers import SpecifierSet

    if not set(versions) & set("(;@["):
        return SpecifierSet(versions), True
    from packaging.requirements import Requirement

    requirement = Requirement(line)
    return requirement.specifier, requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def _collect(plugin: Plugin, parts: Sequence[Any]) -> Plugin:
    """Register each module with a manager of its own and ask it for tasks and backbones."""
    managers, tasks, backbones = [], [], []
    for part in parts:
        _check_api(part)
        manager = _manager(part)
        managers.append(manager)
        tasks += [_checked_task(one) for one in _gather(manager, "fmhub_tasks")]
        backbones += [_checked_backbone(one) for one in _gather(manager, "fmhub_backbones")]
    for what, names in (("task", [task.name for task in tasks]), ("backbone", [card.name for card in backbones])):
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise Broken(f"it declares {what} {', '.join(twice)} more than once", "give each its own name")
    file = next((str(part.__file__) for part in parts if getattr(part, "__file__", None)), plugin.file)
    return replace(plugin, file=file, tasks=tuple(tasks), backbones=tuple(backbones), managers=tuple(managers))


def _check_api(part: Any) -> None:
    asked = getattr(part, "fmhub_api", API_VERSION)
    if not (isinstance(asked, tuple) and len(asked) == 2 and all(type(number) is int for number in asked)):
        raise Broken(f"fmhub_api is {asked!r}: it takes a pair of whole numbers, like {API_VERSION}")
    if asked[0] != API_VERSION[0] or asked[1] > API_VERSION[1]:
        have, want = (".".join(map(str, pair)) for pair in (API_VERSION, asked))
        raise Broken(f"it needs plugin API {want}, and this fmhub has {have}", "upgrade the older of the two, fmhub or the plugin")


def _manager(part: Any) -> pluggy.PluginManager:
    manager = pluggy.PluginManager("fmhub")
    manager.add_hookspecs(hookspecs)
    manager.register(part)
    manager.check_pending()
    if not manager.get_hookcallers(part):
        raise Broken("it implements no hook", "decorate fmhub_tasks with @fmhub.hookimpl")
    return manager


def _gather(manager: pluggy.PluginManager, hook: str) -> Iterator[Any]:
    for implementation in getattr(manager.hook, hook).get_hookimpls():
        result = implementation.function()
        if isinstance(result, (str, bytes, dict)) or not hasattr(result, "__iter__"):
            raise Broken(f"{hook}() gave {_kind(result)}, not a list of them", f"`yield` each one from {hook}(), or return a list")
        for count, one in enumerate(itertools.islice(result, MOST + 1)):
            if count == MOST:
                raise Broken(f"{hook}() gives more than {MOST}")
            yield one


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _checked_task(task: Any) -> Task:
    if not isinstance(task, Task):
        raise Broken(f"fmhub_tasks() gave {_kind(task)} where a Task belongs", "yield fmhub.Task objects only")
    return task


def _checked_backbone(card: Any) -> Any:
    if not isinstance(getattr(card, "name", None), str):
        raise Broken(f"fmhub_backbones() gave {_kind(card)} where a card belongs", "yield fmhub.backbones.Card objects only")
    valid_name(card.name, "Backbone")
    return card


def _explain(plugin: Plugin, error: BaseException, seconds: float) -> tuple[str, str]:
    """(what is wrong in one line, what mends it)."""
    retry = f"report it to the authors of {plugin.name}, or remove it: fmhub uninstall {plugin.name}"
    match error:
        case Broken():
            return str(error), error.mend or retry
        case TooSlow():
            return f"it did not load within {seconds:g} s", f"{retry}; on a slow machine raise FMHUB_PLUGIN_SECONDS"
        case SystemExit():
            return f"it called exit({error.code!r}) while it was loaded", retry
        case ModuleNotFoundError() if error.name:
            return _line(error), f"install what it needs: pip install --upgrade {plugin.name}  (missing: {error.name})"
        case SyntaxError():
            return f"SyntaxError: {error.msg} ({Path(error.filename or '?').name}, line {error.lineno})", retry
        case pluggy.PluginValidationError():
            return _line(error, ""), f"compare its hooks with fmhub.hookspecs; {retry}"
        case _:
            return _line(error), retry


def _line(error: BaseException, kind: str | None = None) -> str:
    """The error as one line, at most 300 characters."""
    kind = type(error).__name__ + ": " if kind is None else kind
    return (kind + " ".join(str(error).split())).removesuffix(": ")[:300]


def _file_of(plugin: Plugin) -> str:
    """Where a module that did not import would lie, found without importing it."""
    import importlib.machinery

    for point in plugin.entry_points:
        top = point.partition("=")[2].strip().split(":")[0].split(".")[0]
        with contextlib.suppress(Exception):
            if spec := importlib.machinery.PathFinder.find_spec(top):
                return spec.origin or ""
    return ""
