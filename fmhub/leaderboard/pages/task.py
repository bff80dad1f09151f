"""One task's page: ranks as bands, intervals on one scale, differences to the one above, costs, and score against cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fmhub.leaderboard.pages.frame import WORDS, entry_file, groups, interval, page, scale, sized, span_of, table
from fmhub.leaderboard.pages.fronts import fronts
from fmhub.leaderboard.statistics import COSTS
from fmhub.report.markup import Markup, tag
from fmhub.report.page import section
from fmhub.report.pictures import figure, number

SHOWN = (*COSTS, "samples_per_second")


def task(one: dict[str, Any]) -> str:
    """One table: ranks, intervals drawn on one scale, costs, and score against cost."""
    arrow = {"max": "higher is better", "min": "lower is better", None: "this metric is not known here"}[one["direction"]]
    words = f"{one['metric']}, {arrow}. Version {one['version']}, data {one['fingerprint'][:12]}, {one['split']} part."
    header = tag("header", tag("h1", one["task"]), tag("p", words))
    points = [
        {**entry, "value": entry["score"]["value"], "system": f"{entry['rank']}. {entry['system']}"}
        for entry in one["entries"]
        if entry["rank"] is not None
    ]
    return page(one["task"], header, _entries(one), *fronts(points, one["metric"]), above=[("All tasks", "index.html")])


def _entries(one: dict[str, Any]) -> Markup:
    best = next((e["score"]["value"] for e in one["entries"] if e["kind"] == "baseline" and e["rank"] is not None), None)
    marks = [] if best is None else [best]
    span = span_of((entry["score"] for entry in one["entries"] if entry["rank"] is not None), marks)
    rows = []
    for (place, kind), entry in zip(groups([entry["rank"] for entry in one["entries"]]), one["entries"], strict=True):
        drawn = interval(entry["score"], span, marks, marked=entry["kind"] != "baseline") if entry["rank"] is not None else ""
        cells = (place, _name(entry), figure(entry["score"]), drawn, _gap(entry), number((entry["normalised"] or {}).get("value")))
        rows.append((f"{kind} {'baseline' if entry['kind'] == 'baseline' else 'run'}", (*cells, *(_cost(entry, name) for name in SHOWN))))
    head = [
        ("rank", "rank"), ("entry", ""), (one["metric"], "number"), (scale(span), "plot"), ("to the one above, paired", "number"),
        ("normalised", "number"), *((WORDS[name].partition(",")[0], "number") for name in SHOWN),
    ]  # fmt: skip
    words = (
        "Entries on one band share a rank: a paired bootstrap cannot tell them apart from the first of the band. Blue is a run, grey a "
        "baseline; the broken line is the best baseline."
    )
    costs = (
        "Costs are what submitters say of their own machines, and baselines tell none; in bold: no entry that tells its cost "
        "is both better and cheaper."
    )
    return section("Entries", tag("p", words, class_="quiet"), table(head, rows), tag("p", costs, class_="quiet"))


def _name(entry: dict[str, Any]) -> Markup:
    """The system, which run it is, and what a reader must know beside the score."""
    tags = [entry["status"], *(["baseline"] if entry["kind"] == "baseline" else []), *(["reference run"] if entry["reference"] else [])]
    return tag(
        "span",
        tag("a", entry["system"], href=entry_file(entry)),
        tag("small", entry["name"]) if entry["name"] != entry["system"] else "",
        *(part for one in tags for part in (" ", tag("span", one, class_="tag"))),
        *(tag("small", flag, class_="flag") for flag in flags(entry)),
    )


def _gap(entry: dict[str, Any]) -> Markup:
    gap = entry["gap"]
    if entry["rank"] is None or not gap or gap["value"] is None:
        return tag("span", "–")
    ends = "no interval" if gap["low"] is None else f"{gap['low']:+.3f} to {gap['high']:+.3f}"
    return tag("span", f"{gap['value']:+.3f}", tag("small", ends))


def flags(entry: dict[str, Any]) -> Iterator[str]:
    """What a reader must know beside the score."""
    if entry["problem"]:
        yield f"not ranked: {entry['problem']}"
    if entry["copy_of"]:
        yield f"near-copy of {entry['copy_of'][:12]}"
    if entry["contamination"]:
        yield f"declares contamination: {entry['contamination']}"


def _cost(entry: dict[str, Any], name: str) -> Markup:
    shown = sized(name, (entry["cost"] or {}).get(name))
    return tag("strong", shown, title="nobody is better and cheaper") if name in entry["front"] else tag("span", shown)
