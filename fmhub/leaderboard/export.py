"""The board as files: the pages as a static site, and every entry as CSV, JSON and Markdown."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from fmhub.home import make_folder, write_text
from fmhub.leaderboard import overall, pages, reports, shipped, store
from fmhub.leaderboard.statistics import COSTS
from fmhub.report.markup import text
from fmhub.report.pictures import ends_of, number

COLUMNS = (
    "task", "version", "fingerprint", "split", "metric", "rank", "kind", "name", "submitter", "status", "backbone",
    "value", "low", "high", "n", "normalised", *COSTS, "samples_per_second", "copy_of", "contamination", "problem", "id",
)  # fmt: skip


def export(folder: Path) -> int:
    """Write the whole board into `folder` and return how many entries it has; each file is whole or not there."""
    make_folder(folder)
    tables = read()
    found = files(tables)
    for name, content in found.items():
        write_text(folder / name, content)
    listed = [entry for one in tables for entry in one["entries"]]
    for identity, place in reports.places(listed).items():
        write_text(folder / pages.report_file({"id": identity}), reports.html(place))
    return len(listed)


def read() -> list[dict[str, Any]]:
    """The board's tables, with what is shown of the reference runs whose data are not here."""
    return store.board(None, shipped.reported())


def files(tables: list[dict[str, Any]] | None = None) -> dict[str, str]:
    """{name: content} of every page and file of the board as it is now, but for the runs' own reports."""
    tables = read() if tables is None else tables
    shown = reports.places(entry for one in tables for entry in one["entries"])
    found = overall.overall(tables)
    made = {"board.css": pages.CSS, "index.html": pages.index(tables, found), "board.csv": as_csv(tables), "board.md": as_markdown(tables)}
    for one in tables:
        made[pages.task_file(one)] = pages.task(one)
        made |= {pages.entry_file(entry): pages.entry(one, entry, report=entry["id"] in shown) for entry in one["entries"]}
    whole = {"tables": tables, "overall": found, "receipt": store.receipt()}
    return made | {"board.json": json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"}


def rows(tables: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One flat row an entry."""
    found = []
    for one in tables:
        for entry in one["entries"]:
            flat = {key: one[key] for key in COLUMNS if key in one} | {key: entry[key] for key in COLUMNS if key in entry}
            flat |= {key: entry["score"].get(key) for key in ("value", "low", "high", "n")}
            flat |= {key: (entry["cost"] or {}).get(key) for key in (*COSTS, "samples_per_second")}
            flat["normalised"] = (entry["normalised"] or {}).get("value")
            found.append(flat)
    return found


def as_csv(tables: list[dict[str, Any]]) -> str:
    """One line an entry; a text that a spreadsheet would run as a formula gets an apostrophe before it."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({key: harmless(row[key]) for key in COLUMNS} for row in rows(tables))
    return file.getvalue()


def harmless(value: Any) -> Any:
    """The value, unless it is text that begins as a formula does, after whatever a spreadsheet skips."""
    if not isinstance(value, str):
        return value
    begins = value.lstrip(" \t\r\n\0\ufeff\u00a0")[:1]
    risky = begins in "=+-@|%＝＋－＠" or value[:1] in ("\t", "\r", "\n")
    return f"'{value}" if value and risky else value


def as_markdown(tables: list[dict[str, Any]]) -> str:
    """One table a task."""
    parts = []
    for one in tables:
        lines = [
            f"## {_cell(one['task'])} version {_cell(one['version'])}: {_cell(one['metric'])}",
            "",
            "| rank | entry | score | 95 % interval |",
            "|---|---|---|---|",
        ]
        for entry in one["entries"]:
            score = entry["score"]
            cells = (entry["rank"] or "–", entry["name"], number(score["value"]), ends_of(score))
            lines.append("| " + " | ".join(map(_cell, cells)) + " |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _cell(value: object) -> str:
    """Text that stays text in Markdown, and in one cell."""
    kept = " ".join(text(value).split())
    return "".join(f"\\{letter}" if letter in "\\|`*_[]~!" else letter for letter in kept)
