"""A plugin is tried before it is kept: built, unpacked into an overlay folder, and checked there by a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from fmhub.errors import FmhubError, UsageError
from fmhub.home import offline
from fmhub.plugins.environment import installed
from fmhub.plugins.installer import pip
from fmhub.plugins.plugin import normalise

Say = Callable[[str], None]


def wheel_of(path: Path, folder: Path, say: Say) -> Path:
    """The wheel of a path; of a folder it is built, which runs the folder's own code."""
    if path.suffix == ".whl":
        return path
    say(f"Builds {path}: the build code of that folder is run.")
    before = set(folder.glob("*.whl"))
    pip("wheel", "--no-deps", "--wheel-dir", str(folder), *(["--no-build-isolation"] if offline() else []), str(path))
    return next(iter(set(folder.glob("*.whl")) - before))


def name_of(wheel: Path) -> str:
    try:
        return str(parse_wheel_filename(wheel.name)[0])
    except InvalidWheelFilename as error:
        raise UsageError(f"{wheel} is not named like a wheel: {error}.") from None


def unpack(path: Path, place: Path, work: Path, say: Say) -> str:
    """Put a folder's or wheel's files into `place`, without what it needs; returns its name."""
    wheel = wheel_of(path, work / "built", say)
    put([str(wheel)], "--target", str(place))
    return name_of(wheel)


def lacks(found: Distribution, extras: frozenset[str] = frozenset()) -> list[str]:
    """What a distribution, with these of its extras, requires and this environment does not have; `fmhub[image]` is looked into."""
    missing = []
    for one in map(Requirement, found.requires or ()):
        if one.marker is not None and not any(one.marker.evaluate({"extra": extra}) for extra in extras or [""]):
            continue
        there = installed(normalise(one.name))
        if there is None or not one.specifier.contains(there.version, prereleases=True):
            missing.append(str(one).partition(";")[0].strip())
        elif one.extras:
            missing += lacks(there, frozenset(one.extras))
    return missing


def quick_check(plugins: Sequence[str], overlay: Path | None = None) -> list[str]:
    """The quick part of `fmhub check`, in a process of its own; returns a line for each plugin.

    Raises `FmhubError` with the reason of the first that fails.
    """
    path = os.pathsep.join([*([str(overlay)] if overlay else []), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "FMHUB_DISABLE_PLUGINS")}
    command = [sys.executable, "-P", "-m", "fmhub.testing.quick", *plugins]
    done = subprocess.run(
        command, env={**environment, **({"PYTHONPATH": path} if path else {})}, capture_output=True, text=True, timeout=120
    )
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise FmhubError(f"The plugin ended the process that loaded it: {(done.stderr.strip() or 'no message').splitlines()[-1]}") from None
    return [_passed(name, found[name]) for name in plugins]


def _passed(name: str, seen: dict[str, Any]) -> str:
    """One line of praise. CPU time is not held against a plugin here, for this machine may be a slow one."""
    if seen["problem"]:
        raise FmhubError(f"Plugin {name} does not load: {seen['problem']}.")
    if seen["heavy"]:
        raise FmhubError(
            f"Plugin {name} imports {', '.join(seen['heavy'])} as soon as it is loaded: every fmhub command would wait for that."
        )
    if seen["sockets"]:
        raise FmhubError(f"Plugin {name} opens a socket as soon as it is loaded ({seen['sockets'][0]}).")
    for outcome in seen["outcomes"]:
        if outcome["ok"] is False:
            raise FmhubError(f"Plugin {name}: {outcome['task'] + ': ' if outcome['task'] else ''}{outcome['check']}: {outcome['figure']}.")
    return f"{name}: {', '.join(seen['tasks']) or 'no tasks'}"


def put(packages: Sequence[str], *arguments: str) -> None:
    """Install exactly these: wheels at hand, or where uv keeps them `name==version`; nothing that they need."""
    at_hand = ["--no-index"] if all(package.endswith(".whl") for package in packages) else []
    pip("install", "--no-deps", "--only-binary=:all:", *at_hand, *arguments, *packages)


def try_overlay(packages: Sequence[str], plugins: Sequence[str], overlay: Path) -> None:
    """Unpack them into `overlay` and check the plugins there. Raises `FmhubError`: nothing was changed."""
    put(packages, "--target", str(overlay))
    try:
        quick_check(plugins, overlay)
    except FmhubError as error:
        raise FmhubError(f"{error}\nNothing was changed.") from None
