"""Which plugins there are, and which task, backbone and observer a name means."""

from __future__ import annotations

import logging
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fmhub
from fmhub import hub
from fmhub.errors import FmhubError, UsageError
from fmhub.plugins import directory
from fmhub.plugins.plugin import normalise

ONE = "@hookimpl\ndef fmhub_tasks(): yield task({!r})\n"


@pytest.fixture
def alone(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what the test itself installs in `site`."""
    import importlib.metadata

    real = importlib.metadata.distributions
    monkeypatch.setattr(importlib.metadata, "distributions", lambda **_: real(path=[str(site)]))


@pytest.fixture
def registered() -> Iterator[Callable[..., Any]]:
    names = []

    def add(name: str = "local", **hooks: Any) -> Any:
        names.append(name)
        return hub.register(types.SimpleNamespace(**{hook: fmhub.hookimpl(call) for hook, call in hooks.items()}), name)

    yield add
    for name in names:
        hub.unregister(name)


def make(name: str) -> fmhub.Task:
    part = types.SimpleNamespace(load=None, build=None)
    return fmhub.Task(name=name, title=name, data=part, head=part, metrics=["accuracy"])


@pytest.mark.usefixtures("alone")
def test_a_plugin_is_named_by_its_distribution(distribution: Callable[..., str]) -> None:
    module = distribution("Fmhub_Odd.Name", ONE.format("odd"), point="short", version="2.1")
    (plugin,) = hub.plugins()
    assert (plugin.name, plugin.version, plugin.status, plugin.summary) == ("fmhub-odd-name", "2.1", "ok", "made up")
    assert plugin.entry_points == (f"short = {module}",)
    assert plugin.file.endswith(f"{module}.py")
    assert hub.task("odd")[1] is plugin
    assert hub.task("fmhub-odd-name:odd")[0] is plugin.tasks[0]


@pytest.mark.usefixtures("alone")
def test_two_claims_on_one_bare_name(distribution: Callable[..., str]) -> None:
    distribution("fmhub-b", ONE.format("same"))
    distribution("fmhub-a", ONE.format("same"))
    with pytest.raises(UsageError, match=r"'same' is not unique: fmhub-a:same and fmhub-b:same"):
        hub.task("same")
    assert hub.task("fmhub-a:same")[1].name == "fmhub-a"
    assert hub.task("fmhub-b:same")[1].name == "fmhub-b"
    assert all("task 'same' is claimed by fmhub-a and fmhub-b" in plugin.notes[0] for plugin in hub.plugins())


@pytest.mark.usefixtures("alone")
def test_a_shared_entry_point_name_drops_neither(distribution: Callable[..., str]) -> None:
    distribution("fmhub-a", ONE.format("left"), point="twin")
    distribution("fmhub-b", ONE.format("right"), point="twin")
    assert [task.name for task, _ in hub.tasks()] == ["left", "right"]
    assert all("fmhub-a and fmhub-b: both are kept" in plugin.notes[0] for plugin in hub.plugins())


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("value", "left"), [("all", []), ("fmhub-a", ["b"]), ("short, fmhub-b", []), ("", ["a", "b"]), ("fmhub", ["a", "b"])]
)
def test_switched_off(value: str, left: list[str], distribution: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    distribution("fmhub-a", ONE.format("a"), point="short")
    distribution("fmhub-b", ONE.format("b"))
    monkeypatch.setenv("FMHUB_DISABLE_PLUGINS", value)
    assert [task.name for task, _ in hub.tasks()] == left
    assert {plugin.status for plugin in hub.plugins() if plugin.name[-1] not in left} <= {"disabled"}


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("requirement", "problem"),
    [
        ("fmhub>=99", "it requires fmhub>=99, and this is fmhub"),
        ("fmhub<0.0.1", "it requires fmhub<0.0.1"),
        ("fmhub[test]>=99", "it requires fmhub"),
        ("fmhub>=0.0.1", None),
        ("fmhub", None),
        ('fmhub>=99; python_version < "3"', None),
        ("fmhub-text>=99", None),
        ("fmhubble>=99", None),
        ("torch<1", None),
    ],
)
def test_requirement_on_fmhub(requirement: str, problem: str | None, distribution: Callable[..., str]) -> None:
    distribution("fmhub-a", ONE.format("a"), requires=[requirement])
    (plugin,) = hub.plugins()
    assert (plugin.problem or "").startswith(problem or "")
    assert (plugin.status == "ok") is (problem is None)


@pytest.mark.usefixtures("alone")
def test_unknown_names_say_what_is_near_and_what_installs_it(distribution: Callable[..., str], tmp_path: Path, monkeypatch: Any) -> None:
    distribution("fmhub-a", ONE.format("weather"))
    distribution("fmhub-bad", "1 / 0")
    entries(tmp_path, {"fmhub-far": ["storm"], "fmhub-bad": ["hail"]}, monkeypatch)
    with pytest.raises(UsageError, match=r"Unknown task 'wether'\. Did you mean weather\?"):
        hub.task("wether")
    with pytest.raises(UsageError, match=r"Did you mean storm\?"):
        hub.task("strom")
    with pytest.raises(hub.NotInstalled, match="fmhub install fmhub-far") as caught:
        hub.task("storm")
    assert caught.value.plugin == "fmhub-far"
    with pytest.raises(UsageError, match="'hail' is in plugin fmhub-bad, which is broken: ZeroDivisionError"):
        hub.task("hail")
    with pytest.raises(UsageError, match="Plugin fmhub-far is not installed"):
        hub.task("fmhub-far:storm")
    with pytest.raises(UsageError, match="Plugin fmhub-bad is broken"):
        hub.task("fmhub-bad:hail")
    with pytest.raises(UsageError, match=r"Unknown plugin 'fmhub-aa'\. Did you mean fmhub-a"):
        hub.task("fmhub-aa:weather")
    with pytest.raises(UsageError, match=r"in plugin fmhub-a\. Did you mean weather\?"):
        hub.task("fmhub-a:wether")


def entries(tmp_path: Path, plugins: dict[str, list[str]], monkeypatch: Any) -> Path:
    folder = tmp_path / "registry" / "plugins"
    folder.mkdir(parents=True, exist_ok=True)
    for name, tasks in plugins.items():
        lines = [f'name = "{name}"', 'summary = "s"', f'install = "{name}"', "[tasks]", *(f'{task} = "one line"' for task in tasks)]
        (folder / f"{name}.toml").write_text("\n".join(lines))
    monkeypatch.setenv("FMHUB_REGISTRY", str(folder.parent))
    return folder


def test_register_and_unregister(registered: Callable[..., Any]) -> None:
    plugin = registered(fmhub_tasks=lambda: [make("mine")])
    assert hub.task("local:mine") == (plugin.tasks[0], plugin)
    hub.unregister()
    with pytest.raises(UsageError):
        hub.task("local:mine")


def test_register_refuses_a_broken_one() -> None:
    with pytest.raises(FmhubError, match="Plugin local: it implements no hook"):
        hub.register(types.SimpleNamespace())
    with pytest.raises(UsageError, match="not a valid name"):
        hub.register(types.SimpleNamespace(), "Über")


def test_backbones_come_with_their_plugin(registered: Callable[..., Any]) -> None:
    card = types.SimpleNamespace(name="tiny-one")
    plugin = registered(fmhub_backbones=lambda: [card])
    assert (card, plugin) in hub.backbones()


def test_an_observer_that_raises_harms_nobody(registered: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []

    def bad(run: Any, step: int, values: Any) -> None:
        raise RuntimeError("no disk")

    registered("aaa", fmhub_logged=bad)
    registered("bbb", fmhub_logged=lambda run, step: seen.append(step))
    with caplog.at_level(logging.WARNING, "fmhub"):
        hub.hook("fmhub_logged", run={}, step=7, values={})
    assert seen == [7]
    assert [record.getMessage() for record in caplog.records] == ["Plugin aaa: fmhub_logged raised RuntimeError: no disk"]


def test_an_observer_that_exits_or_changes_what_it_is_told_harms_nobody(registered: Callable[..., Any]) -> None:
    def bad(run: Any, record: Any) -> None:
        record["scores"]["test"] = 1.0
        run.clear()
        raise SystemExit(3)

    registered("aaa", fmhub_run_finished=bad)
    run, record = {"id": "one"}, {"scores": {"test": 0.5}}
    hub.hook("fmhub_run_finished", run=run, record=record)
    assert (run, record) == ({"id": "one"}, {"scores": {"test": 0.5}})


def test_an_observer_lets_ctrl_c_through(registered: Callable[..., Any]) -> None:
    def stop(run: Any) -> None:
        raise KeyboardInterrupt

    registered(fmhub_run_started=stop)
    with pytest.raises(KeyboardInterrupt):
        hub.hook("fmhub_run_started", run={})


@given(st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?", fullmatch=True))
def test_normalised_names_stay(name: str) -> None:
    assert normalise(normalise(name)) == normalise(name) == normalise(name.replace("-", "_").upper())


@pytest.mark.parametrize("seconds", ["soon", "1s"])
def test_seconds_must_be_a_number(seconds: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FMHUB_PLUGIN_SECONDS", seconds)
    with pytest.raises(UsageError, match="FMHUB_PLUGIN_SECONDS"):
        hub.register(types.SimpleNamespace())


def test_the_shipped_directory_is_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FMHUB_REGISTRY", raising=False)
    found = directory.entries()
    assert "fmhub-text" in found
    for entry in found.values():
        assert entry.summary
        assert entry.licence
        assert entry.tasks
        assert all(entry.tasks.values())
        assert entry.folder is None or (entry.folder / "pyproject.toml").is_file()


def test_the_shipped_directory_lists_the_tasks_that_its_plugins_have() -> None:
    listed = directory.entries()
    for plugin in hub.plugins():
        if plugin.name in listed and plugin.status == "ok":
            assert set(listed[plugin.name].tasks) == {task.name for task in plugin.tasks}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = 3", "tasks"),
        ("nonsense", "cannot be used"),
        ('name="a"\nsummary="s"\ninstall=7\n[tasks]', "`install` must be text"),
        ('name="b"\nsummary="s"\ninstall="b"\n[tasks]', "its name is b, and here a is expected"),
        ('name="a"\nsummary="s"\ninstall="a"\ncolour="red"\n[tasks]', "colour"),
        ('name="a"\nsummary="s"\ninstall="a"\n[tasks]\n"../x"="y"', "not a valid name"),
    ],
)
def test_a_bad_entry_is_named(text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = entries(tmp_path, {}, monkeypatch)
    (folder / "a.toml").write_text(text)
    with pytest.raises(FmhubError, match=r"a\.toml cannot be used") as caught:
        directory.entries()
    assert message in str(caught.value)


def test_search_wants_every_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries(tmp_path, {"fmhub-sky": ["storm", "hail"], "fmhub-sea": ["storm"]}, monkeypatch)
    assert [entry.name for entry in directory.search("STORM")] == ["fmhub-sea", "fmhub-sky"]
    assert [entry.name for entry in directory.search("storm hail")] == ["fmhub-sky"]
    assert not list(directory.search("fog"))
    assert len(list(directory.search(""))) == 2


def test_a_registry_that_is_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FMHUB_REGISTRY", str(tmp_path / "nowhere"))
    with pytest.raises(FmhubError, match="has no folder `plugins`"):
        directory.entries()
