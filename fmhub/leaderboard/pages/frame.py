"""What all pages share: their frame and names, and tables whose rows are groups.

Links are relative (`.` is the root's folder), so that the same pages work from a server and from files on a disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from fmhub.report.markup import Markup, join, tag
from fmhub.report.pictures import ends_of, number
from fmhub.report.style import STYLE

EXTRA = """
a{color:var(--c0)}nav{grid-column:1/-1;padding:0 4px}td small,th small{color:var(--quiet)}.flag{color:var(--bad)}
dd{margin:0 0 6px;overflow-wrap:anywhere;font-family:ui-monospace,monospace;font-size:.85rem}dt{color:var(--quiet);font-size:.85rem}
.board{width:100%}.board th,.board td{padding:6px 8px}.board thead th,.board thead .number{white-space:normal}
.board tbody th{overflow-wrap:anywhere;min-width:11em;width:22%}.board tbody th small{display:block}
.board .plot{width:30%;min-width:130px;padding:6px 4px}.board .rank{white-space:nowrap;width:3em}
.board .number{text-align:right;white-space:nowrap}.board .odd{background:color-mix(in srgb,var(--grid) 30%,transparent)}
.board .leads>*{border-top:2px solid var(--other)}.board .baseline th{box-shadow:inset 3px 0 var(--other)}
.board .run th{box-shadow:inset 3px 0 var(--c0)}
.tag{display:inline-block;border:1px solid var(--grid);border-radius:4px;padding:0 5px;
font-size:.75rem;color:var(--quiet);white-space:nowrap}
.drawn{display:block;width:100%;height:20px}.drawn line{vector-effect:non-scaling-stroke}.drawn .point{stroke-width:9;stroke-linecap:round}
.point{stroke:var(--other)}.point.c0{stroke:var(--c0)}.mark{stroke:var(--quiet);stroke-width:1;stroke-dasharray:2 3}
main{max-width:1400px}.ends{display:flex;justify-content:space-between;gap:8px;font-size:.78rem}
.fronts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(340px,100%),1fr));gap:16px}
.fronts p{font-size:.85rem;color:var(--quiet);overflow-wrap:anywhere}
@media (max-width:760px){.board th,.board td{padding:6px 5px}.board tbody th{min-width:8.2em}.board .plot{min-width:84px;padding:6px 2px}
.board .spare{display:none}}
"""
CSS = STYLE + EXTRA
UNITS = {"trainable_parameters": 1e-3, "train_seconds": 1.0, "peak_memory_bytes": 2**-20, "adapter_bytes": 2**-10, "latency_ms": 1.0}
WORDS = {
    "trainable_parameters": "trained parameters, thousands", "train_seconds": "training, seconds",
    "samples_per_second": "examples/s",
    "peak_memory_bytes": "peak memory, MiB", "adapter_bytes": "adapter, KiB", "latency_ms": "latency, ms, of one example",
}  # fmt: skip
Plotted = tuple[float, float]


def task_file(one: dict[str, Any]) -> str:
    """The name of a table's page."""
    return f"task-{one['task'].replace(':', '.')}-{one['version']}-{one['fingerprint'][:12]}.html"


def entry_file(entry: dict[str, Any]) -> str:
    return f"entry-{entry['id']}.html"


def report_file(entry: dict[str, Any]) -> str:
    """Where a run's own report lies, on a board that has it."""
    return f"report-{entry['id']}.html"


POLICY = "default-src 'none'; style-src 'self' file:; base-uri 'none'; form-action 'none'"
"""What a page may load wherever it is kept: a folder on disk has no server to say it."""


def page(title: str, *parts: object, above: Sequence[tuple[str, str]] = ()) -> str:
    """One whole page; `above` are the (words, address) of the pages that it belongs to."""
    head = join([
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        Markup('<meta name="color-scheme" content="light dark"><link rel="stylesheet" href="board.css">'), tag("title", title),
    ])  # fmt: skip
    ways = (part for words, address in above for part in (" / ", tag("a", words, href=address)))
    back = tag("nav", *list(ways)[1:]) if above else ""
    return f'<!doctype html>\n<html lang="en">{tag("head", head)}{tag("body", tag("main", back, *parts))}</html>\n'


def table(head: Sequence[tuple[object, str]], rows: Iterable[tuple[str, Sequence[object]]]) -> Markup:
    """A table of (words, class of the column) and (class of the row, cells), whose second column names the row."""
    names = [name for _, name in head]
    top = tag("tr", *(tag("th", words, scope="col", class_=name or None) for words, name in head))
    body = []
    for kind, cells in rows:
        drawn = [
            tag("th", cell, scope="row") if place == 1 else tag("td", cell, class_=names[place] or None) for place, cell in enumerate(cells)
        ]
        body.append(tag("tr", *drawn, class_=kind or None))
    return tag("div", tag("table", tag("thead", top), tag("tbody", *body), class_="board"), class_="scroll")


def groups(places: Sequence[int | None]) -> Iterator[tuple[str, str]]:
    """(rank as shown, class of the row) of ranks in order: a shared one is `=3`, and every other group lies on a band."""
    band = False
    for number_, place in enumerate(places):
        leads = number_ == 0 or places[number_ - 1] != place
        band = band != leads
        shown = "–" if place is None else f"={place}" if places.count(place) > 1 else str(place)
        yield shown, " ".join(("odd" if band else "even", *(["leads"] if leads and number_ else [])))


def span_of(scores: Iterable[dict[str, Any]], marks: Sequence[float] = ()) -> Plotted:
    """The ends of the scale that a table's intervals share, with a little to spare."""
    ends = [score[key] for score in scores for key in ("value", "low", "high") if score.get(key) is not None] + list(marks)
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    spare = (high - low) * 0.03 or abs(high) * 0.03 or 0.5
    return low - spare, high + spare


def interval(score: dict[str, Any], span: Plotted, marks: Sequence[float] = (), *, marked: bool = True) -> Markup:
    """A point with its interval on that scale, as wide as its column; broken lines at the `marks`. Nothing without a value."""
    if score.get("value") is None:
        return Markup()
    low, high = (score["value"] if score.get(end) is None else score[end] for end in ("low", "high"))

    def at(value: float) -> str:
        return f"{100 * (value - span[0]) / ((span[1] - span[0]) or 1):.2f}"

    def line(start: float, end: float, y1: int, y2: int, kind: str) -> Markup:
        return tag("line", x1=at(start), x2=at(end), y1=y1, y2=y2, class_=kind)

    colour = " c0" if marked else ""
    drawn = [
        *(line(mark, mark, 0, 20, "mark") for mark in marks),
        line(low, high, 10, 10, f"whisker{colour}"),
        tag("line", x1=at(score["value"]), x2=f"{float(at(score['value'])) + 0.01:.2f}", y1=10, y2=10, class_=f"point{colour}"),
    ]
    words = f"{number(score['value'])}, {ends_of(score)}"
    return tag("svg", *drawn, viewBox="0 0 100 20", preserveAspectRatio="none", class_="drawn", role="img", aria_label=words)


def scale(span: Plotted) -> Markup:
    """The ends of the scale, above a column of intervals."""
    return tag("span", *(tag("span", f"{end:.2g}") for end in span), class_="ends")


def sized(name: str, value: object) -> str:
    """A cost with its unit, as people say it."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "–"
    if name.endswith("_bytes"):
        return f"{value / 2**20:,.1f} MiB" if value < 100 * 2**20 else f"{value / 2**20:,.0f} MiB"
    if name.endswith("_seconds"):
        whole = round(value)
        return f"{value:.1f} s" if value < 10 else f"{whole} s" if whole < 120 else f"{whole // 60} min {whole % 60:02d} s"
    if name.endswith("_ms"):
        return f"{value:,.1f} ms"
    if name.endswith("parameters"):
        return f"{value / 1e6:,.2f} M" if value >= 1e6 else f"{value / 1e3:,.0f} k" if value >= 1e4 else f"{value:,.0f}"
    return f"{value:,.0f}"
