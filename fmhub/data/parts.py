"""Cut one table into parts: what must stay together does, classes are spread evenly, the same seed gives the same parts."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fmhub.data.tables import ROLES, some
from fmhub.errors import DataError, UsageError


def divide(table: pa.Table, shares: Mapping[str, float], fields: Sequence[str], *, stratify: bool, seed: int) -> dict[str, pa.Table]:
    """`table` cut into parts of about these shares, each in the table's order."""
    parts = part_of(table, shares, fields, stratify=stratify, seed=seed)
    return {name: table.filter(pa.array(parts == index)) for index, name in enumerate(shares)}


def limit(table: pa.Table, n: int) -> pa.Table:
    """`n` rows chosen by the hash of their id, evenly over classes, in the table's order; a smaller `n` gives a subset of a larger."""
    if n < 1:
        raise UsageError(f"A limit of {n} rows leaves nothing to train on: it must be at least 1.")
    marks = [hashlib.sha256(name.encode()).digest() for name in table["id"].to_pylist()]
    classes = strata(table)
    sizes, seen = Counter(classes), Counter[int]()
    place = {}
    for row in sorted(range(len(table)), key=marks.__getitem__):
        place[row] = (seen[classes[row]] / sizes[classes[row]], marks[row])
        seen[classes[row]] += 1
    return table.take(pa.array(sorted(sorted(place, key=place.__getitem__)[:n]), pa.int64()))


def keys(table: pa.Table, fields: Sequence[str]) -> list[object]:
    """One key a row, equal where the examples are: text without case and with white space folded, files by their hash."""
    names = [name for name in (fields or table.column_names) if name in table.column_names and name not in ROLES]
    if "sha256" in table.column_names:
        names = ["sha256"]
    if not names:
        return list(range(len(table)))
    return list(zip(*([_folded(value) for value in table[name].to_pylist()] for name in names), strict=True))


def _folded(value: Any) -> object:
    if isinstance(value, str):
        return " ".join(value.casefold().split())
    return repr(value) if isinstance(value, list | dict) else value


def strata(table: pa.Table) -> list[int]:
    """A class a row to spread evenly: the label, a numeric target's tenth by rank (wider where rows are few), else 0."""
    target = table["target"].combine_chunks()
    if not len(table) or pa.types.is_nested(target.type) or pa.types.is_binary(target.type):
        return [0] * len(table)
    distinct = len(pc.unique(target))
    if distinct <= max(2, len(table) // 2) and (distinct <= 30 or not pa.types.is_floating(target.type)):
        return [int(code) for code in target.dictionary_encode().indices.to_pylist()]
    if pa.types.is_floating(target.type) or pa.types.is_integer(target.type):
        bins = max(1, min(10, len(table) // 20))
        return [int(bins * (place - 1) // len(table)) for place in pc.rank(target, tiebreaker="min").to_pylist()]
    return [0] * len(table)


def _named(table: pa.Table) -> list[list[str]]:
    """The labels that each row's list of things with a `label` (boxes) names; empty for other targets."""
    kind = table["target"].type
    if not pa.types.is_list(kind) or not pa.types.is_struct(kind.value_type) or kind.value_type.get_field_index("label") < 0:
        return []
    return [[one["label"] for one in row or ()] for row in table["target"].to_pylist()]


def part_of(table: pa.Table, shares: Mapping[str, float], fields: Sequence[str], *, stratify: bool, seed: int) -> np.ndarray:
    """The part (index into `shares`) of every row, int64. Rows of one group stay together; where there is no group, identical examples."""
    if "group" in table.column_names:
        own: list[object] = [(row,) if value is None else value for row, value in enumerate(table["group"].to_pylist())]
        what = "groups"
    else:
        own, what = keys(table, fields), "different examples"
    members: dict[object, list[int]] = defaultdict(list)
    for row, key in enumerate(own):
        members[key].append(row)
    if len(members) < len(shares):
        raise DataError(f"{len(table)} rows with {len(members)} {what} cannot fill {len(shares)} parts ({some(list(shares))}).")
    classes = strata(table) if stratify else [0] * len(table)
    units = list(members.values())
    counts: list[Counter[Any]] = [Counter(classes[row] for row in rows) for rows in units]
    chosen = _greedy(counts, list(shares.values()), np.random.default_rng(seed).permutation(len(units)).tolist())
    if stratify and (named := _named(table)):
        counts = [Counter(label for row in rows for label in named[row]) for rows in units]
    if "train" in shares and stratify:
        _teach(counts, chosen, list(shares).index("train"))
    _fill(counts, chosen, len(shares))
    result = np.empty(len(table), np.int64)
    for rows, part in zip(units, chosen, strict=True):
        result[rows] = part
    return result


def _greedy(units: list[Counter[int]], shares: list[float], order: list[int]) -> list[int]:
    """Large units first, each where it lowers chi-square most: sum of (rows - wanted)^2 / wanted over parts, for each class and for all."""
    total: Counter[int] = Counter()
    for unit in units:
        total.update(unit)
    wanted = [{label: share * count for label, count in total.items()} for share in shares]
    need = [dict(row) for row in wanted]
    every = [share * total.total() for share in shares]
    lack = list(every)
    chosen = [0] * len(units)
    for index in sorted(order, key=lambda index: -units[index].total()):
        unit, size = units[index], units[index].total()
        gains = [
            size * (2 * lack[part] - size) / every[part]
            + sum(count * (2 * need[part][label] - count) / wanted[part][label] for label, count in unit.items())
            for part in range(len(shares))
        ]
        chosen[index] = best = gains.index(max(gains))
        lack[best] -= size
        for label, count in unit.items():
            need[best][label] -= count
    return chosen


def _teach(units: list[Counter[Any]], chosen: list[int], train: int) -> None:
    """Move the smallest unit of every class that train lacks there: what was never seen cannot be learnt."""
    seen = {label for unit, part in zip(units, chosen, strict=True) if part == train for label in unit}
    for index in sorted(range(len(units)), key=lambda index: units[index].total()):
        if not seen.issuperset(units[index]):
            chosen[index] = train
            seen.update(units[index])


def _fill(units: list[Counter[Any]], chosen: list[int], parts: int) -> None:
    """Give every empty part the smallest unit of a part with several, best one whose classes stay behind."""
    for empty in set(range(parts)) - set(chosen):
        held = Counter(chosen)
        behind: dict[int, Counter[Any]] = defaultdict(Counter)
        for unit, part in zip(units, chosen, strict=True):
            behind[part].update(unit)

        def cost(index: int) -> tuple[bool, int]:
            left = behind[chosen[index]]  # noqa: B023 - used before the next turn
            return any(left[label] <= count for label, count in units[index].items()), units[index].total()

        chosen[min((index for index in range(len(units)) if held[chosen[index]] > 1), key=cost)] = empty
