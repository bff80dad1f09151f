"""The board's pages in a real browser: hostile names stay text, nothing runs, nothing is cut off on a phone, and the dark is dark."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest
from browser import chromium
from cli import SERVE
from test_board_pages import COST, KNOWN, entry, hostile, overall, table
from test_comparison import add, guesses

from fmhub.leaderboard import pages
from fmhub.report.markup import text

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("unshipped")]


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("browser") / "profile") as found:
        yield found


def site(folder, tables, across):
    """The pages of made-up tables as files."""
    folder.mkdir()
    (folder / "board.css").write_text(pages.CSS)
    (folder / "index.html").write_text(pages.index(tables, across))
    for one in tables:
        (folder / pages.task_file(one)).write_text(pages.task(one))
        for shown in one["entries"]:
            (folder / pages.entry_file(shown)).write_text(pages.entry(one, shown, report=True))
    return folder


SEEN = """JSON.stringify({
 tags: [...new Set([...document.querySelectorAll('*')].map(one => one.localName))],
 attributes: [...new Set([...document.querySelectorAll('*')].flatMap(one => one.getAttributeNames()))],
 links: [...document.querySelectorAll('[href],[src]')].map(one => one.getAttribute('href') || one.getAttribute('src')),
 words: document.body.textContent, title: document.title})"""


def test_five_hundred_hostile_names_stay_text_in_the_dom(tab, tmp_path):
    """Scripts may run here: none does, no element or attribute comes of a name, and every name can be read."""
    names = hostile()
    entries = [entry(name, number / 1000, id=f"{number:064x}", rank=number + 1) for number, name in enumerate(names)]
    one, across = table(*entries), overall(names[0])
    across["systems"] = [{**across["systems"][0], "system": name, "rank": place} for place, name in enumerate(names)]
    folder = site(tmp_path / "site", [one], across)
    tab.screen(1280)
    for path, wanted in [
        (folder / "index.html", names),
        (folder / pages.task_file(one), names),
        *((folder / pages.entry_file(shown), [shown["name"]]) for shown in entries),
    ]:
        tab.open(path.as_uri())
        seen = json.loads(tab.ask(SEEN))
        assert {*seen["tags"]} <= KNOWN, path
        assert not [name for name in seen["attributes"] if name.startswith("on") or name in ("style", "src")]
        assert all(link.startswith(("index.html", "board.", "task-", "entry-", "report-")) for link in seen["links"])
        shown = " ".join(f"{seen['title']} {seen['words']}".split())
        for name in wanted:
            assert " ".join(_plain(name).split()) in shown, (path, name)
        assert not [event for event in tab.events if event.get("method") in ("Page.javascriptDialogOpening", "Runtime.exceptionThrown")]


def _plain(name):
    """A name as it is shown: characters that turn the direction of writing are spaces."""
    import html

    return html.unescape(text(name))


def test_the_trap_would_be_sprung(tab, tmp_path):
    """What the test above looks for does happen where a name is not escaped."""
    (tmp_path / "bad.html").write_text("<body onload='boom()'><img src=x>")
    tab.screen(1280)
    tab.open((tmp_path / "bad.html").as_uri())
    seen = json.loads(tab.ask(SEEN))
    assert not {*seen["tags"]} <= KNOWN and "onload" in seen["attributes"]
    assert [event for event in tab.events if event.get("method") == "Runtime.exceptionThrown"]


def board_of(count, names):
    """Tables of `count` entries over at most 20 tasks."""
    tasks = min(count, 20)
    tables = []
    for task in range(tasks):
        held = range(task, count, tasks)
        entries = [
            entry(names[number % len(names)], 1 - place / (len(held) + 1), id=f"{number:064x}", rank=place + 1, problem="",
                  contamination="", kind="baseline" if place % 3 == 2 else "run", cost={**COST, "train_seconds": 10.0 + place})
            for place, number in enumerate(held)
        ]  # fmt: skip
        tables.append(table(*entries, task=f"p{task}:{names[task % len(names)] if names[0] == 'plain' else 'hostile'}-{task}"))
    across = overall(names[0])
    across["systems"] = [{**across["systems"][0], "system": name} for name in names[: max(1, count // 20)]]
    return tables, across


@pytest.mark.parametrize("names", ["plain", "hostile"])
@pytest.mark.parametrize("count", [1, 30, 1000])
def test_a_phone_and_a_desk_see_it_all_by_day_and_night_without_script(tab, tmp_path, count, names):
    tables, across = board_of(count, hostile() if names == "hostile" else ["plain", "minilm-l6-20261124-050730-dae6", "majority"])
    folder = site(tmp_path / "site", tables, across)
    looked = [folder / "index.html", folder / pages.task_file(tables[0]), folder / pages.entry_file(tables[0]["entries"][0])]
    for width in (390, 1280):
        for dark in (False, True):
            tab.screen(width, dark=dark, script=False)
            for path in looked:
                tab.open(path.as_uri())
                assert tab.ask("innerWidth") == width
                assert tab.ask("document.documentElement.scrollWidth") <= width, (path.name, width)
                assert tab.ask(
                    "[...document.querySelectorAll('section,header')].every(one => one.getBoundingClientRect().right <= innerWidth)"
                )
                assert tab.ask("document.querySelectorAll('h1').length") == 1
                ink, page = (_light(tab.ask(f"getComputedStyle(document.body).{name}")) for name in ("color", "backgroundColor"))
                assert (ink > page) == dark and abs(ink - page) > 0.6
    tab.screen(1280)


def _light(colour):
    return sum(int(part) for part in re.findall(r"\d+", colour)[:3]) / 765


def test_served_pages_obey_their_own_policy(tab, home, tmp_path):
    """From a real server: the stylesheet is there, and nothing that a page brings is refused by its Content-Security-Policy."""
    add(tmp_path, guesses(0.9, 1), "good", cost=COST, backbone="<script>alert(1)</script>")
    command = [*SERVE, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "FMHUB_HOME": str(home)}) as server:
        try:
            address = next(found[0] for line in server.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
            left, seen = ["index.html"], set()
            while left:
                name = left.pop()
                seen.add(name)
                tab.open(f"{address}/{name}")
                assert tab.ask("getComputedStyle(document.querySelector('main')).display") == "grid", name
                assert not [event for event in tab.events if event.get("method") in ("Log.entryAdded", "Page.javascriptDialogOpening")]
                links = json.loads(tab.ask("JSON.stringify([...document.querySelectorAll('a')].map(one => one.getAttribute('href')))"))
                left += [link for link in links if link.endswith(".html") and link not in seen and len(seen) < 12]
            assert {name.partition("-")[0] for name in seen} >= {"index.html", "task", "entry"}
        finally:
            server.terminate()
            server.wait(60)
            server.stderr.read()
