"""The reference board: a run is kept small, and a fresh board has its entries and its baselines' from there."""

from __future__ import annotations

import json

import pytest
from test_board import make_run, predictions

from fmhub.cli import main
from fmhub.errors import UsageError
from fmhub.leaderboard import shipped, store
from fmhub.leaderboard.verify import verify
from fmhub.runs import folder as run_folder


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run", predictions(0.9), baselines={"majority": predictions(0.5, seed=3)})


def test_what_is_kept_makes_the_same_entries(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shipped, "registry", lambda: tmp_path / "registry")
    assert main(["leaderboard", "reference", str(run)]) == 0
    assert "KiB" in capsys.readouterr().out
    place = tmp_path / "registry" / "leaderboard" / "fmhub-text"
    assert {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()} == {
        "sentiment.json", "sentiment/plan.json", "sentiment/run.json",
        "sentiment/predictions.parquet", "sentiment/baselines/majority.parquet",
    }  # fmt: skip
    assert json.loads((place / "sentiment.json").read_text()) == run_folder.read_record(run)
    assert "input" not in run_folder.read_table(place / "sentiment" / "predictions.parquet").column_names
    (place / "other.json").write_text("{}")
    assert main(["leaderboard", "reference"]) == main(["leaderboard", "reference"]) == 0
    shown = capsys.readouterr().out
    assert "fmhub-text/sentiment: 2 entries" in shown and "fmhub-text/other: a record only" in shown
    kept = {entry["name"]: entry["score"] for entry in store.board()[0]["entries"]}
    assert verify() == (2, [])
    monkeypatch.setenv("FMHUB_HOME", str(tmp_path / "second"))
    store.add(run)
    assert {entry["name"]: entry["score"] for entry in store.board()[0]["entries"]} == kept


def test_the_twin_from_a_random_start_lies_beside_the_reference(run, tmp_path):
    twin = make_run(tmp_path / "twin", predictions(0.7, seed=5), options={"random_weights": True})
    places = [shipped.keep(one, tmp_path / "kept") for one in (run, twin)]
    assert [place.name for place in places] == ["sentiment", "sentiment@random"]
    assert [len(list(place.parent.glob(f"{place.name}.json"))) for place in places] == [1, 1]


def test_what_cannot_be_a_reference_is_refused(run, tmp_path):
    def changed(name, **changes):
        return make_run(tmp_path / name, predictions(0.9), **changes)

    with pytest.raises(UsageError, match="is failed"):
        shipped.keep(changed("a", status="failed"), tmp_path / "kept")
    with pytest.raises(UsageError, match="--limit"):
        shipped.keep(changed("b", options={"limit": 100}), tmp_path / "kept")
    with pytest.raises(UsageError, match="path of this machine"):
        shipped.keep(changed("c", backbone={"name": "/home/me/model"}), tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
    assert main(["leaderboard", "reference", "--into", str(tmp_path)]) == 2


def test_what_a_licence_keeps_out_is_shown_as_its_record_says_until_the_data_are_there(run, tmp_path, monkeypatch, capsys):
    """Predictions without targets, of a task whose data are not here: self-reported, ranked by intervals, and stored nowhere."""
    monkeypatch.setattr(shipped, "registry", lambda: tmp_path / "registry")
    assert main(["leaderboard", "reference", str(run)]) == 0
    place = tmp_path / "registry" / "leaderboard" / "fmhub-text" / "sentiment"
    for path in place.rglob("*.parquet"):
        run_folder.write_table(path, run_folder.read_table(path).drop_columns(["target"]))
    capsys.readouterr()
    assert main(["leaderboard", "--json"]) == 0
    out, err = capsys.readouterr()
    (one,) = json.loads(out)
    assert "Self-reported until their data are fetched" in err and "fmhub-text:sentiment" in err
    assert {(entry["name"], entry["rank"], entry["status"], entry["score"]["value"]) for entry in one["entries"]} == {
        ("sentiment-1", 1, "self-reported", 0.999), ("majority", 1, "self-reported", 0.999)
    }  # fmt: skip
    assert store.board() == [] and verify() == (0, [])
    assert main(["leaderboard", "export", str(tmp_path / "site")]) == 0
    assert "self-reported" in next((tmp_path / "site").glob("task-*.html")).read_text()
    assert main(["leaderboard", "reference", str(run)]) == 0
    capsys.readouterr()
    assert main(["leaderboard", "--json"]) == 0
    assert {entry["status"] for entry in json.loads(capsys.readouterr().out)[0]["entries"]} == {"recomputed"}


def test_a_task_without_entries_is_told_apart_from_a_misspelt_one(run, monkeypatch, capsys):
    monkeypatch.setattr(shipped, "kept", dict)
    store.add(run)
    for word, said in [("sentimnt", "Did you mean sentiment"), ("next-item", "`fmhub run next-item` makes one"), ("qqq", "shows those")]:
        assert main(["leaderboard", word]) == 2
        assert said in capsys.readouterr().err
