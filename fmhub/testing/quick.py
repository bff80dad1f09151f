"""The quick checks: light import, metadata, names, licences. They need no data and no weights, and take about a second.

`python -m fmhub.testing.quick NAME...` loads each plugin in a process of its own and prints what was seen as JSON: `fmhub install`
runs that against an overlay folder, so that nothing of a plugin is ever imported where it could do harm.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from fmhub.testing import Outcome, Seen, sockets

if TYPE_CHECKING:
    from fmhub.plugins.plugin import Plugin
    from fmhub.task import Task

HEAVY = ("torch", "transformers", "datasets", "evaluate", "pandas", "sklearn")
"""What no plugin imports before it is used: every fmhub command would wait for it."""
MOST = 0.05
"""Seconds of CPU that importing a plugin may cost beyond fmhub's own."""


def examine(name: str) -> dict[str, Any]:
    """Load the installed plugin `name` in this process: `problem`, `tasks`, `seconds` (of CPU), `heavy`, `sockets` and `outcomes`."""
    from fmhub import hub
    from fmhub.plugins import plugin

    _warm()
    found = hub.installed()
    if name not in found:
        return {"problem": "it has no entry point in group `fmhub`", "tasks": [], "outcomes": []}
    distribution, points = found[name]
    tried = sockets.close(sockets.roots(points))
    began = time.process_time()
    loaded = plugin.load(distribution, points, seconds=30)
    seconds = time.process_time() - began
    heavy = [word for word in HEAVY if word in sys.modules]
    seen = {"problem": loaded.problem, "tasks": [task.name for task in loaded.tasks], "seconds": seconds, "heavy": heavy, "sockets": tried}
    return {**seen, "outcomes": [vars(outcome) for outcome in _declared(loaded, distribution.metadata)] if not loaded.problem else []}


def light(seen: dict[str, Any]) -> Outcome:
    """Whether importing the plugin cost little and reached for nothing."""
    wrong = [f"it imports {', '.join(seen['heavy'])}"] if seen["heavy"] else []
    wrong += [f"it opens a socket ({', '.join(seen['sockets'])})"] if seen["sockets"] else []
    wrong += [f"more than {1000 * MOST:.0f} ms"] if seen["seconds"] > MOST else []
    figure = f"{1000 * seen['seconds']:.0f} ms of CPU" + "".join(f"; {one}" for one in wrong)
    mend = ": import it inside the function that uses it" if seen["heavy"] else ""
    return Outcome("light import", not wrong, figure + mend)


def _warm() -> None:
    """Import what any plugin may name, so that only the plugin's own cost is seen."""
    from fmhub import backbones, data, evaluation, heads, stems  # noqa: F401
    from fmhub.evaluation import baselines  # noqa: F401


def _declared(plugin: Plugin, metadata: Any) -> Iterator[Outcome]:
    figure = f"{len(plugin.tasks)} tasks, {len(plugin.backbones)} backbones"
    yield Outcome("declares", True if plugin.tasks or plugin.backbones else None, figure)
    yield Outcome("package licence", *package_licence(metadata.get("License-Expression") or ""))
    for task in plugin.tasks:
        for name, look in (("metadata", described), ("names", named), ("licences", licensed)):
            yield Outcome(name, *_tried(look, task, plugin), task=task.name)


def _tried(look: Callable[[Task, Plugin], Seen], task: Task, plugin: Plugin) -> Seen:
    from fmhub.errors import FmhubError

    try:
        return look(task, plugin)
    except FmhubError as error:
        return False, str(error)


def package_licence(expression: str) -> Seen:
    """The distribution's licence is an SPDX expression; where there is none that is told."""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    if not expression:
        return None, 'not declared: say `license = "..."` in pyproject.toml before you publish'
    try:
        return True, str(canonicalize_license_expression(expression))
    except InvalidLicenseExpression as error:
        return False, str(error)


def described(task: Task, plugin: Plugin) -> Seen:
    """Title and version are there and on one line; what else users look for is told where it is absent."""
    for name in ("title", "version"):
        value = getattr(task, name)
        if not isinstance(value, str) or not value.strip() or "\n" in value:
            return False, f"{name} is {value!r}: one line of text is needed"
    if task.expects not in ("skill", "chance"):
        return False, f"expects is {task.expects!r}: it takes skill or chance"
    absent = [name for name in ("summary", "source", "family") if getattr(task, name) in ("", "other")]
    return True, "complete" if not absent else f"{task.title}; users would like to know {', '.join(absent)}"


def named(task: Task, plugin: Plugin) -> Seen:
    """Metrics and backbone are known, names are used once, and no shipped plugin has a task of this name."""
    from fmhub import backbones
    from fmhub.evaluation import metrics
    from fmhub.plugins import directory

    found = [metrics.get(metric).name for metric in task.metrics]
    names = [baseline.name for baseline in task.baselines]
    for what, all_of in (("metric", found), ("baseline", names)):
        if twice := {name for name in all_of if all_of.count(name) > 1}:
            return False, f"{what} {', '.join(sorted(twice))} is named twice"
    card = backbones.card(task.backbone, {card.name: card for card in plugin.backbones})
    other = directory.who_has(task.name)
    shared = f"; {other.name} has a task {task.name}, too: users need full names" if other and other.name != plugin.name else ""
    return True, f"{card.name}; {', '.join(found)}{shared}"


def licensed(task: Task, plugin: Plugin) -> Seen:
    """The data's licence, and the backbone's, which every card has to name."""
    from fmhub import backbones

    card = backbones.card(task.backbone, {card.name: card for card in plugin.backbones})
    if card in plugin.backbones and not card.licence:
        return False, f"backbone {card.name} has no licence"
    if not task.licence:
        return None, f'data: not declared, say licence="..." in the Task; backbone: {card.licence or "unknown"}'
    return True, f"data: {task.licence}; backbone: {card.licence or 'unknown'}"


def main() -> None:
    """Print what was seen of every named plugin. What a plugin prints goes to stderr."""
    out = os.dup(1)
    os.dup2(2, 1)
    os.write(out, json.dumps({name: examine(name) for name in sys.argv[1:]}).encode())


if __name__ == "__main__":
    main()
