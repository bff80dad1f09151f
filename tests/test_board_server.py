"""The board's pages over HTTP: only its own files, nothing written, no script, and new as soon as the log has grown."""

from __future__ import annotations

import os
import re
import subprocess
import urllib.request

import pytest
from cli import SERVE
from fastapi.testclient import TestClient
from test_board import make_run, predictions
from test_trust import tampering

from fmhub.leaderboard import server, store

pytestmark = pytest.mark.usefixtures("unshipped")


@pytest.fixture
def client(tmp_path):
    store.add(make_run(tmp_path / "one", predictions(0.9), baselines={"majority": predictions(0.5, seed=3)}))
    return TestClient(server.app(), base_url="http://127.0.0.1")


def test_every_link_leads_to_a_page_under_a_strict_policy(client):
    seen, left = set(), {"index.html", "board.json", "board.csv", "board.md"}
    while left:
        name = left.pop()
        seen.add(name)
        answer = client.get(f"/{name}")
        assert answer.status_code == 200, name
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "<script" not in answer.text and " style=" not in answer.text
        left |= set(re.findall(r'href="([^"]+)"', answer.text)) - seen
    assert len(seen) == 8
    assert client.get("/").text == client.get("/index.html").text
    assert client.get("/board.css").headers["content-type"].startswith("text/css")
    assert client.get("/board.json").json()["tables"] == store.board()


@pytest.mark.parametrize(
    "name", ["nothing", "../board.key", "%2e%2e/board.key", "board.key", "board.sqlite", "/etc/passwd", "a" * 5000, "%00"]
)
def test_nothing_else_is_served(client, name):
    assert client.get(f"/{name}").status_code == 404


def test_nothing_is_written(client):
    before = store.board()
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        for name in ("", "index.html", "board.json"):
            assert client.request(method, f"/{name}", content=b"x").status_code == 405
    assert store.board() == before


def test_loopback_answers_to_its_own_name_only(client):
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 400
    open_to_all = TestClient(server.app("0.0.0.0"), base_url="http://board.example")
    assert open_to_all.get("/").status_code == 200


def test_a_new_entry_is_shown_and_the_old_pages_are_kept_until_then(client, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(server, "files", lambda: made.append(1) or {"index.html": f"page {len(made)}"})
    assert [client.get("/").text for _ in range(3)] == ["page 1"] * 3
    store.add(make_run(tmp_path / "two", predictions(0.7, seed=7), run="two"))
    assert client.get("/").text == "page 2"


def test_a_board_that_cannot_be_read_is_one_line(client, home):
    with tampering(home / "board.sqlite") as live:
        live.execute("UPDATE entries SET scores = '{'")
        answer = client.get("/")
        assert answer.status_code == 503 and answer.text.count("\n") == 0 and "verify --all" in answer.text


def test_the_command_serves(home, tmp_path):
    store.add(make_run(tmp_path / "one", predictions(0.9)))
    command = [*SERVE, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "FMHUB_HOME": str(home)}) as process:
        try:
            address = next(found[0] for line in process.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=60) as answer:
                assert b"Leaderboard" in answer.read()
        finally:
            process.terminate()
            process.wait(60)
            process.stderr.read()
