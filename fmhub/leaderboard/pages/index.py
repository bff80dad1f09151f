"""The first page: systems across tasks, then every task with its best entry and its best baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fmhub.leaderboard.pages.frame import entry_file, groups, interval, page, scale, span_of, table, task_file
from fmhub.leaderboard.pages.fronts import fronts
from fmhub.report.markup import Markup, tag
from fmhub.report.page import section
from fmhub.report.pictures import figure, number


def index(tables: Sequence[dict[str, Any]], overall: dict[str, Any]) -> str:
    """The overall board, and every task with its best entry."""
    entries = [entry for one in tables for entry in one["entries"]]
    families = {one["family"] for one in tables}
    words = (
        f"{len(entries)} entries in {len(tables)} tables of {len(families)} families. Scores are computed here from stored predictions, "
        "with 95 % intervals; what is only said by somebody is marked self-reported."
    )
    files = (tag("a", kind, href=f"board.{kind.lower()}") for kind in ("CSV", "JSON", "MD"))
    links = tag("p", "The whole board as ", *(part for one in files for part in (one, " ")), class_="quiet")
    head = tag("header", tag("h1", "Leaderboard"), tag("p", words), links)
    points = [{key: row[key] for key in ("system", "value", "cost", "front")} for row in overall["systems"]]
    return page("Leaderboard", head, _overall(overall), _tasks(tables), *fronts(points, "mean normalised score"))


def _overall(found: dict[str, Any]) -> Markup:
    if not found["systems"]:
        return section("Across tasks", tag("p", "No task here has frozen references yet, so there is no normalised score to average."))
    families, marks = sorted(set(found["tasks"].values())), (0.0, 1.0)
    span = span_of(found["systems"], marks)
    rows = []
    for (place, kind), row in zip(groups([row["rank"] for row in found["systems"]]), found["systems"], strict=True):
        by_family = (number(value) if (value := row["families"].get(family)) else "–" for family in families)
        cells = (place, row["system"], figure(row), interval(row, span, marks), number(row["win_rate"]), row["tasks"], *by_family)
        rows.append((kind, cells))
    head = [
        ("rank", "rank"), ("system", ""), ("mean", "number"), (scale(span), "plot"), ("win rate", "number"),
        (f"tried of {len(found['tasks'])}", "number"), *((family, "number") for family in families),
    ]  # fmt: skip
    words = (
        "Normalised scores: 0 is the task's floor, 1 its reference run (broken lines). Means are taken within families, then across; a "
        "task that was not tried counts as the floor. Systems on one band share a rank: they cannot be told apart. The win rate looks at "
        "the other systems here; the mean does not."
    )
    return section("Across tasks", tag("p", words, class_="quiet"), table(head, rows))


def _tasks(tables: Sequence[dict[str, Any]]) -> Markup:
    rows = []
    ordered = sorted(tables, key=lambda one: (one["family"], one["task"], one["version"]))
    for place, one in enumerate(ordered):
        ranked = [entry for entry in one["entries"] if entry["rank"] is not None]
        first = next((entry for entry in ranked if not entry["copy_of"] and not entry["contamination"]), None)
        baseline = next((entry for entry in ranked if entry["kind"] == "baseline" and entry is not first), None)
        same = place > 0 and ordered[place - 1]["family"] == one["family"]
        link = tag(
            "span", tag("a", one["task"].partition(":")[2], href=task_file(one)), tag("small", f"{one['task']} version {one['version']}")
        )
        shown = [part for entry in (first, baseline) for part in ((_named(entry), figure(entry["score"])) if entry else ("–", "–"))]
        rows.append(
            ("" if same or not place else "leads", ("" if same else one["family"], link, one["metric"], *shown, len(one["entries"])))
        )
    head = [
        ("family", "spare"), ("task", ""), ("metric", "spare"), ("first", ""), ("score", "number"),
        ("best baseline below", ""), ("score", "number"), ("entries", "number"),
    ]  # fmt: skip
    return section("Tasks", table(head, rows))


def _named(entry: dict[str, Any]) -> Markup:
    return tag("span", tag("a", entry["system"], href=entry_file(entry)), tag("small", "baseline") if entry["kind"] == "baseline" else "")
