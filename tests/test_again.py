"""Doing it again: from the adapter, from nothing; what agrees is sealed and shown, and what a licence forbids is kept nowhere."""

from __future__ import annotations

import json
import shutil

import pytest
import sqlalchemy as sa
from test_trust import tampering
from toy import registered, task, write

from fmhub import api, data
from fmhub.cli import main
from fmhub.errors import DataError
from fmhub.leaderboard import again as anew
from fmhub.leaderboard import schema, shipped, store, targets
from fmhub.leaderboard.again import again
from fmhub.leaderboard.verify import verify
from fmhub.runs import folder as run_folder


@pytest.fixture
def toy(tiny, tmp_path):
    with registered(task(tiny, write(tmp_path / "rows.csv"))) as one:
        yield one


def statuses():
    return {entry["name"]: entry["status"] for entry in store.board()[0]["entries"]}


def test_an_entry_is_done_again_and_shown_as_such(toy, capsys, home):
    run = api.run("toy")["id"]
    assert statuses() == {run: "recomputed", "majority": "recomputed"}
    assert main(["leaderboard", "verify", run, "--rerun"]) == 0
    assert "rerun agrees" in (shown := capsys.readouterr().out) and "+0.000000" in shown
    assert statuses() == {run: "re-run", "majority": "recomputed"}
    assert main(["leaderboard", "verify", run, "--retrain", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["again"]
    assert one["agrees"] and one["scores"]["accuracy"]["difference"] == 0
    assert main(["leaderboard", "verify", "--all", "--rerun"]) == 0
    assert statuses() == {run: "re-run", "majority": "re-run"}
    assert verify() == (2, [])
    assert len(list((home / "runs").iterdir())) == 1, "a retraining leaves nothing behind"
    with tampering(home / "board.sqlite") as live:
        live.execute("UPDATE checks SET entry = (SELECT id FROM entries WHERE kind = 'baseline') WHERE number = 1")
        assert any("is not sealed by a key that you trust" in line for line in verify()[1])
        live.execute("DELETE FROM checks WHERE number > 1")
        assert statuses() == {run: "recomputed", "majority": "recomputed"}


def test_an_adapter_that_says_something_else_differs(toy, capsys):
    from safetensors.torch import load_file, save_file

    record = api.run("toy")
    folder = run_folder.find(record["id"])
    path = folder / "adapter" / "adapter.safetensors"
    held = load_file(path)
    save_file({name: -tensor for name, tensor in held.items()}, path, metadata=None)
    assert main(["leaderboard", "verify", record["id"], "--rerun"]) == 1
    assert "not done again" in capsys.readouterr().out
    assert statuses()[record["id"]] == "recomputed"
    shutil.rmtree(folder)
    (one,) = again(record["id"], "rerun")
    assert one["agrees"] is None and "No run" in one["problem"]


def test_what_was_done_again_last_decides(toy, home, monkeypatch, capsys):
    run = api.run("toy")["id"]
    assert [one["agrees"] for one in again(run, "rerun")] == [True] and statuses()[run] == "re-run"
    true = anew.predicted
    monkeypatch.setattr(anew, "predicted", lambda *args: swapped(true(*args)))
    assert main(["leaderboard", "verify", run, "--rerun"]) == 1
    assert "rerun DIFFERS" in capsys.readouterr().out and statuses()[run] == "recomputed"


def swapped(table):
    """Predictions that take each label for the other."""
    one, two = sorted(set(table["prediction"].to_pylist()))
    other = {one: two, two: one}
    place = table.column_names.index("prediction")
    return table.set_column(place, "prediction", [[other[one] for one in table["prediction"].to_pylist()]])


def test_the_name_of_a_run_is_not_enough(toy, capsys):
    """Whoever names another's run, or has one of that name, is not done again by it."""
    run, other = (api.run("toy", seed=seed)["id"] for seed in (0, 1))
    (one,) = again(run, "retrain", run_folder.find(other))
    assert one["agrees"] is None and "is another run than that of entry" in one["problem"] and statuses()[run] == "recomputed"
    with tampering(schema.home() / "board.sqlite") as live:
        live.execute("UPDATE entries SET submitter = 'eve' WHERE kind = 'baseline'")
        (one,) = again("majority", "rerun")
    assert one["agrees"] is None and "is eve's" in one["problem"]


def test_a_reference_run_is_trained_again_from_what_is_shipped(toy, tmp_path, monkeypatch):
    run = api.run("toy")["id"]
    monkeypatch.setattr(shipped, "_texts", lambda value: ())  # the tiny backbone is a folder of this machine
    shipped.keep(run_folder.find(run), tmp_path / "leaderboard")
    monkeypatch.setattr(shipped, "registry", lambda: tmp_path)
    shutil.rmtree(run_folder.find(run))
    assert [one["problem"] for one in again(run, "rerun")] == [f"{run} is here without its adapter: --retrain does it again."]
    assert [one["agrees"] for name in (run, "majority") for one in again(name, "retrain")] == [True, True]


def test_seeds_and_folds(toy):
    seeds, folds = (api.run("toy", **options)["id"] for options in ({"seeds": 2, "baseline": False}, {"folds": 3, "baseline": False}))
    assert [one["agrees"] for one in again(seeds, "rerun")] == [True]
    (one,) = again(folds, "rerun")
    assert "trained on all rows: --retrain" in one["problem"]
    assert [one["agrees"] for one in again(folds, "retrain")] == [True]


def test_a_baseline_stands_once_whatever_columns_a_run_asks_for(toy):
    for options in ({}, {"groups": "site"}, {"seed": 1}):
        api.run("toy", **options)
    assert [entry["kind"] for entry in store.board()[0]["entries"]].count("baseline") == 1


def test_targets_that_may_not_be_copied_are_nowhere_on_the_board(tiny, tmp_path, home):
    with registered(task(tiny, write(tmp_path / "rows.csv"), redistribute=False)):
        run = api.run("toy")["id"]
        with schema.database() as engine, engine.connect() as connection:
            for (content,) in connection.execute(
                sa.union_all(sa.select(schema.TARGETS.c.content), sa.select(schema.PREDICTIONS.c.content))
            ):
                assert "target" not in targets.unpack(content).column_names
        assert [entry["rank"] for entry in store.board()[0]["entries"]] == [1, 2]
        assert verify() == (2, [])
        assert [one["agrees"] for one in again(run, "rerun")] == [True]
        write(tmp_path / "rows.csv", seed=1)
        targets._data.cache_clear()
        assert any("data are not here" in line or "no longer" in line for line in verify()[1])


def test_a_hidden_part_is_predicted_when_a_board_asks_and_never_trained_on(tiny, tmp_path, capsys):
    rows = write(tmp_path / "rows.csv").read_text().splitlines()
    unseen = [(f"h{n}", *line.split(",")[:2]) for n, line in enumerate(rows[1:41])]
    (tmp_path / "known.csv").write_text("\n".join([rows[0], *rows[41:]]) + "\n")
    (tmp_path / "unseen.csv").write_text("id,text\n" + "".join(f"{name},{text}\n" for name, text, _ in unseen))
    (tmp_path / "truth.csv").write_text("id,target\n" + "".join(f"{name},{label}\n" for name, _, label in unseen))
    known = data.csv(str(tmp_path / "known.csv"), text="text", label="label", split=data.Random())
    one = task(tiny, tmp_path / "known.csv", data=data.Hidden(known, data.csv(str(tmp_path / "unseen.csv"), text="text")))
    with registered(one):
        first = api.run("toy")
        assert set(first["scores"]) == {"validation", "test"}
        assert main(["leaderboard", "hide", "toy", str(tmp_path / "truth.csv")]) == 0
        second = api.run("toy", seed=1)
        (found,) = store.board()
        assert found["split"] == "hidden"
        ranked = {entry["name"]: entry["score"]["n"] for entry in found["entries"] if entry["rank"]}
        assert ranked.keys() == {second["id"], "majority"} and set(ranked.values()) == {40}
        assert verify()[1] == []
        assert [one["agrees"] for one in again(second["id"], "rerun")] == [True]
    leak = data.Hidden(known, data.csv(str(tmp_path / "truth.csv")))
    with pytest.raises(DataError, match="without a target"):
        leak.load()
