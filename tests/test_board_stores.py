"""The board's stores: PostgreSQL, many submitters at once, and migrations killed at any step."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from test_trust import make_run, old_board, predictions

from fmhub.leaderboard import schema, store
from fmhub.leaderboard.verify import verify

pytestmark = pytest.mark.usefixtures("unshipped")


@pytest.fixture(scope="module")
def postgresql():
    """The URL of a real server on loopback, run by an unprivileged user."""
    initdb = shutil.which("initdb") or max(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), default=None)
    assert initdb, "these tests need PostgreSQL's programs: apt-get install postgresql, or leave them out with -m 'not postgresql'"
    programs, folder = Path(initdb).resolve().parent, Path(tempfile.mkdtemp(prefix="fmhub-postgresql-"))
    user = {"user": "nobody", "extra_groups": []} if os.geteuid() == 0 else {}
    if user:
        shutil.chown(folder, "nobody")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = subprocess.run([f"{programs}/initdb", "-D", folder / "data", "-U", "fmhub", "-A", "trust", "-N"],
                          capture_output=True, text=True, check=False, cwd=folder, **user)  # fmt: skip
    assert made.returncode == 0, made.stderr
    options = ["-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}"]
    with subprocess.Popen(
        [f"{programs}/postgres", "-D", folder / "data", *options], cwd=folder, stderr=subprocess.DEVNULL, **user
    ) as server:
        url = f"postgresql+psycopg://fmhub@127.0.0.1:{port}/postgres"
        try:
            _wait(url)
            yield url
        finally:
            server.send_signal(signal.SIGINT)


def _wait(url):
    engine = sa.create_engine(url)
    for _ in range(300):
        try:
            engine.connect().close()
            break
        except sa.exc.OperationalError:
            time.sleep(0.1)
    engine.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def where(request, monkeypatch):
    """Both stores in turn; the PostgreSQL one emptied."""
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql")
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            connection.execute(sa.text("DROP SCHEMA public CASCADE"))
            connection.execute(sa.text("CREATE SCHEMA public"))
        engine.dispose()
        monkeypatch.setenv("FMHUB_DATABASE", url)
    return request.param


def _add(folders):
    for folder in folders:
        store.add(folder)


def test_submitters_at_once_lose_nothing_and_double_nothing(where, tmp_path):
    folders = [str(make_run(tmp_path / f"r{n}", predictions(0.7, n=20, seed=n), f"r{n}")) for n in range(12)]
    shares = [[*folders[part::4], *folders[:3]] for part in range(4)]
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        pool.map(_add, shares)
    assert sorted(entry["name"] for entry in store.board()[0]["entries"]) == sorted(f"r{n}" for n in range(12))
    assert verify() == (12, [])


def test_an_edit_is_found_in_either_store(where, tmp_path):
    for number in range(3):
        store.add(make_run(tmp_path / f"r{number}", predictions(0.8, seed=number), f"r{number}"))
    with schema.database() as engine, engine.begin() as connection:
        connection.execute(schema.ENTRIES.update().where(schema.ENTRIES.c.name == "r1").values(run="other"))
        connection.execute(schema.LOG.delete().where(schema.LOG.c.number == 1))
    _, wrong = verify()
    assert any("(r1) was changed" in line for line in wrong)
    assert any("log row 1 is missing" in line for line in wrong)


def test_the_migrations_make_the_tables_that_are_used(where):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with schema.database() as engine, engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.METADATA) == []


KILLED = """
import os, signal, sys
import sqlalchemy as sa
from fmhub.leaderboard import schema, store
left = int(sys.argv[1])
@sa.event.listens_for(sa.Engine, "before_cursor_execute")
def count(connection, cursor, statement, parameters, context, many):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
store.board()
"""


@pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_a_migration_killed_at_any_step_loses_nothing(tmp_path, home, every):
    """A board of before the log, killed before each statement in turn (or each sixth) until there is none left, then opened."""
    old_board([make_run(tmp_path / f"r{number}", predictions(0.8, n=20, seed=number), f"r{number}") for number in range(2)])
    board = home / "board.sqlite"
    kept = board.read_bytes()
    for step in itertools.count(0, every):
        done = subprocess.run([sys.executable, "-c", KILLED, str(step)], check=False, capture_output=True, text=True)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        assert sorted(entry["name"] for entry in store.board()[0]["entries"]) == ["r0", "r1"]
        assert verify() == (2, [])
        if done.returncode == 0:
            assert step >= 12, "the migration has more statements than that"
            break
        for path in home.glob("board.sqlite*"):
            path.unlink()
        board.write_bytes(kept)
