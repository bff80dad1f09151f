"""`pytest --fmhub`: every check of the plugin in this folder, as a test beside the author's own.

The plugin must be installed (`pip install -e .`); its name is the one in `pyproject.toml`.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fmhub")
    group.addoption("--fmhub", action="store_true", help="check the fmhub plugin of this folder")
    group.addoption("--fmhub-backbone", metavar="B", help="check it with another backbone: a card's name or a folder")


@pytest.hookimpl(tryfirst=True)  # before `-k` and `-m` choose
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add one test a check, in the order of `fmhub check`."""
    if not config.getoption("--fmhub"):
        return
    from fmhub.errors import FmhubError

    try:
        found: list[pytest.Item | pytest.Collector] = [*_items(session, config)]
        items += [one for one in found if isinstance(one, pytest.Item)]
        config.hook.pytest_collectreport(report=pytest.CollectReport("fmhub", "passed", None, [*found]))  # so that they are counted
    except FmhubError as error:
        raise pytest.UsageError(str(error)) from None


def _items(session: pytest.Session, config: pytest.Config) -> Iterator[pytest.Item]:
    from fmhub import hub
    from fmhub.testing import kit

    name = _name(config)
    shared = contextlib.ExitStack()
    config.add_cleanup(shared.close)
    for outcome in kit.quick(name):
        yield Check.from_parent(session, name=": ".join(filter(None, ("fmhub", outcome.task, outcome.check))), see=partial(_same, outcome))
    found = next((plugin for plugin in hub.plugins() if plugin.name == name and plugin.status == "ok"), None)
    for task in found.tasks if found else ():
        subject = cache(partial(_open, shared, found, task, config.getoption("--fmhub-backbone")))
        for one in kit.checks():
            yield Check.from_parent(session, name=f"fmhub: {task.name}: {kit.title(one)}", see=partial(_judge, one, subject))


def _same(outcome: Any) -> Any:
    return outcome


def _open(shared: contextlib.ExitStack, *of: Any) -> Any:
    """The subject of a task, until the session ends."""
    from fmhub.testing import kit

    return shared.enter_context(kit.opened(*of))


def _judge(one: Callable[[Any], Any], subject: Callable[[], Any]) -> Any:
    from fmhub.testing import kit

    return kit.judged(one, subject())


def _name(config: pytest.Config) -> str:
    import tomllib

    from fmhub import hub
    from fmhub.errors import UsageError
    from fmhub.plugins.plugin import normalise

    path = config.rootpath / "pyproject.toml"
    if not path.is_file():
        raise UsageError(f"--fmhub: {config.rootpath} has no pyproject.toml; run it in the folder of a plugin.")
    name = normalise(str(tomllib.loads(path.read_text("utf-8")).get("project", {}).get("name", "")))
    if name not in hub.installed():
        raise UsageError(f"--fmhub: plugin {name!r} is not installed here: pip install -e .")
    return name


class Failed(Exception):
    """A check that failed; its message is the figure."""


class Check(pytest.Item):
    """One check as a test; its figure is in the report's sections."""

    def __init__(self, *, see: Callable[[], Any], **named: Any) -> None:
        super().__init__(**named)
        self.see = see

    def runtest(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of libraries are not the author's
            outcome = self.see()
        self.user_properties.append(("figure", outcome.figure))
        if outcome.ok is None:
            pytest.skip(outcome.figure)
        if not outcome.ok:
            raise Failed(outcome.figure)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        return str(excinfo.value) if isinstance(excinfo.value, Failed) else super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        return self.path, None, self.name
