"""The overall board: systems compared across tasks by their normalised scores."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from fmhub.leaderboard import references
from fmhub.leaderboard.statistics import COSTS, front, means
from fmhub.leaderboard.tables import TABLE
from fmhub.leaderboard.targets import HIDDEN


def overall(tables: Sequence[dict[str, Any]], universe: dict[tuple[str, str], str] | None = None) -> dict[str, Any]:
    """{tasks: {task: family}, systems: [{system, rank, value, low, high, families, win_rate, tasks, cost, front}]}, best first.

    A system is a backbone with its adapters, or a baseline by name. The tasks are the installed ones that have frozen
    references, so that nobody's entry changes another's mean. Several entries of a system on one task are averaged (the best
    of many draws is no estimate); a task where all failed, or that was not tried, counts as the floor, and `tasks` says how
    many were tried; one where contamination was declared is left out of the mean. A task that a hidden part ranks is nobody's
    here: its references are of the test part. `cost` is the mean over the tasks tried, where all of a system's tasks say it;
    `front` names the costs at which no system is both better and cheaper.
    """
    universe = references.universe() if universe is None else universe
    blind = {(one["task"], one["version"]) for one in tables if one["split"] == HIDDEN and _referred(one)}
    universe = {key: family for key, family in universe.items() if key not in blind}
    families = {task: family for (task, _), family in universe.items()}
    found: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for table in tables:
        if (table["task"], table["version"]) in universe and table["split"] != HIDDEN:
            for entry in table["entries"]:
                if not entry["copy_of"]:
                    found[entry["system"]][table["task"]].append(entry)
    values = {
        system: {task: value for task, held in tasks.items() if (value := _value(held)) is not ...} for system, tasks in found.items()
    }
    rows = means({system: held for system, held in values.items() if held}, families)
    systems: list[dict[str, Any]] = [
        {"system": name, **row, "tasks": sum(one is not None for one in values[name].values()), "cost": _cost(found[name]), "front": []}
        for name, row in rows.items()
    ]
    for cost in COSTS:
        points = {number: (row["value"], row["cost"][cost]) for number, row in enumerate(systems) if cost in row["cost"]}
        for number in front(points, more_is_better=True):
            systems[number]["front"].append(cost)
    return {"tasks": families, "systems": systems}


def _referred(table: Mapping[str, Any]) -> bool:
    """Whether the task's references are of this table's data."""
    return references.find(*(table[key] for key in (*TABLE, "metric"))) is not None


def _cost(tasks: Mapping[str, list[dict[str, Any]]]) -> dict[str, float]:
    """{cost: mean over tasks of the mean over a task's entries}."""
    found = {}
    for cost in COSTS:
        said = [[(entry["cost"] or {}).get(cost) for entry in held if entry["rank"] is not None] for held in tasks.values()]
        sides = [[float(value) for value in side if isinstance(value, (int, float))] for side in said]
        if sides and all(sides) and list(map(len, sides)) == list(map(len, said)):
            found[cost] = mean(mean(side) for side in sides)
    return found


def _value(held: list[dict[str, Any]]) -> Any:
    """The mean of a system's entries on one task; None where contamination is declared, ... where no reference applies."""
    clean = [entry["normalised"] for entry in held if entry["normalised"] and not entry["contamination"]]
    if clean:
        return {key: sum(one[key] for one in clean) / len(clean) for key in ("value", "low", "high")}
    if any(entry["contamination"] for entry in held):
        return None
    if all(entry["problem"] for entry in held):
        return {"value": 0.0, "low": 0.0, "high": 0.0}
    return ...
