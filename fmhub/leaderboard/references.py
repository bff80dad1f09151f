"""The frozen ends of normalised scores: what a task declares, and the committed record of its reference run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fmhub import hub
from fmhub.errors import FmhubError
from fmhub.home import read_json, registry
from fmhub.task import Reference, Task


def record(task: str) -> dict[str, Any] | None:
    """`registry/leaderboard/<plugin>/<task>.json`, the record of the reference run of `plugin:task`, where there is one."""
    plugin, _, name = task.partition(":")
    path = registry() / "leaderboard" / plugin / f"{name}.json"
    if not path.is_file():
        return None
    found = read_json(path)
    return found if isinstance(found, dict) else None


def find(task: str, version: str, fingerprint: str, metric: str, *, own_data: bool = False) -> Reference | None:
    """The task's reference for this version, these data and this metric.

    None where the task is not installed, has none, or where its floor lies within the reference run's own interval: there a
    normalised score would be noise.
    """
    try:
        declared, plugin = hub.task(task)
        held = record(f"{plugin.name}:{declared.name}")
    except FmhubError:
        return None
    found = next((one for one in declared.references if one.metric == metric), None)
    if found is None or str(declared.version) != version or own_data:
        return None
    if held is not None and str(held["task"]["version"]) == version:
        score = held["scores"]["test"].get(metric) or {}
        if held["data"]["fingerprint"] != fingerprint or _within(found.floor, score):
            return None
    return found


def _within(value: float, score: Mapping[str, Any]) -> bool:
    return score.get("low") is not None and score["low"] <= value <= score["high"]


def universe() -> dict[tuple[str, str], str]:
    """{(plugin:task, version): family} of the installed tasks that have references: what an overall mean is taken over.

    A task whose floor lies within its reference run's own interval is left out, as its scores are not normalised.
    """
    return {
        (f"{plugin.name}:{task.name}", str(task.version)): task.family
        for task, plugin in hub.tasks()
        if _has(task, f"{plugin.name}:{task.name}")
    }


def _has(task: Task, name: str) -> bool:
    found = next((one for one in task.references if one.metric == _name(task.metrics[0])), None)
    held = record(name) if found is not None else None
    if found is None or held is None or str(held["task"]["version"]) != str(task.version):
        return found is not None
    return not _within(found.floor, held["scores"]["test"].get(found.metric) or {})


def _name(metric: Any) -> str:
    return metric if isinstance(metric, str) else str(metric.name)
