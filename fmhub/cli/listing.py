"""`fmhub tasks`, `fmhub backbones`, `fmhub info`: what there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fmhub import hub
from fmhub.cli.output import emit_json, fields, json_option, note, table
from fmhub.errors import UsageError, nearest

if TYPE_CHECKING:
    from fmhub.backbones import Card
    from fmhub.plugins.plugin import Plugin
    from fmhub.task import Task


@click.command()
@json_option
def tasks(as_json: bool) -> None:
    """List the tasks of every plugin."""
    rows = [_task_row(task, plugin) for task, plugin in hub.tasks()]
    if as_json:
        emit_json(rows)
    elif rows:
        names = [row["name"] for row in rows]
        shown = [row["full_name"] if names.count(row["name"]) > 1 else row["name"] for row in rows]
        columns = ("family", "backbone", "metric", "plugin", "title")
        table(("task", *columns), [[name, *map(row.get, columns)] for name, row in zip(shown, rows, strict=True)])
    else:
        click.echo("No tasks. Install a plugin: fmhub plugins search, then fmhub install NAME")
    warn_of_plugins()


def warn_of_plugins() -> None:
    """One line on stderr for each plugin that is quarantined or shares a name."""
    for plugin in hub.plugins():
        if plugin.status == "broken":
            note(f"Plugin {plugin.name} {plugin.version} is quarantined: {plugin.problem}")
        for line in plugin.notes:
            note(f"Plugin {plugin.name} {plugin.version}: {line}")
    if any(plugin.status == "broken" for plugin in hub.plugins()):
        note("`fmhub doctor` says what mends it.")


def _task_row(task: Task, plugin: Plugin) -> dict[str, Any]:
    return {
        "name": task.name, "full_name": f"{plugin.name}:{task.name}", "plugin": plugin.name, "plugin_version": plugin.version,
        "version": task.version, "title": task.title, "family": task.family, "backbone": task.backbone, "metric": _name(task.metrics[0]),
    }  # fmt: skip


def _name(part: Any) -> str:
    """A metric or baseline by name, a spec by its class."""
    return part if isinstance(part, str) else str(getattr(part, "name", type(part).__name__))


@click.command()
@json_option
def backbones(as_json: bool) -> None:
    """List the pretrained backbones: fmhub's own and those of plugins."""
    rows = [_card_row(card, owner) for card, owner in _cards().values()]
    if as_json:
        emit_json(rows)
        return
    columns = ("modality", "parameters", "licence", "from", "fetched", "title")
    millions = [{**row, "parameters": f"{row['parameters'] / 1e6:.1f} M", "fetched": "yes" if row["fetched"] else ""} for row in rows]
    table(("backbone", *columns), [[row["name"], *map(row.get, columns)] for row in millions])


def _cards() -> dict[str, tuple[Card, str]]:
    """Every card by name with where it comes from; fmhub's own win, and of two plugins' the first by plugin name."""
    from fmhub.backbones import builtin

    found = {card.name: (card, plugin.name) for card, plugin in reversed(hub.backbones())}
    found |= {name: (card, "fmhub") for name, card in builtin().items()}
    return dict(sorted(found.items()))


def _card_row(card: Card, owner: str) -> dict[str, Any]:
    from fmhub import artifacts

    return {
        "name": card.name, "title": card.title, "architecture": card.architecture, "modality": card.modality, "licence": card.licence,
        "parameters": card.parameters, "sha256": card.sha256, "from": owner, "fetched": artifacts.folder(card.artifact).is_dir(),
    }  # fmt: skip


@click.command()
@click.argument("name")
@json_option
def info(name: str, as_json: bool) -> None:
    """Show one task, backbone or plugin, installed or in the directory."""
    described = _describe(name)
    if as_json:
        emit_json(described)
    else:
        fields({key.replace("_", " "): _flat(value) for key, value in described.items()})


def _describe(name: str) -> dict[str, Any]:
    from fmhub.plugins import directory

    known_tasks = {task.name for task, _ in hub.tasks()}
    known_plugins = {plugin.name: plugin for plugin in hub.plugins()}
    listed = directory.entries()
    if name in known_tasks or name.rpartition(":")[0] in known_plugins:
        return _describe_task(*hub.task(name))
    if name in (cards := _cards()):
        card, owner = cards[name]
        more = {"files": [vars(file) for file in card.files], "homepage": card.homepage, "citation": card.citation}
        return {"kind": "backbone", **_card_row(card, owner), **more}
    if name in known_plugins:
        return {"kind": "plugin", **plugin_row(known_plugins[name])}
    if name in listed:
        return {"kind": "plugin", "status": "not installed", **vars(listed[name]), "command": f"fmhub install {name}"}
    if directory.who_has(name):
        hub.task(name)  # raises, and says which plugin has it
    known = [*known_tasks, *cards, *known_plugins, *listed, *(task for entry in listed.values() for task in entry.tasks)]
    raise UsageError(f"No task, backbone or plugin {name!r}.{nearest(name, known)} See fmhub tasks, fmhub backbones, fmhub plugins.")


def _describe_task(task: Task, plugin: Plugin) -> dict[str, Any]:
    import dataclasses

    stem = "the backbone's own" if task.stem is None else _name(task.stem)
    words = {name: getattr(task, name) for name in ("summary", "licence", "source", "citation", "group", "expects")}
    parts = {"data": _name(task.data), "stem": stem, "head": _name(task.head)}
    lists = {"metrics": [_name(one) for one in task.metrics], "baselines": [_name(one) for one in task.baselines]}
    frozen = {"recipe": dataclasses.asdict(task.recipe), "references": [vars(one) for one in task.references]}
    return {"kind": "task", **_task_row(task, plugin), **words, **parts, **lists, **frozen}


def plugin_row(plugin: Plugin) -> dict[str, Any]:
    """A plugin as plain data."""
    words = ("name", "version", "summary", "status", "problem", "mend", "notes", "file", "entry_points")
    lists = {"tasks": [task.name for task in plugin.tasks], "backbones": [card.name for card in plugin.backbones]}
    return {**{word: getattr(plugin, word) for word in words}, **lists}


def _flat(value: Any, prefix: str = "") -> Any:
    """Nested values as `key=value` and `outer.key=value`, for people."""
    if isinstance(value, dict):
        shown = {key: one for key, one in value.items() if one is not None}
        return " ".join(
            _flat(one, f"{prefix}{key}.") if isinstance(one, dict) else f"{prefix}{key}={_flat(one, prefix)}" for key, one in shown.items()
        )
    if isinstance(value, (list, tuple)):
        return "+".join(map(str, value)) if prefix else [_flat(one) for one in value]
    return value
