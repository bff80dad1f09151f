"""The board's pages: HTML made here, no script, one stylesheet; readable on a phone and in dark mode.

Links are relative (`.` is the root's folder), so that the same pages work from a server and from files on a disk.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from fmhub.leaderboard.statistics import COSTS
from fmhub.report import svg
from fmhub.report.markup import Markup, join, table, tag
from fmhub.report.page import section
from fmhub.report.pictures import ends_of, figure, number
from fmhub.report.style import STYLE

EXTRA = """
a{color:var(--c0)}nav{grid-column:1/-1}td small,th small{color:var(--quiet)}.flag{color:var(--bad)}
dd{margin:0 0 6px;overflow-wrap:anywhere}dt{color:var(--quiet)}
.numbers thead th:not(:first-child){white-space:normal;max-width:8em}tbody th{overflow-wrap:anywhere;min-width:6em}
@media (max-width:760px){tbody th{max-width:8.5em}}
"""
CSS = STYLE + EXTRA
UNITS = {"trainable_parameters": 1e-3, "train_seconds": 1.0, "peak_memory_bytes": 2**-20, "adapter_bytes": 2**-10, "latency_ms": 1.0}
WORDS = {
    "trainable_parameters": "trainable parameters, thousands", "train_seconds": "training, seconds",
    "peak_memory_bytes": "peak memory, MiB", "adapter_bytes": "adapter, KiB", "latency_ms": "latency, ms",
}  # fmt: skip


def task_file(one: dict[str, Any]) -> str:
    """The name of a table's page."""
    return f"task-{one['task'].replace(':', '.')}-{one['version']}-{one['fingerprint'][:12]}.html"


def entry_file(entry: dict[str, Any]) -> str:
    return f"entry-{entry['id']}.html"


def page(title: str, *parts: object, home: bool = True) -> str:
    """One whole page."""
    head = join([
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup('<meta name="color-scheme" content="light dark"><link rel="stylesheet" href="board.css">'), tag("title", title),
    ])  # fmt: skip
    back = tag("nav", tag("a", "All tasks", href="index.html")) if home else ""
    return f'<!doctype html>\n<html lang="en">{tag("head", head)}{tag("body", tag("main", back, *parts))}</html>\n'


def index(tables: Sequence[dict[str, Any]], overall: dict[str, Any]) -> str:
    """The overall board, and every task with its best entry."""
    words = (
        "Scores are computed here from stored predictions, with 95 % intervals; what is only said by a submitter is marked self-reported."
    )
    files = (tag("a", kind, href=f"board.{kind.lower()}") for kind in ("CSV", "JSON", "MD"))
    head = tag(
        "header", tag("h1", "Leaderboard"), tag("p", words), tag("p", *(part for one in files for part in (one, " ")), class_="quiet")
    )
    rows = []
    for one in tables:
        best = next((entry for entry in one["entries"] if entry["rank"] == 1), None)
        link = tag("a", one["task"], tag("small", f" version {one['version']}"), href=task_file(one))
        shown = (best["name"], figure(best["score"])) if best else ("–", "–")
        rows.append((link, one["family"], one["metric"], *shown, len(one["entries"])))
    tasks = section("Tasks", table(("task", "family", "metric", "first", "score", "entries"), rows, numbers=False))
    return page("Leaderboard", head, _overall(overall), tasks, *_fronts(overall["systems"], "value", "mean normalised score"), home=False)


def _overall(found: dict[str, Any]) -> Markup:
    if not found["systems"]:
        return section("Across tasks", tag("p", "No task here has frozen references yet, so there is no normalised score to average."))
    span = _span(found["systems"])
    rows = [
        (row["system"], row["rank"], tag("span", number(row["value"]), tag("small", ends_of(row))),
         svg.interval(row["low"], row["value"], row["high"], span), number(row["win_rate"]), row["tasks"])
        for row in found["systems"]
    ]  # fmt: skip
    words = (
        f"Floor 0, reference run 1; means within families, then across, over {len(found['tasks'])} tasks; one that was not tried counts as "
        "the floor. Equal ranks cannot be told apart. The win rate looks at the other systems here; the mean does not."
    )
    return section("Across tasks", tag("p", words, class_="quiet"), table(("system", "rank", "mean", "", "win rate", "tried"), rows))


def _span(scores: Sequence[dict[str, Any]]) -> tuple[float, float]:
    ends = [score[key] for score in scores for key in ("value", "low", "high") if score[key] is not None]
    return min(ends, default=0.0), max(ends, default=1.0)


def task(one: dict[str, Any]) -> str:
    """One table: ranks, intervals drawn on one scale, costs, and score against cost."""
    arrow = {"max": "higher is better", "min": "lower is better", None: "this metric is not known here"}[one["direction"]]
    which = f"Version {one['version']}, data {one['fingerprint'][:12]}, {one['split']} part."
    words = f"{one['metric']}, {arrow}. {which} Equal ranks cannot be told apart."
    span = _span([entry["score"] for entry in one["entries"]])
    rows = []
    for entry in one["entries"]:
        score = entry["score"]
        drawn = ""
        if entry["rank"] is not None and None not in (score["value"], score["low"], score["high"]):
            drawn = svg.interval(score["low"], score["value"], score["high"], span, marked=entry["kind"] != "baseline")
        cells = (entry["rank"] or "–", figure(score), drawn, number((entry["normalised"] or {}).get("value")), entry["status"])
        rows.append((_name(entry), *cells, *(_cost(entry, name) for name in COSTS)))
    head = ("entry", "rank", one["metric"], "", "normalised", "status", *(WORDS[name] for name in COSTS))
    header = tag("header", tag("h1", one["task"]), tag("p", words))
    points = [{**entry, **entry["score"]} for entry in one["entries"] if entry["rank"] is not None]
    costs = tag("p", "Costs are what submitters say of their own machines.", class_="quiet")
    return page(one["task"], header, section("Entries", table(head, rows), costs), *_fronts(points, "value", one["metric"]))


def _name(entry: dict[str, Any]) -> Markup:
    kind = "baseline" if entry["kind"] == "baseline" else entry["backbone"]
    return tag(
        "span",
        tag("a", entry["name"], href=entry_file(entry)),
        tag("small", " ", kind, f" by {entry['submitter']}" if entry["submitter"] else ""),
        *(tag("small", " ", flag, class_="flag") for flag in flags(entry)),
    )


def flags(entry: dict[str, Any]) -> Iterator[str]:
    """What a reader must know beside the score."""
    if entry["problem"]:
        yield f"not ranked: {entry['problem']}"
    if entry["copy_of"]:
        yield f"near-copy of {entry['copy_of'][:12]}"
    if entry["contamination"]:
        yield f"declares contamination: {entry['contamination']}"


def _cost(entry: dict[str, Any], name: str) -> Markup:
    value = (entry["cost"] or {}).get(name)
    if not isinstance(value, (int, float)):
        return tag("span", "–")
    shown = f"{value * UNITS[name]:,.1f}"
    return tag("strong", shown, title="nobody is better and cheaper") if name in entry["front"] else tag("span", shown)


def _fronts(rows: Sequence[dict[str, Any]], score: str, words: str) -> Iterator[Markup]:
    """Score against cost, what nobody beats in both joined by a line; `rows` have a score, a cost and a front."""
    drawn = []
    for name in COSTS:
        held = [(value * UNITS[name], row) for row in rows if isinstance(value := (row["cost"] or {}).get(name), (int, float))]
        if len(held) > 1:
            points = sorted((value, row[score]) for value, row in held)
            best = sorted((value, row[score]) for value, row in held if name in row["front"])
            drawn.append(svg.front(points, best, WORDS[name], words))
    if drawn:
        yield section(
            "Score and cost",
            tag("p", "The line joins what nobody beats at less cost.", class_="quiet"),
            tag("div", *drawn, class_="charts"),
        )


def entry(one: dict[str, Any], found: dict[str, Any]) -> str:
    """One entry: every score, what it cost, its hashes, and how to do it again."""
    kind = "Baseline" if found["kind"] == "baseline" else "Run"
    by = f" by {found['submitter']}" if found["submitter"] else ""
    words = f"{kind}{by} of {one['task']} version {one['version']}, rank {found['rank'] or '–'}. Its score is {found['status']}."
    header = tag("header", tag("h1", found["name"]), tag("p", words), *(tag("p", flag, class_="flag") for flag in flags(found)))
    scores = [
        (f"{split}: {name}", figure(score), score.get("n")) for split, held in found["scores"].items() for name, score in held.items()
    ]
    costs = [(name.replace("_", " "), "–" if value is None else f"{value:,}") for name, value in (found["cost"] or {}).items()]
    facts = {"entry": found["id"], "data": one["fingerprint"], **(found["hashes"] or {})}
    again = f"fmhub run {one['task']} --backbone {found['backbone']}" if found["backbone"] else f"fmhub run {one['task']}"
    return page(
        found["name"], tag("nav", tag("a", one["task"], href=task_file(one))), header,
        section("Scores", table(("", "score", "examples"), scores), wide=False), section("Cost", table((), costs), wide=False),
        section("How to do it again", tag("pre", again), tag("pre", f"fmhub leaderboard verify {found['id'][:12]} --rerun")),
        section("Hashes", tag("dl", *(tag(kind, value) for pair in facts.items() for kind, value in zip(("dt", "dd"), pair, strict=True)))),
        section("Environment", tag("pre", json.dumps(found["environment"] or {}, indent=1, ensure_ascii=False))),
    )  # fmt: skip
