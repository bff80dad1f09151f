"""A plugin that is checked where it lies: built and unpacked into a folder on the path of this and of child processes."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fmhub import hub
from fmhub.errors import FmhubError, UsageError
from fmhub.plugins import installing, trial
from fmhub.plugins.environment import installed
from fmhub.plugins.plugin import normalise


@contextmanager
def opened(target: str | None, say: Callable[[str], None]) -> Iterator[str]:
    """The name of the plugin that `target` means; a folder's or a wheel's is importable while the body runs.

    Raises `UsageError` where there is no such plugin.
    """
    if target is None:
        if not Path("pyproject.toml").is_file():
            raise UsageError("Name an installed plugin or the folder of one: fmhub check PLUGIN|PATH.")
        target = "."
    if normalise(target) in hub.installed():
        yield normalise(target)
        return
    wanted = installing.find(target) if _is_path(target) else None
    if wanted is None or wanted.path is None:
        yield normalise(target)  # the kit says that it is unknown, and what is near
        return
    with tempfile.TemporaryDirectory(prefix="fmhub-overlay-") as work:
        place = Path(work) / "overlay"
        name = trial.unpack(wanted.path, place, Path(work), say)
        with _on_path(place):
            if name not in hub.installed():
                raise UsageError(f"{target} is no plugin: package {name} has no entry point in group `fmhub` (see plugins/README.md).")
            if (found := installed(name)) and (missing := trial.lacks(found)):
                raise FmhubError(f"Plugin {name} needs {', '.join(missing)}, not installed here. Install it first: fmhub install {target}")
            yield name


def _is_path(target: str) -> bool:
    return target.startswith((".", "/", "~")) or target.endswith(".whl") or Path(target).is_dir()


@contextmanager
def _on_path(place: Path) -> Iterator[None]:
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(place), before]))
    sys.path.insert(0, str(place))
    importlib.invalidate_caches()
    hub.refresh()
    try:
        yield
    finally:
        sys.path.remove(str(place))
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
        hub.refresh()
