"""pip, or uv where this environment has no pip: what both can do, in pip's words."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from fmhub.errors import FmhubError
from fmhub.home import offline

_UV_LINE = re.compile(r"^ \+ ([A-Za-z0-9._-]+)==([^\s(]+)", re.MULTILINE)
"""A package that uv's dry run would install."""


def has_pip() -> bool:
    """Whether this environment has pip; environments made by uv lack it."""
    return importlib.util.find_spec("pip") is not None


def report(arguments: Sequence[str], work: Path) -> list[dict[str, Any]]:
    """The packages that `install` with these arguments would install, wheels only, in the form of pip's report.

    uv's dry run tells less: `metadata` holds name and version only.
    """
    if has_pip():
        path = work / "report.json"
        pip("install", "--dry-run", "--only-binary=:all:", "--report", str(path), *arguments)
        found: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))["install"]
        return found
    said = pip("install", "--dry-run", "--only-binary=:all:", *arguments)
    asked = {_name(argument) for argument in arguments}
    return [
        {"metadata": {"name": name, "version": version}, "requested": canonicalize_name(name) in asked}
        for name, version in _UV_LINE.findall(said)
    ]


def _name(argument: str) -> str:
    """The package that an argument names, if it does."""
    if argument.endswith(".whl"):
        return str(parse_wheel_filename(Path(argument).name)[0])
    try:
        return str(canonicalize_name(Requirement(argument).name))
    except InvalidRequirement:
        return ""


def pip(*arguments: str) -> str:
    """Run this environment's pip, or uv; returns what it said. An `FmhubError` says in one line why it failed.

    `-P`: no module of the current folder is imported.
    """
    if has_pip():
        command = [sys.executable, "-P", "-m", "pip", arguments[0], "--quiet", "--disable-pip-version-check", "--no-input", *arguments[1:]]
    else:
        command = _uv(*arguments)
    if offline() and "--no-index" not in arguments and arguments[0] != "uninstall":
        command.append("--no-index")
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        lines = [line.strip(" ×╰─▶\t") for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        telling = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
        said = (telling or lines or ["no message"])[-1] if has_pip() else " ".join(lines)
        raise FmhubError(f"{'pip' if has_pip() else 'uv'} {arguments[0]} failed: {said[:400]}")
    return done.stdout + done.stderr


def _uv(verb: str, *arguments: str) -> list[str]:
    """pip's command as uv's."""
    uv = shutil.which("uv")
    if uv is None:
        raise FmhubError("This environment has neither pip nor uv. Install one: python -m ensurepip, or `uv pip install pip`.")
    here = ["--python", sys.executable]
    if verb == "wheel":
        kept = [argument.replace("--wheel-dir", "--out-dir") for argument in arguments if argument != "--no-deps"]
        return [uv, "build", "--wheel", *here, *kept]
    words = {"--force-reinstall": "--reinstall"}
    return [uv, "pip", verb, *here, *(words.get(argument, argument) for argument in arguments if argument != "--yes")]
