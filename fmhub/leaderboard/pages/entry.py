"""One entry's page: every score, what it cost, how to do it again, its report, its hashes."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from fmhub.leaderboard.entries import ASKED
from fmhub.leaderboard.pages.frame import page, report_file, sized, task_file
from fmhub.leaderboard.pages.task import flags
from fmhub.report.markup import Markup, table, tag
from fmhub.report.page import section
from fmhub.report.pictures import ends_of, figure, number


def entry(one: dict[str, Any], found: dict[str, Any], *, report: bool = False) -> str:
    """The page of entry `found` of table `one`; it links to the run's report where the board has it."""
    kind = "Baseline" if found["kind"] == "baseline" else f"Run {found['name']}"
    by = f" by {found['submitter']}" if found["submitter"] else ""
    score = found["score"]
    words = f"{kind}{by} of {one['task']} version {one['version']}, rank {found['rank'] or '–'}, {found['status']}."
    big = tag("p", tag("strong", number(score["value"])), f" {one['metric']}, 95 % interval {ends_of(score)}", class_="figure")
    header = tag("header", tag("h1", found["system"]), tag("p", words), big, *(tag("p", flag, class_="flag") for flag in flags(found)))
    splits = sorted(found["scores"], key=lambda split: (split != one["split"], split))
    scores = [(f"{split}: {name}", figure(held), held.get("n")) for split in splits for name, held in found["scores"][split].items()]
    costs = [
        (name.removesuffix("_bytes").removesuffix("_ms").replace("_", " "), sized(name, value))
        for name, value in (found["cost"] or {}).items()
    ]
    said = section("Cost, as its submitter says", table((), costs), wide=False) if costs else ""
    facts = {"entry": found["id"], "data": one["fingerprint"], "backbone": found.get("weights")}
    facts = {name: str(value) for name, value in (facts | (found["hashes"] or {})).items() if value}
    hashes = tag("dl", *(tag(kind, value) for pair in facts.items() for kind, value in zip(("dt", "dd"), pair, strict=True)))
    settings = [(name, found[name]) for name in ("recipe", "data", "seeds", "environment") if found.get(name)]
    return page(
        f"{found['system']}: {one['task']}", header, section("Scores", table(("", "score", "examples"), scores), wide=False), said,
        _again(one, found, report), section("Hashes", hashes),
        *(section(name.capitalize(), table((), _flat(held), numbers=False), wide=False) for name, held in settings),
        above=[("All tasks", "index.html"), (one["task"], task_file(one))],
    )  # fmt: skip


def _again(one: dict[str, Any], found: dict[str, Any], report: bool) -> Markup:
    parts: list[Any] = []
    if found["own_data"]:
        parts.append(tag("p", "It was made with data of its submitter's own, which others do not have."))
    else:
        parts.append(tag("pre", command(one["task"], found)))
    if found["kind"] == "baseline":
        parts.append(tag("p", "A run fits its task's baselines, too.", class_="quiet"))
    if found["status"] != "self-reported":
        adapter = any(name.startswith("adapter/") for name in found["hashes"] or {})
        ways = {"--rerun": "Score it again from its adapter, where the run is:"} if adapter else {}
        for option, words in (ways | {"--retrain": "Train it again from nothing, and see the difference:"}).items():
            parts += [tag("p", words, class_="quiet"), tag("pre", f"fmhub leaderboard verify {found['id'][:12]} {option}")]
    if report:
        parts.append(tag("p", tag("a", "The run's report", href=report_file(found)), ": its pictures, its worst mistakes, its cost."))
    elif found["kind"] == "run":
        parts += [tag("p", "Its report, where the run is:", class_="quiet"), tag("pre", shlex.join(["fmhub", "report", found["name"]]))]
    return section("How to do it again", *parts)


def command(task: str, found: Mapping[str, Any]) -> str:
    """What starts the same run: of the options that its entry tells only the known ones, each quoted, for a stranger wrote them."""
    words, options = ["fmhub", "run", task], found["options"]
    asked: dict[str, Any] = options if isinstance(options, dict) else {"backbone": found["backbone"]} if found["backbone"] else {}
    for name in ASKED:
        value, flag = asked.get(name), "--" + name.replace("_", "-")
        if name == "set" and isinstance(value, dict):
            words += [
                word for key, setting in value.items() for word in ("--set", f"recipe.{str(key).removeprefix('recipe.')}={_typed(setting)}")
            ]
        elif value is True:
            words.append(flag)
        elif isinstance(value, list):
            words += [flag, ",".join(map(str, value))]
        elif isinstance(value, (str, int, float)) and value and (name, value) != ("seeds", 1):
            words += [flag, str(value)]
    return shlex.join(words)


def _typed(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def _flat(values: Any, prefix: str = "") -> list[tuple[str, object]]:
    """Nested settings as one row each."""
    if not isinstance(values, dict):
        return [(prefix.removesuffix("."), values)]
    return [row for name, value in values.items() if name != "kind" for row in _flat(value, f"{prefix}{name}.")]
