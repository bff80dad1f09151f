"""This Python's packages: what is installed, what the hub needs of it, and how it is put back."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from fmhub.errors import FmhubError
from fmhub.home import registry
from fmhub.plugins.installer import pip
from fmhub.plugins.plugin import normalise

FROZEN = ("torch", "transformers", "peft", "accelerate")
"""No plugin's installation may change the version of these."""


@dataclass(frozen=True)
class Change:
    """One package that would be installed; `before` is None where it was absent. A plugin asked for is `requested`."""

    name: str
    before: str | None
    after: str
    requested: bool

    def __str__(self) -> str:
        if self.before == self.after:
            return f"{self.name} {self.after} (again)"
        return f"{self.name} {self.before} -> {self.after}" if self.before else f"{self.name} {self.after} (new)"


def check_ours() -> None:
    """Refuse a Python that its owner manages, before pip does with a page of text."""
    if sys.prefix == sys.base_prefix and Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").exists():
        raise FmhubError("This Python is managed by the system. Make an environment first: python3 -m venv .venv, and install fmhub there.")


def installed(name: str) -> Distribution | None:
    """The distribution called `name`, or None."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def needs() -> set[str]:
    """fmhub and every installed package that it needs, directly or not."""
    todo, seen = ["fmhub"], set[str]()
    while todo:
        name = todo.pop()
        if name in seen or (found := installed(name)) is None:
            continue
        seen.add(name)
        for requirement in map(Requirement, found.requires or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(normalise(requirement.name))
    return seen


def files(name: str) -> Iterator[Path]:
    """Every file that a distribution installed and that is still there."""
    found = installed(name)
    for file in (found.files or ()) if found else ():
        path = Path(str(file.locate()))
        if path.is_file():
            yield path


def change_of(item: dict[str, Any]) -> Change:
    """One item of pip's report, beside what is here."""
    name = normalise(item["metadata"]["name"])
    found = installed(name)
    return Change(name, found.version if found else None, item["metadata"]["version"], bool(item["requested"]))


def broken_by(changes: Sequence[Change]) -> Iterator[str]:
    """What is installed and would no longer have what it asks for: pip looks only at what it is told to install."""
    after = {change.name: change for change in changes}
    for found in distributions():
        if normalise(found.name or "") in after:
            continue
        for requirement in map(Requirement, found.requires or ()):
            change = after.get(normalise(requirement.name))
            if change is None or change.before is None or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
                continue
            had, has = (requirement.specifier.contains(version, prereleases=True) for version in (change.before, change.after))
            if had and not has:
                yield f"it would change {change}, and {found.name} {found.version} needs {requirement}"


def constraints() -> Iterator[str]:
    """What the hub needs stays: the frozen ones as they are, the others no older; what is absent as the house was tested."""
    present = {name: found.version for name in needs() if (found := installed(name))}
    for name, version in sorted(present.items()):
        yield f"{name}=={version}" if name in FROZEN else f"{name}>={version.partition('+')[0]}"
    tested = registry() / "constraints.txt"
    for line in tested.read_text("utf-8").splitlines() if tested.is_file() else ():
        if line and not line.startswith("#") and installed(plain(line)) is None:
            yield line


def plain(requirement: str) -> str:
    """The name in a requirement."""
    return normalise(Requirement(requirement).name)


@contextmanager
def restored_on_failure(changes: Sequence[Change], backup: Path) -> Iterator[None]:
    """Put back every changed package, file by file, should the body fail."""
    kept = [path for change in changes if change.before for path in files(change.name)]
    for number, path in enumerate(kept):
        (backup / str(number)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, backup / str(number))
    try:
        yield
    except BaseException as error:
        present = [change.name for change in changes if installed(change.name)]
        if present:
            pip("uninstall", "--yes", *present)
        for number, path in enumerate(kept):
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(backup / str(number), path)
        if isinstance(error, FmhubError):
            raise FmhubError(f"{error}\nRolled back: the environment is as before.") from None
        raise
