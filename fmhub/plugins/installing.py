"""Installs plugins as guests: nothing that the hub needs is changed, and what does not load is not kept.

Resolve under constraints made from what is installed, refuse what would hurt, fetch the wheels, try them in an overlay folder,
and only then touch the environment, from the same wheels; put back what was there should the plugin not load after all.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import parse_wheel_filename
from packaging.version import Version

from fmhub.errors import FmhubError, UsageError, nearest
from fmhub.plugins import directory
from fmhub.plugins.environment import (
    FROZEN,
    Change,
    broken_by,
    change_of,
    check_ours,
    constraints,
    installed,
    needs,
    plain,
    restored_on_failure,
)
from fmhub.plugins.installer import has_pip, pip, report
from fmhub.plugins.plugin import normalise
from fmhub.plugins.trial import Say, name_of, put, quick_check, try_overlay, wheel_of
from fmhub.task import API_VERSION


@dataclass(frozen=True)
class Wanted:
    """What one argument of `install` asks for: a requirement for pip, or a folder or wheel at hand."""

    requirement: str
    path: Path | None = None


def install(
    specs: Sequence[str], *, upgrade: bool = False, dry_run: bool = False, say: Say = print, agree: Callable[[], bool] = lambda: True
) -> list[Change]:
    """Install plugins by directory name, requirement, folder or wheel; returns what was (or with `dry_run` would be) changed.

    Raises `UsageError` for an unknown name and `FmhubError` where it is refused or rolled back: the environment is as before then.
    """
    check_ours()
    wanted = [find(spec) for spec in specs]
    with tempfile.TemporaryDirectory(prefix="fmhub-install-") as name:
        work = Path(name)
        wheels = [wheel_of(one.path, work / "built", say) for one in wanted if one.path]
        asked = [*map(str, wheels), *(one.requirement for one in wanted if not one.path)]
        changes = _with_local(resolve(asked, work, upgrade=upgrade), wheels)
        refuse(changes, wanted, work)
        for change in changes:
            say(f"would install {change}" if dry_run else f"installs {change}")
        if not changes:
            say("Nothing to do: " + ", ".join(asked) + " is installed.")
        if dry_run or not changes or not agree():
            return changes
        others = [change for change in changes if change.name not in map(name_of, wheels)]
        packages = [*map(str, wheels), *_fetched(others, work / "fetched")]
        plugins = [change.name for change in changes if change.requested]
        try_overlay(packages, plugins, work / "overlay")
        with restored_on_failure(changes, work / "backup"):
            put(packages, "--force-reinstall")
            for line in quick_check(plugins):
                say(line)
    return changes


def uninstall(name: str) -> str:
    """Remove a plugin's distribution; returns its version. Raises `UsageError` if it is none."""
    check_ours()
    found = installed(normalise(name))
    if found is None or not any(point.group == "fmhub" for point in found.entry_points):
        raise UsageError(f"No plugin {name!r} is installed. `fmhub plugins` lists them.")
    version = found.version  # read before its file is gone
    pip("uninstall", "--yes", found.name)
    return version


def find(spec: str) -> Wanted:
    """What `spec` means: a folder or wheel, a name of the directory, or a requirement with a version."""
    path = Path(spec).expanduser()
    if path.suffix == ".whl" or spec.startswith((".", "/", "~")):
        return Wanted(spec, _usable(path))
    entries = directory.entries()
    if normalise(spec) not in entries and (path / "pyproject.toml").is_file():  # a name never runs a folder's build code
        return Wanted(spec, _usable(path))
    if entry := entries.get(normalise(spec)):
        _check_api(entry)
        if entry.folder is None:
            plainly = entry.minimum and entry.install == entry.name
            return Wanted(f"{entry.install}>={entry.minimum}" if plainly else entry.install)
        if not entry.folder.is_dir():
            raise FmhubError(f"Plugin {entry.name} is not published yet: install plugins/{entry.name} of a copy of fmhub's repository.")
        return Wanted(entry.name, entry.folder)
    try:
        requirement = Requirement(spec)
    except InvalidRequirement:
        raise UsageError(f"{spec!r} is no plugin of the directory, no folder and no requirement.{nearest(spec, entries)}") from None
    if not requirement.specifier or requirement.url:
        hint = nearest(spec, entries) or " `fmhub plugins search` lists what is."
        raise UsageError(f"Plugin {spec!r} is not in the directory.{hint} From a package index, name its version: {requirement.name}==1.0")
    return Wanted(spec)


def _usable(path: Path) -> Path:
    if path.suffix == ".whl" and path.is_file():
        name_of(path)
    elif not (path / "pyproject.toml").is_file():
        raise UsageError(f"{path} is no plugin: neither a wheel nor a folder with a pyproject.toml.")
    return path.absolute()


def _check_api(entry: directory.Entry) -> None:
    have = ".".join(map(str, API_VERSION))
    try:
        asked = SpecifierSet(f"~={entry.api}" if entry.api[:1].isdigit() else entry.api)
    except InvalidSpecifier:
        raise FmhubError(f"Plugin directory: {entry.name} has api = {entry.api!r}, which is no version and no range.") from None
    if not asked.contains(have):
        raise FmhubError(f"Plugin {entry.name} needs plugin API {entry.api}, and this fmhub has {have}: upgrade the older of the two.")


def resolve(asked: Sequence[str], work: Path, *, upgrade: bool = False) -> list[Change]:
    """What pip would install for `asked`, were it to leave what the hub needs as it is. Changes nothing."""
    lines = list(constraints())
    (work / "constraints.txt").write_text("\n".join(lines) + "\n")
    try:
        found = report(["--constraint", str(work / "constraints.txt"), *(["--upgrade"] if upgrade else []), *asked], work)
    except FmhubError as error:
        raise FmhubError(f"{_conflict(asked, work) or error}\nNothing was changed.") from None
    changes = [change_of(item) for item in found]
    return [change for change in changes if change.requested or change.before != change.after]


def refuse(changes: Sequence[Change], wanted: Sequence[Wanted], work: Path) -> None:
    """Raise `FmhubError` for a change of what the hub or another package needs, or a plugin that fell back to an old release of itself."""
    for change in changes:
        if change.before and (change.name in FROZEN or (change.name in needs() and Version(change.after) < Version(change.before))):
            raise FmhubError(f"Refused: it would change {change}, which fmhub needs. Nothing was changed.")
    if broken := next(broken_by(changes), ""):
        raise FmhubError(f"Refused: {broken}. Nothing was changed.")
    for one in wanted:
        for change in [change for change in changes if not one.path and change.name == plain(one.requirement)]:
            alone = report(["--no-deps", "--upgrade", one.requirement], work)
            newest = change_of(alone[0]).after if alone else change.before or change.after
            if Version(change.after) < Version(newest):
                raise FmhubError(
                    f"Refused: only the old {change.name} {change.after} fits what is here, not {newest}. Nothing was changed."
                )


def _conflict(asked: Sequence[str], work: Path) -> str:
    """Which requirement of the plugins themselves cannot be met beside the hub; empty if that is not it."""
    try:
        found = report(["--no-deps", "--upgrade", "--force-reinstall", *asked], work)
    except FmhubError:
        return ""
    lines = []
    for item in found:
        for requirement in map(Requirement, item["metadata"].get("requires_dist", ())):
            here = installed(normalise(requirement.name))
            if here is None or requirement.specifier.contains(here.version, prereleases=True):
                continue
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                name, version = item["metadata"]["name"], item["metadata"]["version"]
                lines.append(f"Refused: {name} {version} needs {requirement}, and here is {here.name} {here.version}.")
    return " ".join(lines)


def _with_local(changes: list[Change], wheels: Sequence[Path]) -> list[Change]:
    """A wheel at hand is installed again even where its version is there already: its files may be newer."""
    for wheel in wheels:
        name, version, *_ = parse_wheel_filename(wheel.name)
        if str(name) not in [change.name for change in changes]:
            found = installed(str(name))
            changes.append(Change(str(name), found.version if found else None, str(version), requested=True))
    return changes


def _fetched(changes: Sequence[Change], folder: Path) -> list[str]:
    """Wheels of exactly these versions; uv, which cannot download, takes them from its cache by name."""
    exact = [f"{change.name}=={change.after}" for change in changes]
    if not exact or not has_pip():
        return exact
    pip("download", "--no-deps", "--only-binary=:all:", "--dest", str(folder), *exact)
    return [str(path) for path in sorted(folder.glob("*.whl"))]
