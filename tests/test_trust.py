"""Whoever edits the board is found: keys, log, receipts, verification, and boards older than the log."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa

from fmhub.cli import main
from fmhub.errors import FmhubError, UntrustedFile, UsageError
from fmhub.leaderboard import entries, keys, log, schema, store
from fmhub.leaderboard.verify import verify
from fmhub.runs import folder as run_folder

pytestmark = pytest.mark.usefixtures("unshipped")

LABELS = ["neg", "pos"]


def predictions(accuracy, *, n=60, seed=0):
    """A small prediction table whose test part has one truth."""
    drawn = np.random.default_rng(seed)
    target = np.random.default_rng(5).integers(0, 2, n)
    guess = np.where(drawn.random(n) < accuracy, target, 1 - target)
    return pa.table(
        {
            "id": [f"r{row}" for row in range(n)], "split": ["test"] * n, "prediction": [LABELS[value] for value in guess],
            "target": [LABELS[value] for value in target],
        }
    )  # fmt: skip


def make_run(folder, table, run):
    task = {"name": "sentiment", "version": "1", "plugin": "fmhub-text", "plugin_version": "0.1.0", "family": "text"}
    plan = {
        "id": run, "started": "2026-11-24T01:00:00Z", "task": task, "backbone": {"name": "minilm-l6", "sha256": "ab" * 32},
        "data": {"fingerprint": "f" * 64, "train": 2048, "validation": 100, "test": table.num_rows}, "recipe": {"lr": 0.003},
        "stem": {"kind": "fmhub.stems:Text"}, "head": {"kind": "fmhub.heads:Classification", "labels": LABELS},
        "metrics": ["accuracy", "f1_macro"], "baselines": [], "options": {"seeds": 1},
    }  # fmt: skip
    run_folder.write_json(folder / "plan.json", plan)
    run_folder.write_json(folder / "run.json", {**plan, "status": "done", "scores": {}, "cost": {"train_seconds": 9.5}})
    run_folder.write_table(folder / "predictions.parquet", table)
    return folder


@pytest.fixture
def board(tmp_path, home):
    """A board of eight entries; its SQLite file."""
    for number in range(8):
        table = predictions(0.6 + number / 25, seed=number)
        store.add(make_run(tmp_path / f"run-{number}", table, f"run-{number}"))
    return home / "board.sqlite"


@contextlib.contextmanager
def tampering(path):
    """A connection of somebody who has the file and nothing else; what they did is undone afterwards."""
    kept = sqlite3.connect(":memory:")
    live = sqlite3.connect(path, isolation_level=None)
    live.backup(kept)
    live.execute("PRAGMA foreign_keys=OFF")
    try:
        yield live
    finally:
        kept.backup(live)
        live.close()
        kept.close()


def test_an_honest_board_is_found_honest(board, capsys):
    assert verify() == (8, [])
    assert verify("run-3") == (1, [])
    assert main(["leaderboard", "verify", "--all"]) == 0
    assert "8 entries looked at, nothing wrong" in capsys.readouterr().out
    assert main(["leaderboard", "verify", "--all", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"entries": 8, "wrong": []}
    assert main(["leaderboard", "verify"]) == main(["leaderboard", "verify", "run-1", "--all"]) == 2
    with pytest.raises(UsageError, match="No entry 'run-99'"):
        verify("run-99")


def test_the_key_is_private_and_made_once(home):
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: keys.public(), range(8)))
    assert len(made) == 1
    path = home / "board.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(home.iterdir()) == [path]
    assert keys.signed(b"x", keys.sign(b"x"), keys.public())
    assert not keys.signed(b"y", keys.sign(b"x"), keys.public())
    for nonsense in ("", "zz", "00" * 64, None):
        assert not keys.signed(b"x", nonsense, keys.public())
        assert not keys.signed(b"x", keys.sign(b"x"), nonsense)
    path.chmod(0o644)
    with pytest.raises(UntrustedFile, match="chmod 600"):
        keys.public()
    path.chmod(0o600)
    path.write_text("no key")
    with pytest.raises(UntrustedFile, match="is no key"):
        keys.public()


COLUMNS = [column.name for column in schema.ENTRIES.c if column.name not in ("id", "number")]


def edited(value, draw):
    """Another value in the place of a stored one: a digit, a letter or a byte of it, or something else altogether."""
    if value is None:
        return "0" * 64
    if isinstance(value, int):
        return value + draw.randint(1, 9)
    text = value.hex() if isinstance(value, bytes) else value
    if not text or draw.random() < 0.2:
        return f"{text}x" if isinstance(value, str) else value + b"x"
    at = draw.randrange(len(text))
    if isinstance(value, bytes):
        return value[: at // 2] + bytes([value[at // 2] ^ draw.randint(1, 255)]) + value[at // 2 + 1 :]
    return text[:at] + draw.choice([c for c in "0123456789abcdefgh" if c != text[at]]) + text[at + 1 :]


def same(column, before, after):
    """Whether an edit of JSON text says the same as before: only its writing differs."""
    if column not in ("scores", "manifest", "labels"):
        return False
    try:
        return log.canonical(json.loads(after)) == log.canonical(json.loads(before))
    except ValueError:
        return False


@pytest.mark.parametrize("edits", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_every_edit_of_an_entry_is_found_and_named(board, edits):
    draw = random.Random(0)
    done = 0
    while done < edits:
        with tampering(board) as live:
            ids = [row[0] for row in live.execute("SELECT id FROM entries")]
            victim, column = draw.choice(ids), draw.choice(COLUMNS)
            (before,) = live.execute(f"SELECT {column} FROM entries WHERE id = ?", [victim]).fetchone()
            after = edited(before, draw)
            live.execute(f"UPDATE entries SET {column} = ? WHERE id = ?", [after, victim])
            if same(column, before, after):
                continue
            _, wrong = verify()
            assert any(f"entry {victim[:12]}" in line for line in wrong), (column, before, after)
            done += 1
    assert verify() == (8, [])


def test_every_edit_of_predictions_and_log_is_found(board):
    draw = random.Random(1)
    for _ in range(15):
        with tampering(board) as live:
            sha256, content = draw.choice(live.execute("SELECT sha256, content FROM predictions").fetchall())
            (owner,) = live.execute("SELECT id FROM entries WHERE predictions = ?", [sha256]).fetchone()
            live.execute("UPDATE predictions SET content = ? WHERE sha256 = ?", [edited(content, draw), sha256])
            assert any(f"entry {owner[:12]}" in line and "predictions were changed" in line for line in verify()[1])
        with tampering(board) as live:
            column = draw.choice([column.name for column in schema.LOG.c if column.name != "number"])
            number, before = draw.choice(live.execute(f"SELECT number, {column} FROM log").fetchall())
            live.execute(f"UPDATE log SET {column} = ? WHERE number = ?", [edited(before, draw), number])
            assert any(f"log row {number}" in line for line in verify()[1])


def test_of_one_entry_its_log_row_and_seal_are_checked_too(board):
    """Whoever has the file and no key gives an entry to another, and adjusts what the log says of it."""
    with tampering(board) as live:
        (victim,) = live.execute("SELECT id FROM entries WHERE name = 'run-3'").fetchone()
        live.execute("UPDATE entries SET submitter = 'mallory' WHERE id = ?", [victim])
        with schema.database() as engine, engine.connect() as connection:
            row = dict(connection.execute(sa.select(schema.ENTRIES).where(schema.ENTRIES.c.id == victim)).mappings().one())
        live.execute("UPDATE log SET content = ? WHERE entry = ?", [log.content(row), victim])
        assert verify("run-3") == (1, [f"log row 4 (entry {victim[:12]}) was changed"])
        with schema.database() as engine, engine.connect() as connection:
            link = dict(connection.execute(sa.select(schema.LOG).where(schema.LOG.c.entry == victim)).mappings().one())
        live.execute("UPDATE log SET hash = ? WHERE entry = ?", [log.digest({key: link[key] for key in log.CHAINED}), victim])
        (line,) = verify("run-3")[1]
        assert "log row 4" in line and "no valid seal" in line
        assert verify("run-2") == (1, [])


def rewritten(forge, **honest):
    """A cheat who holds the board's own key: one entry's row is replaced, logged and sealed anew, and so is all after it."""
    with schema.database() as engine, schema.writing(engine) as connection:
        rows = [dict(row) for row in connection.execute(sa.select(schema.ENTRIES).order_by(schema.ENTRIES.c.number)).mappings()]
        forge(rows[2])
        connection.execute(schema.LOG.delete())
        connection.execute(schema.ENTRIES.delete())
        for row in rows:
            connection.execute(schema.ENTRIES.insert().values(row))
            log.append(connection, row)
    return rows[2]


@pytest.mark.parametrize("forgeries", [30, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_forged_score_is_found_even_with_the_boards_key(board, forgeries):
    """Recomputing needs no trust in whoever keeps the board."""
    draw = random.Random(2)
    for _ in range(forgeries):
        metric, part = draw.choice(["accuracy", "f1_macro"]), draw.choice(["value", "low", "high"])
        gift = draw.choice([1e-6, 0.001, 0.05, 0.3]) * draw.choice([-1, 1])

        def forge(row, metric=metric, part=part, gift=gift):
            row["scores"]["test"][metric][part] += gift

        with tampering(board):
            row = rewritten(forge)
            _, wrong = verify()
            assert wrong == [line for line in wrong if row["id"][:12] in line and f"test {metric} {part}" in line]
            assert len(wrong) == 1


@pytest.mark.parametrize(
    "cheat",
    [
        lambda row: row["scores"]["test"].pop("f1_macro"),
        lambda row: row["scores"].update(shift={"accuracy": {"value": 1.0}}),
        lambda row: row.update(scores={}),
        lambda row: row.update(version="2"),
        lambda row: row.update(truth="0" * 64),
        lambda row: row.update(predictions=None),
        lambda row: row.update(labels=["pos"], metric="auc"),
        lambda row: row.update(manifest=[]),
    ],
)
def test_other_forgeries_with_the_boards_key_are_found(board, cheat):
    with tampering(board):
        row = rewritten(cheat)
        assert any(row["id"][:12] in line for line in verify()[1])


def test_an_unsigned_gift_is_found(board):
    """A submitter's signature cannot be made by the board: a manifest embellished by the keeper is named."""
    with schema.database() as engine, schema.writing(engine) as connection:
        row = dict(connection.execute(sa.select(schema.ENTRIES).limit(1)).mappings().one())
        link = connection.execute(sa.select(schema.LOG).limit(1)).mappings().one()
        row["manifest"]["cost"] = {"train_seconds": 1.0}
        connection.execute(schema.ENTRIES.update().where(schema.ENTRIES.c.id == row["id"]).values(manifest=row["manifest"]))
        connection.execute(schema.LOG.delete().where(schema.LOG.c.number > 0))
        log.append(connection, row, signer=link["signer"], signature=link["signature"])
    assert any("not what its submitter signed" in line for line in verify()[1])


def test_removed_reordered_and_added_rows_are_found(board):
    for number in range(1, 8):
        with tampering(board) as live:
            live.execute("DELETE FROM log WHERE number = ?", [number])
            _, wrong = verify()
            assert any(f"log row {number} is missing" in line for line in wrong)
            assert any("is not in the log" in line for line in wrong)
        with tampering(board) as live:
            victim = live.execute("SELECT entry FROM log WHERE number = ?", [number]).fetchone()[0]
            live.execute("DELETE FROM entries WHERE id = ?", [victim])
            assert any(f"entry {victim[:12]} was removed" in line for line in verify()[1])
        with tampering(board) as live:
            for old, new in ((number, 99), (number + 1, number), (99, number + 1)):
                live.execute("UPDATE log SET number = ? WHERE number = ?", [new, old])
            assert any(f"log row {number}" in line for line in verify()[1])
    with tampering(board) as live:
        kept = ", ".join(column.name for column in schema.ENTRIES.c if column.name not in ("number", "id"))
        live.execute(f"INSERT INTO entries (number, id, {kept}) SELECT 99, 'forged', {kept} FROM entries WHERE number = 1")
        assert any("entry forged" in line and "not in the log" in line for line in verify()[1])
    with tampering(board) as live:
        live.execute("UPDATE entries SET number = number + 100 WHERE number = 3")
        assert any("changed since" in line for line in verify()[1])
    with tampering(board) as live:
        live.execute("INSERT INTO predictions VALUES ('more', x'00')")
        assert any("belong to no entry" in line for line in verify()[1])


def test_a_cut_tail_is_found_with_a_receipt(board, tmp_path, capsys):
    assert main(["leaderboard", "receipt"]) == 0
    held = tmp_path / "receipt.json"
    held.write_text(capsys.readouterr().out)
    receipt = json.loads(held.read_text())
    assert receipt["count"] == 8
    with tampering(board) as live:
        live.execute("DELETE FROM entries WHERE id IN (SELECT entry FROM log WHERE number > 6)")
        live.execute("DELETE FROM predictions WHERE sha256 NOT IN (SELECT predictions FROM entries)")
        live.execute("DELETE FROM log WHERE number > 6")
        assert verify() == (6, [])
        (line,) = verify(receipt=receipt)[1]
        assert "it has 6 rows, and the receipt saw 8" in line
        assert main(["leaderboard", "verify", "--all", "--receipt", str(held)]) == 1
    store.add(make_run(tmp_path / "more", predictions(0.9, seed=50), "more"))
    assert verify(receipt=receipt) == (9, [])
    with tampering(board):
        rewritten(lambda row: row["manifest"].update(cost=None))
        assert any("not the one that the receipt saw" in line for line in verify(receipt=receipt)[1])
    for forged in ({**receipt, "count": 3}, {}, {**receipt, "seal": "00"}, {**receipt, "count": None}):
        assert any("proves nothing" in line for line in verify(receipt=forged)[1])


def test_a_log_rewritten_with_another_key_is_found(board, home):
    receipt, mine = store.receipt(), keys.public()
    (home / "board.key").rename(home / "mine.key")
    rewritten(lambda row: None)
    theirs = keys.public()
    (home / "mine.key").rename(home / "board.key")
    assert all(f"sealed by key {theirs}" in line for line in verify()[1])
    assert len(verify()[1]) == 8
    (line,) = verify("run-3")[1]
    assert f"sealed by key {theirs}" in line
    assert any("another board" in line and mine in line for line in verify(receipt=receipt)[1])
    (home / "trusted_keys").write_text(f"{theirs}  # a colleague\n\n")
    assert verify() == (8, [])


def old_board(folders):
    """A board as it was before the log: its tables, and whole prediction tables named by the hash of their file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "HEAD", "0001")
        with schema.database() as engine, schema.writing(engine) as connection:
            for folder in folders:
                (one,) = entries.from_folder(folder)
                content = (folder / "predictions.parquet").read_bytes()
                row = {name: value for name, value in one.row.items() if name not in log.LATER}
                row["predictions"] = hashlib.sha256(content).hexdigest()
                row["id"] = entries.identity(row)
                connection.execute(schema.PREDICTIONS.insert().values(sha256=row["predictions"], content=content))
                connection.execute(schema.ENTRIES.insert().values(row))


def test_a_board_older_than_the_log_is_taken_over(tmp_path):
    old_board([make_run(tmp_path / "run", predictions(0.8), "run")])
    assert [entry["name"] for entry in store.board()[0]["entries"]] == ["run"]
    assert verify() == (1, [])
    store.add(make_run(tmp_path / "new", predictions(0.6), "new"))
    assert [entry["rank"] for entry in store.board()[0]["entries"]] == [1, 2]
    assert verify() == (2, [])


def test_a_board_of_a_newer_fmhub_is_left_alone(board):
    with sqlite3.connect(board) as live:
        live.execute("UPDATE alembic_version SET version_num = '9999'")
    live.close()
    with pytest.raises(FmhubError, match="newer fmhub"):
        store.board()


def test_the_newest_migration_is_the_one_that_is_asked_for():
    names = sorted(path.name for path in (schema.Path(schema.__file__).parent / "migrations" / "versions").glob("s*.py"))
    assert names[-1].startswith(f"s{schema.HEAD}_")


def test_a_row_that_cannot_be_read_is_one_line(board):
    with sqlite3.connect(board) as live:
        live.execute("UPDATE entries SET scores = '{' WHERE number = 1")
    live.close()
    with pytest.raises(FmhubError, match="verify --all` names it"):
        store.board()
    assert any("its scores cannot be read" in line for line in verify()[1])


def test_identity_says_whether_contamination_was_declared(board):
    row = {"kind": "run", "name": "a", "task": "t", "version": "1", "fingerprint": "f", "predictions": None, "manifest": {}}
    assert entries.identity(row) != entries.identity({**row, "manifest": {"contamination": "in the pretraining"}})
