"""`fmhub new`: a whole plugin of some kind, that installs, passes `fmhub check` and runs at once; made to be changed.

A kind is a template of the module in `templates/kinds` and a maker of its examples in `samples`; `templates/common` is for all packages.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from string import Template

from fmhub.errors import FmhubError, UsageError
from fmhub.home import valid_name
from fmhub.plugins.plugin import normalise

TEMPLATES = Path(__file__).parent / "templates"
KINDS = {
    "text": "one label for a text",
    "image": "one label for a picture",
    "detection": "boxes of things in a picture",
    "audio": "one label for a sound",
    "table": "one label for a row of a table",
    "sequence": "which item a user meets next",
    "custom": "a stem and a metric of your own",
}
"""Kinds whose stems and heads the core has."""
EXTRAS = {"image": "[image]", "detection": "[image]", "audio": "[audio]"}
"""What a kind asks of fmhub beyond the core."""
COMMON = {
    "pyproject.txt": "pyproject.toml",
    "README.md": "README.md",
    "LICENSE": "LICENSE",
    "gitignore": ".gitignore",
    "check.yml": ".github/workflows/check.yml",
    "test_plugin.txt": "tests/test_plugin.py",
}
"""Template: where it goes."""


def new(name: str, kind: str, parent: Path) -> Path:
    """Write the package `name` into a folder of that name in `parent`, all of it or nothing; returns the folder.

    Raises `UsageError` for a name that is none, or a folder that exists.
    """
    from fmhub.scaffold import samples

    if kind not in KINDS:
        raise UsageError(f"Unknown kind {kind!r}. Known: {', '.join(KINDS)}.")
    words = {**_words(name), "extra": EXTRAS.get(kind, "")}
    folder = parent / name
    if folder.exists():
        raise UsageError(f"{folder} exists: choose another name, or move it away.")
    files = {place: _filled(TEMPLATES / "common" / source, words) for source, place in COMMON.items()}
    package = f"src/{words['module']}"
    for path in sorted((TEMPLATES / "kinds").glob(f"{kind}*.txt")):
        module = path.stem.removeprefix(kind).removeprefix("-") or "__init__"
        files[f"{package}/{module}.py"] = _filled(path, words)
    files |= {f"{package}/{place}": content for place, content in getattr(samples, kind)().items()}
    try:
        with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=parent) as work:
            for place, content in files.items():
                path = Path(work) / name / place
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            (Path(work) / name).rename(folder)
    except OSError as error:
        raise FmhubError(f"Cannot write {folder}: {error.strerror or error}.") from None
    return folder


def _words(name: str) -> dict[str, str]:
    """What stands for the name in templates."""
    if normalise(valid_name(name, "Plugin")) != name:
        raise UsageError(f"Plugin {name!r} is not a valid name: use a-z, 0-9 and single '-', like fmhub-birds.")
    module = name.replace("-", "_")
    task = name.removeprefix("fmhub-")
    if not module.isidentifier() or name == "fmhub" or not task:
        raise UsageError(f"Plugin {name!r} cannot be a Python module: begin with a letter, like fmhub-birds.")
    return {"name": name, "module": module, "task": task, "title": task.replace("-", " ").capitalize()}


def _filled(path: Path, words: dict[str, str]) -> bytes:
    return Template(path.read_text("utf-8")).substitute(words).encode()
