"""Many submitters at once, a server that is killed again and again, and whatever a fuzzer can think of."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import schemathesis
import sqlalchemy as sa
from cli import SERVE
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from test_board_stores import postgresql, where  # noqa: F401 - fixtures
from test_submit import signed, submission
from test_trust import make_run, predictions

from fmhub.leaderboard import gate, schema, server, store, submit, targets, tokens
from fmhub.leaderboard.verify import verify

SUBMITTERS, EACH, KILLS, SPOILT = 16, 200, 100, 1500
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unshipped")]


@pytest.fixture(scope="module")
def works(tmp_path_factory):
    """For each submitter the bodies of EACH entries with their addresses; a quarter are everybody's own and the same."""
    place = tmp_path_factory.mktemp("works")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FMHUB_HOME", str(place / "home"))

        model, _ = submission(make_run(place / "model", predictions(0.5, n=30), "model"))

        def made(name, seed):
            table = targets.predicted(predictions(0.5 + seed % 40 / 100, n=30, seed=seed))
            found, address = signed({**model, "entry": {**model["entry"], "name": name}, "columns": targets.columns_of(table)})
            return address, json.dumps(found).encode()

        shared = [made(f"shared-{n}", n) for n in range(EACH // 4)]
        own = EACH - len(shared)
        works = [[*shared, *(made(f"s{who}-{n}", 1000 + who * own + n) for n in range(own))] for who in range(SUBMITTERS)]
    for one in works:
        random.Random(len(one)).shuffle(one)
    return works


def opened(tmp_path):
    """The keeper's own entry, which opens the table."""
    store.add(make_run(tmp_path / "first", predictions(0.5, n=30, seed=999_999), "first"))


def started(port, home):
    """A server process that answers."""
    command = [*SERVE, "--port", str(port), "--rate", "1000000", "--quota", "1000000"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env={**os.environ, "FMHUB_HOME": str(home)})
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return process
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the server did not start")


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def everything():
    """{id: submitter} of the board, and that no row is doubled."""
    with schema.database() as engine, engine.connect() as connection:
        rows = connection.execute(sa.select(schema.ENTRIES.c.id, schema.ENTRIES.c.submitter)).all()
        logged = list(connection.scalars(sa.select(schema.LOG.c.entry)))
    assert len(rows) == len({row.id for row in rows}) == len(logged) == len(set(logged))
    return {row.id: row.submitter for row in rows}


def send(port, work, token, acknowledged, problems):
    """One submitter: each entry until it is acknowledged, whatever happens to the server."""
    for address, body in work:
        try:
            status, answer = submit._put(f"http://127.0.0.1:{port}{address}", body, token, lambda *_: None)
            acknowledged.append((status, answer["id"], answer["receipt"]))
        except Exception as error:
            problems.append(error)


def rush(port, works, holders, acknowledged, problems):
    """All submitters at once, until each has sent its work."""
    with ThreadPoolExecutor(len(works)) as pool:
        for work, token in zip(works, holders, strict=True):
            pool.submit(send, port, work, token, acknowledged, problems)


def test_sixteen_submitters_of_two_hundred_lose_and_double_nothing(where, works, tmp_path, home, port):  # noqa: F811
    opened(tmp_path)
    holders = [tokens.new(f"s{who}", ["submit"]) for who in range(SUBMITTERS)]
    server_process = started(port, home)
    try:
        begun, acknowledged, problems = time.monotonic(), [], []
        rush(port, works, holders, acknowledged, problems)
        print(f"{where}: {len(acknowledged)} in {time.monotonic() - begun:.0f} s")
    finally:
        server_process.terminate()
        server_process.wait(60)
    assert problems == []
    assert len(acknowledged) == SUBMITTERS * EACH
    wanted = {address[-64:] for work in works for address, _ in work}
    found = everything()
    assert {name for name, submitter in found.items() if submitter} == wanted
    assert sum(status == 201 for status, _, _ in acknowledged) == len(wanted) == SUBMITTERS * EACH * 3 // 4 + EACH // 4
    last = max((receipt for _, _, receipt in acknowledged), key=lambda receipt: receipt["count"])
    assert verify(receipt=last) == (len(found), [])


def test_nothing_acknowledged_is_lost_when_the_server_is_killed_a_hundred_times(where, works, tmp_path, home, port, monkeypatch):  # noqa: F811
    monkeypatch.setattr(submit, "TRIES", 100_000)
    monkeypatch.setattr(submit, "LONGEST_WAIT", 0.2)
    opened(tmp_path)
    holders = [tokens.new(f"s{who}", ["submit"]) for who in range(SUBMITTERS)]
    acknowledged, problems, kills, seen = [], [], 0, 0
    client = threading.Thread(target=rush, args=(port, works, holders, acknowledged, problems))
    client.start()
    draw = random.Random(0)
    while kills < KILLS and client.is_alive():
        process = started(port, home)
        wanted = len(acknowledged) + draw.randint(0, SUBMITTERS * EACH // KILLS)  # a kill comes amid the work, on a busy machine, too
        while len(acknowledged) < wanted and client.is_alive():
            time.sleep(0.01)
        time.sleep(draw.uniform(0.0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        kills += 1
        now = everything()
        assert len(now) >= seen
        seen = len(now)
    process = started(port, home)
    try:
        client.join(1800)
    finally:
        process.terminate()
        process.wait(60)
    print(f"{where}: {kills} kills, {seen} entries stood at the last one")
    assert kills == KILLS and not client.is_alive() and problems == []
    assert seen > SUBMITTERS * EACH // 8, "the kills came amid the work"
    found = everything()
    assert {name for _, name, _ in acknowledged} <= set(found)
    assert {address[-64:] for work in works for address, _ in work} <= set(found)
    receipts = sorted((receipt for _, _, receipt in acknowledged), key=lambda receipt: receipt["count"])
    for receipt in (*receipts[::400], receipts[-1]):
        assert verify("first", receipt) == (1, [])
    assert verify() == (len(found), [])


HOSTILE = (None, True, 0, -1, 1e308, 2**70, "", "x" * 5000, "\0", "\u202e", "';--", [], {}, [[]], [None], {"a": []}, "é" * 64, ["a", 1])
HOSTILE += ("\ud800", "a\0b")


@pytest.fixture
def application(tmp_path):
    """A board with one table, for requests without a network; and a token that may everything."""
    opened(tmp_path)
    token = tokens.new("fuzz", list(tokens.SCOPES))
    return server.app("0.0.0.0", gate.Limits(rate=10**9, quota=10**9)), {"Authorization": f"Bearer {token}"}


def test_no_request_of_a_fuzzer_is_a_server_error(application):
    """schemathesis on the OpenAPI document: what fits it and what does not, with a token that may everything and without."""
    app, holder = application
    document, answers = schemathesis.openapi.from_asgi("/openapi.json", app), Counter()
    for result in document.get_all_operations():
        for mode in schemathesis.GenerationMode:

            @settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
            @given(case=result.ok().as_strategy(generation_mode=mode))
            def fuzz(case):
                for headers in (holder, {}):
                    status = case.call(headers=headers).status_code
                    assert status < 500
                    answers[status] += 1

            with contextlib.suppress(Unsatisfiable):  # a route without parameters can be asked nothing wrong
                fuzz()
    print(dict(answers))
    assert answers.total() > 2000


def test_no_submission_with_anything_anywhere_is_a_server_error(application, tmp_path):
    """A good submission, at a random place of which something hostile stands, signed again where it can be."""
    app, holder = application
    client, draw, answers = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False), random.Random(0), Counter()
    good, _ = submission(make_run(tmp_path / "good", predictions(0.7, n=30, seed=4), "good"))
    headers = {**holder, "Content-Type": "application/json"}
    for number in range(SPOILT):
        found = copy.deepcopy(good)
        found["entry"]["name"] = f"g{number}"  # another entry each time, so that what is harmless is stored and shown
        at: Any = found
        while isinstance(at, (dict, list)) and at:
            key = draw.choice(list(at) if isinstance(at, dict) else range(len(at)))
            if isinstance(at, dict) and draw.random() < 0.1:  # as a key
                at[draw.choice([text for text in HOSTILE if isinstance(text, str)])] = at.pop(key)
                break
            if draw.random() < 0.35 or not isinstance(at[key], (dict, list)):
                at[key] = draw.choice(HOSTILE)
                break
            at = at[key]
        address = f"/api/entries/{'0' * 64}"
        with contextlib.suppress(Exception):
            found, address = signed(found)
        answers[client.put(address, content=json.dumps(found), headers=headers).status_code] += 1
    print(dict(answers))
    assert {201, 422} <= set(answers) <= {200, 201, 422}, "some of it is harmless, and taken"
    assert client.get("/").status_code == client.get("/board.json").status_code == 200
    assert verify()[1] == []
