"""The board's pages and files: nothing unescaped, no formula runs, all links lead somewhere, and a phone shows it all."""

from __future__ import annotations

import csv
import io
import json
import random
import shlex
from html.parser import HTMLParser

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from test_board import make_run, predictions
from test_comparison import add, guesses

from fmhub.cli import main
from fmhub.leaderboard import export, pages, references, server, store
from fmhub.leaderboard.pages import frame
from fmhub.leaderboard.pages.entry import command
from fmhub.task import Reference

pytestmark = pytest.mark.usefixtures("unshipped")

HOSTILE = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "javascript:alert(1)", "=cmd|' /C calc'!A0", "+1+1", "@SUM(A1)",
    "-2+3", "\u202egnp.exe", "</style><svg onload=alert(1)>", "a|b`c*d_e[f](javascript:alert(1))", "x" * 60,
    "\u0645\u0631\u062d\u0628\u0627", "&lt;b&gt;",
]  # fmt: skip
COST = {"train_seconds": 9.0, "latency_ms": 3.0, "trainable_parameters": 9000, "adapter_bytes": 1 << 20, "peak_memory_bytes": 1 << 30}


class Page(HTMLParser):
    """What a browser would see: tags, attributes, links, and the text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.names, self.links, self.words = set(), set(), [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.names |= {name for name, _ in attributes}
        self.links += [value for name, value in attributes if name == "href"]

    def handle_data(self, data):
        self.words.append(data)


KNOWN = set("html head meta link title body main nav a header h1 h2 p section table thead tbody tr th td div span small "
            "strong svg line circle polyline text pre dl dt dd".split())  # fmt: skip


def entry(name, value=0.5, **more):
    score = {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 100}
    return {
        "rank": 1, "kind": "run", "name": name, "run": name, "id": "ab" * 32, "score": score, "scores": {"test": {"accuracy": score}},
        "normalised": None, "system": name, "front": ["train_seconds"], "copy_of": None, "contamination": name, "cost": COST, "train": 9,
        "backbone": name, "environment": {name: name}, "hashes": {name: "cd" * 32}, "problem": name,
        "submitter": name, "status": "re-run", "gap": {"value": -0.1, "low": -0.2, "high": 0.1, "to": "ab" * 32}, "reference": True,
        "options": {"backbone": name, "set": {name: name}, name: name}, "seeds": 1, "own_data": False,
        "recipe": {name: {name: name}}, **more,
    }  # fmt: skip


def table(*entries, task="p:t"):
    return {"task": task, "version": "1", "fingerprint": "f" * 64, "family": "text", "metric": "accuracy", "direction": "max", "unit": "",
            "split": "test", "entries": list(entries)}  # fmt: skip


def overall(name):
    row = {
        "system": name,
        "rank": 1,
        "value": 0.5,
        "low": 0.1,
        "high": 0.9,
        "families": {},
        "win_rate": 0.5,
        "tasks": 1,
        "cost": COST,
        "front": ["latency_ms"],
    }
    return {"tasks": {"p:t": name}, "systems": [row, row]}


def hostile():
    """500 names: what is known to hurt, alone and mixed."""
    draw = random.Random(0)
    return HOSTILE + ["".join(draw.choice(HOSTILE)[: draw.randint(1, 30)] for _ in range(3)) for _ in range(500 - len(HOSTILE))]


def test_hostile_names_stay_text_on_every_page():
    for name in hostile():
        one = table(entry(name), entry(name, 0.4))
        for page in (pages.index([one], overall(name)), pages.task(one), pages.entry(one, one["entries"][0])):
            read = Page(page)
            assert read.tags <= KNOWN, (name, read.tags - KNOWN)
            assert not [attribute for attribute in read.names if attribute.startswith("on") or attribute in ("style", "src")]
            assert all(link.startswith(("index.html", "board.", "task-", "entry-")) for link in read.links)
            assert "\u202e" not in page and "<script" not in page
            assert '<meta http-equiv="Content-Security-Policy" content="default-src ' in page, "a folder has no server to say it"


@given(text=st.text(max_size=20))
def test_no_cell_of_the_csv_begins_a_formula(text):
    one = table(entry(text or "a"))
    (row,) = csv.DictReader(io.StringIO(export.as_csv([one]), newline=""))
    for value in (row["name"], row["backbone"], row["problem"]):
        assert not value.lstrip(" \t\r\n\0\ufeff\u00a0").startswith(tuple("=+-@|%"))
    assert row["name"] in (text or "a", f"'{text}")
    assert float(row["value"]) == 0.5


def test_numbers_below_zero_stay_numbers():
    (row,) = csv.DictReader(io.StringIO(export.as_csv([table(entry("a", -0.5))])))
    assert row["value"] == "-0.5"


def test_a_markdown_cell_stays_a_cell():
    for name in HOSTILE:
        line = export.as_markdown([table(entry(name))]).splitlines()[4]
        assert line.replace("\\|", "").count("|") == 5
        assert "<" not in line and "](" not in line.replace("\\](", "")


@pytest.fixture
def site(tmp_path, monkeypatch, capsys):
    """A board of three entries as a static site."""
    monkeypatch.setattr(references, "find", lambda *_, **__: Reference("accuracy", 0.5, 0.9))
    monkeypatch.setattr(references, "universe", lambda: {("fmhub-text:sentiment", "1"): "text"})
    for name, accuracy, seed in (("good", 0.9, 1), ("fair", 0.8, 2)):
        add(tmp_path / "runs", guesses(accuracy, seed), name, cost={**COST, "train_seconds": 10.0 * seed}, backbone=HOSTILE[seed])
    add(tmp_path / "runs", guesses(0.9, 3), "odd", status="failed", contamination=HOSTILE[0])
    assert main(["leaderboard", "export", str(tmp_path / "site")]) == 0
    assert "3 entries" in capsys.readouterr().out
    return tmp_path / "site"


def test_the_site_is_whole(site):
    files = {path.name for path in site.iterdir()}
    assert {"index.html", "board.css", "board.csv", "board.json", "board.md"} <= files
    assert len([name for name in files if name.startswith("entry-")]) == 3
    for path in site.glob("*.html"):
        assert set(Page(path.read_text()).links) <= files
    whole = json.loads((site / "board.json").read_text())
    assert whole["tables"] == store.board()
    assert whole["receipt"] == store.receipt()
    shown = "".join(Page(next(site.glob("task-*.html")).read_text()).words)
    assert "not ranked: the run is failed" in shown and "declares contamination" in shown


def test_an_empty_board_is_a_page(tmp_path):
    assert export.export(tmp_path / "site") == 0
    assert "Leaderboard" in (tmp_path / "site" / "index.html").read_text()


def test_how_to_do_it_again_is_one_command_that_is_safe_to_paste():
    def said(**more):
        return command("p:t", entry("a", **more))

    assert said(options=None, backbone="minilm-l6") == "fmhub run p:t --backbone minilm-l6"
    asked = {"seeds": 3, "set": {"lr": 0.002, "recipe.lora.layers": "last:3"}, "fast": True, "curve": [100, 300], "seed": 7}
    assert said(options=asked) == (
        "fmhub run p:t --set recipe.lr=0.002 --set recipe.lora.layers=last:3 --seed 7 --seeds 3 --curve 100,300 --fast"
    )
    for name in hostile():
        words = shlex.split(said(options={"backbone": name, "install": True, name: name, "set": {name: [name]}, "limit": {"a": name}}))
        assert words[:4] == ["fmhub", "run", "p:t", "--backbone"] and words[4] == name
        assert words[5:] == ["--set", f"recipe.{name}={name}"]


def test_a_run_of_ones_own_links_to_its_report_and_one_with_private_data_does_not(tmp_path, home):
    for run, options in (("mine", {}), ("private", {"data": "reviews.csv"})):
        folder = make_run(home / "runs" / run, predictions(0.9, seed=len(run)), run=run, options=options)
        (folder / "report.html").write_text(f"the report of {run}")
        store.add(folder)
    shown = {one["name"]: one["id"] for one in store.board()[0]["entries"]}
    assert export.export(tmp_path / "site") == 2
    reports = {path.name: path.read_text() for path in (tmp_path / "site").glob("report-*.html")}
    assert reports == {f"report-{shown['mine']}.html": "the report of mine"}
    assert f"report-{shown['mine']}.html" in Page((tmp_path / "site" / f"entry-{shown['mine']}.html").read_text()).links
    private = (tmp_path / "site" / f"entry-{shown['private']}.html").read_text()
    assert "report-" not in private and "data of its submitter" in private and "reviews.csv" not in private
    client = TestClient(server.app(), base_url="http://127.0.0.1")
    answer = client.get(f"/report-{shown['mine']}.html")
    assert answer.text == "the report of mine" and "default-src 'none'" in answer.headers["content-security-policy"]
    for name in (shown["private"], "0" * 64, "../mine"):
        assert client.get(f"/report-{name}.html").status_code == 404


def test_shared_ranks_are_drawn_as_bands():
    places = [1, 1, 3, 4, 4, None]
    assert list(frame.groups(places)) == [
        ("=1", "odd"), ("=1", "odd"), ("3", "even leads"), ("=4", "odd leads"), ("=4", "odd"), ("–", "even leads")
    ]  # fmt: skip
