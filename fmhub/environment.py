"""This Python's packages: what is installed, what the hub needs of it, and its pip."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from fmhub.errors import FmhubError
from fmhub.home import offline, registry
from fmhub.plugin import normalise

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


def report(arguments: Sequence[str], work: Path) -> list[dict[str, Any]]:
    """The packages that `pip install` with these arguments would install, wheels only, as pip's report describes them."""
    path = work / "report.json"
    pip("install", "--dry-run", "--only-binary=:all:", "--report", str(path), *arguments)
    found: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))["install"]
    return found


def pip(*arguments: str) -> None:
    """Run this environment's pip; an `FmhubError` says in one line why it failed. `-P`: no module of the current folder is imported."""
    command = [sys.executable, "-P", "-m", "pip", arguments[0], "--quiet", "--disable-pip-version-check", "--no-input", *arguments[1:]]
    if offline() and "--no-index" not in arguments and arguments[0] != "uninstall":
        command.append("--no-index")
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        telling = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
        raise FmhubError(f"pip {arguments[0]} failed: {(telling or lines or ['no message'])[-1][:400]}")


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
