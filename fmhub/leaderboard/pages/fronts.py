"""Score against cost: a chart a cost, with what nobody beats in both joined by a line and named below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fmhub.leaderboard.pages.frame import UNITS, WORDS, entry_file
from fmhub.leaderboard.statistics import COSTS
from fmhub.report import svg
from fmhub.report.markup import Markup, tag
from fmhub.report.page import section

MOST = 6
"""Of a front's members that are named."""


def fronts(rows: Sequence[dict[str, Any]], words: str) -> Iterator[Markup]:
    """`rows` are {system, value, cost, front} and, of entries, their id; nothing where fewer than two tell a cost."""
    drawn = []
    for name in COSTS:
        held = [(value * UNITS[name], row) for row in rows if isinstance(value := (row["cost"] or {}).get(name), (int, float))]
        if len(held) > 1:
            best = sorted(((value, row) for value, row in held if name in row["front"]), key=lambda one: (one[0], one[1]["value"]))
            points = sorted((value, row["value"]) for value, row in held)
            chart = svg.front(points, [(value, row["value"]) for value, row in best], WORDS[name], words)
            drawn.append(tag("div", chart, tag("p", "Front: ", *_named([row for _, row in best]))))
    if drawn:
        says = tag("p", "Each dot is one of the table above; the line joins those that nobody beats at less cost.", class_="quiet")
        yield section("Score and cost", says, tag("div", *drawn, class_="fronts"))


def _named(best: Sequence[dict[str, Any]]) -> Iterator[object]:
    """The cheapest first."""
    for place, row in enumerate(best[:MOST]):
        yield ", " if place else ""
        yield tag("a", row["system"], href=entry_file(row)) if "id" in row else row["system"]
    if len(best) > MOST:
        yield f" and {len(best) - MOST} more"
