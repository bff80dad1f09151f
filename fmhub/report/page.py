"""The report's page: what came out, beside what; then pictures; then cost and how to do it again."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any

from fmhub.evaluation import better, metrics
from fmhub.report.markup import Markup, join, table, tag
from fmhub.report.pictures import PICTURES, ends_of, figure, number, score_rows
from fmhub.report.run import Run
from fmhub.report.style import STYLE

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(run: Run) -> str:
    """The whole HTML page: no script, no other resource, readable on a phone and in dark mode."""
    name = f"{run.record['task']['name']}: run {run.record['id']}"
    head = join([
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        Markup('<meta name="color-scheme" content="light dark">'),
        tag("title", name), tag("style", Markup(STYLE)),
    ])  # fmt: skip
    body = tag("main", _headline(run), _scores(run), *_pictures(run), _cost(run), _reproduce(run))
    return f'<!doctype html>\n<html lang="en">{tag("head", head)}{tag("body", body)}</html>\n'


def section(title: str, *parts: object, wide: bool = True) -> Markup:
    """A titled card; one that is not `wide` takes half of a large screen."""
    return tag("section", tag("h2", title), *parts, class_="wide" if wide else None)


def _headline(run: Run) -> Markup:
    record, score = run.record, run.record["scores"]["test"][run.record["primary"]]
    task = record["task"]
    words = f"{task['plugin']}:{task['name']} version {task['version']} on {record['backbone']['name']}, {record.get('started', '')}"
    figure = tag(
        "p",
        tag("strong", number(score["value"])),
        f" {record['primary']} on {score['n']} test examples, 95 % interval {ends_of(score)}",
        class_="figure",
    )
    notes = [tag("li", note) for note in record.get("notes", ())]
    return tag("header", tag("h1", record["id"]), tag("p", words), figure, *_verdicts(run), tag("ul", *notes) if notes else "")


def _verdicts(run: Run) -> list[Markup]:
    """One sentence a baseline: better, worse, or not to be told apart."""
    lines = []
    for row in run.record["baselines"]:
        gap = row["difference"]
        if not gap or run.metric is None:
            continue
        ends = "" if gap["low"] is None else f" ({_signed(gap['low'])} to {_signed(gap['high'])})"
        verdict = {True: "better than", False: "worse than", None: "not to be told apart from"}[better(gap, run.metric)]
        lines.append(
            tag(
                "li",
                f"The adapter is {verdict} {row['name']}: difference {_signed(gap['value'])}{ends}, paired.",
            )
        )
    return [tag("ul", *lines)] if lines else []


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}"


def _scores(run: Run) -> Markup:
    record, name = run.record, run.record["primary"]
    rows = {"adapter": record["scores"]["test"][name]} | {row["name"]: row["scores"]["test"][name] for row in record["baselines"]}
    splits = [
        tag("div", tag("h3", split.replace("shift:", "shift: ")), _all_metrics(record, split)) for split in _ordered(record["scores"])
    ]
    return section("Scores", tag("div", tag("div", tag("h3", name), score_rows(rows, run, first="adapter")), *splits, class_="pair"))


def _ordered(splits: Iterable[str]) -> list[str]:
    return ["test", *sorted(set(splits) - {"test"})]


def _all_metrics(record: dict[str, Any], split: str) -> Markup:
    columns = {"adapter": record["scores"][split]} | {row["name"]: row["scores"].get(split, {}) for row in record["baselines"]}
    rows = []
    for name in record["scores"][split]:
        title = metrics.get(name).title if name in metrics.names() else name
        rows.append([title, *(figure(scores[name]) if name in scores else "" for scores in columns.values())])
    return table(["", *columns], rows)


def _pictures(run: Run) -> list[Markup]:
    drawn = [(picture, picture.draw(run)) for picture in PICTURES if picture.needs <= run.holds]
    seeds = run.record.get("seeds") or 1
    note = tag("p", f"Of the first of {seeds} seeds.", class_="quiet") if seeds > 1 else ""
    return [section(one.title, note if one.needs else "", shown, wide=one.wide) for one, shown in drawn if shown is not None]


def _cost(run: Run) -> Markup:
    return section("Cost", table((), [(_words(name), _sized(name, value)) for name, value in run.record["cost"].items()]), wide=False)


def _words(name: str) -> str:
    return name.removesuffix("_seconds").removesuffix("_bytes").removesuffix("_ms").replace("_", " ")


def _sized(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    if name.endswith("_bytes"):
        return f"{value / 2**20:,.1f} MiB"
    unit = {"seconds": " s", "ms": " ms"}.get(name.rpartition("_")[2], "")
    return f"{value:,.1f}{unit}" if unit or value != int(value) else f"{value:,.0f}"


def _reproduce(run: Run) -> Markup:
    record = run.record
    hashes = {"backbone": record["backbone"].get("sha256"), "data": record["data"]["fingerprint"]}
    rows = {name: value for name, value in record["environment"].items() if name != "versions"}
    rows |= {**record["environment"].get("versions", {}), **{f"{name} sha256": value for name, value in hashes.items() if value}}
    parts = {name: value for name, value in record["data"].items() if name != "fingerprint"}
    return join([
        section("How to do it again", tag("pre", command(run.plan)),
                tag("p", "The same bits come out on the same machine, thread count and versions.", class_="quiet"),
                tag("details", tag("summary", "Recipe"), table((), _flat(record["recipe"]), numbers=False)), wide=False),
        section("Environment and data", table((), [*rows.items(), *parts.items()], numbers=False), wide=False),
    ])  # fmt: skip


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for name, value in values.items():
        rows += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]
    return [row for row in rows if row[0] != "kind"]


def command(plan: dict[str, Any]) -> str:
    """The command that starts the same run again, from what its user asked for."""
    words, options = ["fmhub", "run", f"{plan['task']['plugin']}:{plan['task']['name']}"], plan.get("options", {})
    for name, value in options.items():
        if name == "kind":
            continue
        flag = "--" + name.replace("_", "-")
        if name == "columns" and value:
            words += [flag, ",".join(f"{role}={column}" for role, column in value.items())]
        elif name == "set":
            words += [
                word for key, setting in value.items() for word in ("--set", f"recipe.{key.removeprefix('recipe.')}={_typed(setting)}")
            ]
        elif name == "baseline":
            words += [] if value else ["--no-baseline"]
        elif isinstance(value, bool):
            words += [flag] if value else []
        elif value is not None and isinstance(value, (str, int, float)) and (name, value) not in (("seeds", 1), ("folds", 0)):
            words += [flag, str(value)]
    return shlex.join(words)


def _typed(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
