"""Who is better than whom: normalised scores, ranks as groups, costs, and means over families and tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from fmhub.task import Reference

Entry = TypeVar("Entry")
RESAMPLES, LEVEL = 2000, 0.96
"""Of the paired comparisons that make ranks: a little wider than 95 %, so that equal systems differ in less than 5 % of cases."""
COSTS = ("trainable_parameters", "train_seconds", "peak_memory_bytes", "adapter_bytes", "latency_ms")
SEED = 20_260_102


def ranks(ordered: Sequence[Entry], apart: Callable[[Entry, Entry], bool]) -> list[int]:
    """Ranks of entries given best first: one that cannot be told `apart` from its group's best shares that one's rank.

    Groups are compared with their best only, so that ties do not chain: 1, 1, 3, ...
    """
    found: list[int] = []
    for place, entry in enumerate(ordered, start=1):
        leads = not found or apart(ordered[found[-1] - 1], entry)
        found.append(place if leads else found[-1])
    return found


def standing(entry: Entry, above: Sequence[Entry], places: Sequence[int], apart: Callable[[Entry, Entry], bool]) -> int:
    """The rank that an entry which is not counted would have, given those `above` it with their ranks, best first."""
    if not above:
        return 1
    return places[-1] if not apart(above[places[-1] - 1], entry) else len(above) + 1


def normalised(score: Mapping[str, Any], reference: Reference | None) -> dict[str, float] | None:
    """The score with floor 0 and reference 1, {value, low, high}; None without a reference or without a value."""
    if reference is None or reference.reference == reference.floor or score["value"] is None:
        return None
    span = reference.reference - reference.floor
    value, *ends = (
        (score["value" if score[key] is None else key] - reference.floor) / span for key in ("value", "low", "high")
    )  # fmt: skip
    return {"value": value, "low": min(ends), "high": max(ends)}


def front(points: Mapping[Entry, tuple[float, float]], *, more_is_better: bool) -> set[Entry]:
    """The keys of {key: (quality, cost)} that no other beats in one of both without losing in the other (Pareto)."""
    sign = 1 if more_is_better else -1
    best = float("-inf")
    found: set[Entry] = set()
    for key, (quality, cost) in sorted(points.items(), key=lambda one: (one[1][1], -sign * one[1][0])):
        if sign * quality > best or any(points[other] == (quality, cost) for other in found):
            best = max(best, sign * quality)
            found.add(key)
    return found


def means(values: Mapping[str, Mapping[str, Mapping[str, Any] | None]], families: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """{system: {value, low, high, families, rank, win_rate}} from {system: {task: normalised score}} and {task: family}.

    A task that a system has no score for counts as the floor; one whose score is None (contamination was declared) is left
    out of numerator and denominator. Means are taken within families, then across. The interval is a hierarchical bootstrap
    (families, tasks within them, and each score's own noise as a normal one of its interval's width); noise is drawn for each
    system alone, which makes comparisons wider, never narrower. A system's mean and interval depend on no other's; `rank`
    and `win_rate` do.
    """
    import numpy as np

    if not families or not values:
        return {}
    names, groups = sorted(values), sorted(set(families.values()))
    tasks = {group: sorted(task for task, family in families.items() if family == group) for group in groups}
    cells = {group: _cells(values, names, tasks[group]) for group in groups}
    random = np.random.default_rng(SEED)
    picked = random.integers(0, len(groups), size=(RESAMPLES, len(groups)))
    drawn = np.full((len(groups), RESAMPLES, len(names)), np.nan)
    for slot in range(len(groups)):
        for number, group in enumerate(groups):
            where = np.flatnonzero(picked[:, slot] == number)
            drawn[slot, where] = _draw(*cells[group], len(where), [SEED, slot, number], names)
    within = {group: _mean(cells[group][0][None])[0] for group in groups}
    value, draws = _mean(np.stack([within[group] for group in groups])[None])[0], _mean(drawn.transpose(1, 0, 2))
    found: dict[str, dict[str, Any]] = {}
    for place, name in enumerate(names):
        kept = draws[:, place][np.isfinite(draws[:, place])]
        if np.isfinite(value[place]):
            low, high = np.quantile(kept, [0.025, 0.975])
            shown = {group: float(within[group][place]) for group in groups if np.isfinite(within[group][place])}
            found[name] = {
                "value": float(value[place]), "low": min(float(low), float(value[place])), "high": max(float(high), float(value[place])),
                "families": shown, "win_rate": _win_rate(values, name),
            }  # fmt: skip
    order = sorted(found, key=lambda name: (-found[name]["value"], name))
    column = {name: draws[:, names.index(name)] for name in order}

    def apart(left: str, right: str) -> bool:
        low, high = np.nanquantile(column[left] - column[right], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return bool(low > 0 or high < 0)

    return {name: {"rank": rank, **found[name]} for name, rank in zip(order, ranks(order, apart), strict=True)}


def _cells(values: Mapping[str, Mapping[str, Mapping[str, Any] | None]], names: list[str], tasks: list[str]) -> tuple[Any, Any]:
    """(tasks, systems) of values and of standard errors; NaN is left out of means."""
    import numpy as np

    floor = {"value": 0.0, "low": 0.0, "high": 0.0}
    cells = [[values[name].get(task, floor) for name in names] for task in tasks]
    value = np.array([[np.nan if one is None else one["value"] for one in row] for row in cells])
    error = np.array([[0.0 if one is None else (one["high"] - one["low"]) / 3.92 for one in row] for row in cells])
    return value, error


def _draw(value: Any, error: Any, size: int, seed: list[int], names: list[str]) -> Any:
    """(size, systems) means over tasks drawn with replacement, with noise; a system's noise depends on its name alone."""
    import zlib

    import numpy as np

    counts = np.random.default_rng(seed).multinomial(len(value), np.full(len(value), 1 / len(value)), size=size)
    found = np.empty((size, len(names)))
    for place, name in enumerate(names):
        noise = np.random.default_rng([*seed, zlib.crc32(name.encode())]).normal(size=(size, len(value)))
        held = np.isfinite(value[:, place])
        weight = (counts * held).sum(1)
        total = (counts * np.where(held, value[:, place] + error[:, place] * noise, 0)).sum(1)
        found[:, place] = np.divide(total, weight, out=np.full(size, np.nan), where=weight > 0)
    return found


def _mean(stack: Any) -> Any:
    """Mean over axis 1 of what is there; NaN where nothing is."""
    import numpy as np

    held = np.isfinite(stack)
    count = held.sum(1)
    return np.divide(np.where(held, stack, 0).sum(1), count, out=np.full(count.shape, np.nan), where=count > 0)


def _win_rate(values: Mapping[str, Mapping[str, Mapping[str, Any] | None]], name: str) -> float | None:
    """The share of others that are beaten, a tie for half, averaged over the tasks that were tried."""
    rates = []
    for task, ours in values[name].items():
        others = [held["value"] for other in values if other != name and (held := values[other].get(task)) is not None]
        if ours is not None and others:
            rates.append(sum(1.0 if ours["value"] > one else 0.5 if ours["value"] == one else 0.0 for one in others) / len(others))
    return sum(rates) / len(rates) if rates else None
