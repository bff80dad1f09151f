"""One task's table: ranked, normalised, copies folded, costs compared.

Entries share a table only where task, version and data fingerprint are the same; an entry whose run is not done, whose
test part is cut or whose targets are not the table's is shown unranked, with the reason. A near-copy of an earlier entry
and one that declares contamination have the rank they would have, and count for nobody else's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from fmhub.evaluation import metrics
from fmhub.evaluation.declared import declared
from fmhub.leaderboard import entries, references
from fmhub.leaderboard.pairs import Pairs
from fmhub.leaderboard.schema import TARGETS
from fmhub.leaderboard.statistics import COSTS, front, normalised, ranks, standing
from fmhub.leaderboard.targets import HIDDEN
from fmhub.task import Reference

TABLE = ("task", "version", "fingerprint")
"""What the entries of one table have in common."""


def table(rows: list[dict[str, Any]], connection: sa.Connection, rerun: Collection[str] = ()) -> dict[str, Any]:
    """{task, version, fingerprint, family, metric, direction, unit, split, entries} of the entries of one task, version and fingerprint.

    An entry is {rank, kind, name, run, id, score, scores, normalised, gap, cost, front, copy_of, contamination, problem, status, ...},
    best first, unranked ones (rank null) last. `gap` is the paired difference to the next better one that counts, {value, low,
    high, to}; `front` names the costs at which no entry is both better and cheaper. Ranks are made of `split`: the hidden part
    where the board has targets of one, whoever predicted it, else the test part. References are of the test part: nothing is
    normalised by them on another. `rerun` are the ids that were done again. Rows of one id are one entry, the first.
    """
    rows = _once(sorted(rows, key=lambda row: row["number"]))
    first = next((row for row in rows if not row["problem"]), rows[0])
    name, split = first["metric"], _part(connection, first)
    for row in rows:
        row["status"] = "re-run" if row["id"] in rerun else status(row)
        row["problem"] = row["problem"] or _stranger(row, first, split)
        row["copy_of"], row["gap"], row["contamination"] = None, None, row["manifest"].get("contamination")
    metric = _metric(first["task"], name)
    ranked = [row for row in rows if not row["problem"]] if metric is not None else []
    unranked = [row for row in rows if row not in ranked]
    listed: list[tuple[int | None, dict[str, Any]]] = []
    if metric is not None and ranked:
        listed = list(_ranked(ranked, metric, Pairs(connection, metric, split)))
    frozen = references.find(*(first[key] for key in (*TABLE, "metric"))) if split == "test" else None
    kept = (references.record(first["task"]) or {}).get("id")
    shown = [_shown(place, row, name, split, frozen, kept) for place, row in [*listed, *((None, row) for row in unranked)]]
    if metric is not None:
        _mark_fronts(shown, metric)
    return {
        **{key: first[key] for key in (*TABLE, "family", "metric")},
        "direction": metric.direction if metric else None,
        "unit": metric.unit if metric else "",
        "split": split,
        "entries": shown,
    }


def _once(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first of each id: two runs whose data are not here both tell of the baselines that they share."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        found.setdefault(row["id"], row)
    return list(found.values())


def _part(connection: sa.Connection, row: Mapping[str, Any]) -> str:
    """The split that ranks: what the board's keeper has hidden, and nothing that an entry brings, decides."""
    where = [TARGETS.c[key] == row[key] for key in TABLE]
    hidden = connection.scalar(sa.select(TARGETS.c.truth).where(TARGETS.c.split == HIDDEN, *where).limit(1))
    return "test" if hidden is None else HIDDEN


def _metric(full: str, name: str) -> metrics.Metric | None:
    plugin, _, task = full.partition(":")
    return next(iter(declared({"metrics": [name], "task": {"plugin": plugin, "name": task}})), None)


def _ranked(rows: list[dict[str, Any]], metric: metrics.Metric, pairs: Pairs) -> Iterator[tuple[int, dict[str, Any]]]:
    """(rank, row), best first; what does not count stands where it would stand."""
    _fold(rows, pairs)
    sign = -1 if metric.direction == "max" else 1
    rows = sorted(rows, key=lambda row: (sign * _score(row, metric.name, pairs.split)["value"], row["id"]))
    counted = [row for row in rows if not row["copy_of"] and not row["contamination"]]
    places = dict(zip((row["id"] for row in counted), ranks(counted, pairs.apart), strict=True))
    above: list[dict[str, Any]] = []
    for row in rows:
        row["gap"] = pairs.gap(row, above[-1]) if above else None
        if row["id"] in places:
            above.append(row)
        yield places.get(row["id"]) or standing(row, above, [places[one["id"]] for one in above], pairs.apart), row


def _fold(rows: list[dict[str, Any]], pairs: Pairs) -> None:
    """Each near-copy names the earliest entry that it repeats, and shares its contamination.

    What a copy declares is the original's, too, if its own submitter or the keeper says so: a stranger's word unranks nobody.
    """
    originals: list[dict[str, Any]] = []
    for row in rows:
        original = next((one for one in originals if pairs.copied(one, row)), None)
        if original is None:
            originals.append(row)
            continue
        row["copy_of"] = original["id"]
        if row["submitter"] in (None, original["submitter"]):
            original["contamination"] = original["contamination"] or row["contamination"]
    declared_by = {one["id"]: one["contamination"] for one in originals}
    for row in rows:
        row["contamination"] = row["contamination"] or declared_by.get(row["copy_of"])


def _mark_fronts(shown: list[dict[str, Any]], metric: metrics.Metric) -> None:
    counted = {entry["id"]: entry for entry in shown if entry["rank"] is not None and not (entry["copy_of"] or entry["contamination"])}
    for cost in COSTS:
        priced = {key: value for key, entry in counted.items() if isinstance(value := (entry["cost"] or {}).get(cost), (int, float))}
        points = {key: (counted[key]["score"]["value"], value) for key, value in priced.items()}
        for key in front(points, more_is_better=metric.direction == "max"):
            counted[key]["front"].append(cost)


def status(row: Mapping[str, Any]) -> str:
    """Whether the score comes from predictions and the board's own targets, or from what the submitter says alone.

    A metric that reads no target (perplexity) is of the second kind, whatever its predictions are.
    """
    ranks = next((metric for metric in entries.known(row) if metric.name == row["metric"]), None)
    return "recomputed" if row["predictions"] and row["scores"] and ranks is not None and "target" in ranks.reads else "self-reported"


def _stranger(row: dict[str, Any], first: dict[str, Any], split: str) -> str:
    """Why an entry cannot stand in the table that `first` opened, or nothing."""
    if row["truth"] != first["truth"]:
        return "its test examples or targets are not those of this table"
    if row["metric"] != first["metric"]:
        return f"it was ranked by {row['metric']}, not by {first['metric']}"
    if row["labels"] != first["labels"]:
        return "its labels, or their order, are not those of this table"
    if split not in row["scores"]:
        return f"it was not scored on the {split} part"
    if row["submitter"] and row["status"] == "self-reported":
        return f"{row['metric']} is self-reported until it is re-run"
    if _score(row, row["metric"], split)["value"] is None:
        return f"{row['metric']} is undefined for it"
    return ""


def _score(row: dict[str, Any], metric: str, split: str) -> dict[str, Any]:
    none = {"value": None, "low": None, "high": None, "n": 0}
    score: dict[str, Any] = row["scores"].get(split, {}).get(metric) or (row["manifest"].get("claimed") or {}).get(metric) or none
    return score


def _shown(place: int | None, row: dict[str, Any], metric: str, split: str, frozen: Reference | None, kept: str | None) -> dict[str, Any]:
    """What is shown of an entry; `frozen` are the ends of normalised scores, `kept` is the run that the registry keeps of the task."""
    manifest, score = row["manifest"], _score(row, metric, split)
    own = bool(manifest.get("own_data"))
    value = normalised(score, frozen) if place is not None and not own else None
    backbone, by = (manifest.get("backbone") or {}).get("name"), row["submitter"]
    start = " (random start)" if (manifest.get("options") or {}).get("random_weights") else ""
    system = row["name"] if row["kind"] == "baseline" else str(backbone or row["name"]) + start
    return {
        "rank": place, "kind": row["kind"], "name": row["name"], "run": row["run"], "id": row["id"], "score": score,
        "scores": row["scores"], "normalised": value, "gap": row["gap"], "reference": row["kind"] == "run" and row["run"] == kept,
        "system": system + (f" by {by}" if by else ""), "front": [], "submitter": by, "status": row["status"],
        "copy_of": row["copy_of"], "contamination": row["contamination"], "cost": manifest.get("cost"),
        "train": (manifest.get("data") or {}).get("train"), "backbone": backbone, "environment": manifest.get("environment"),
        "hashes": manifest.get("hashes"), "problem": row["problem"], "options": manifest.get("options"), "seeds": manifest.get("seeds"),
        "recipe": manifest.get("recipe"), "own_data": own, "data": manifest.get("data"),
        "weights": (manifest.get("backbone") or {}).get("sha256"),
    }  # fmt: skip
