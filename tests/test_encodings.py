"""What the stem makes of a row is made once a run: seeds, folds, a curve's points and baselines read it again, to the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from toy import RECIPE, registered, same_end, task, write

from fmhub import api, data, heads, stems
from fmhub.backbones.load import load
from fmhub.evaluation import baselines
from fmhub.task import Encoded
from fmhub.training import encodings
from fmhub.training.encodings import Encodings, take
from fmhub.training.network import Network


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return write(tmp_path / "toy.csv", rows=60)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of every call of `Text.encode`."""
    calls, original = [], stems.Text.encode

    def encode(self: Any, table: pa.Table, *others: Any) -> Encoded:
        calls.append(len(table))
        return original(self, table, *others)

    monkeypatch.setattr(stems.Text, "encode", encode)
    return calls


FROZEN = (baselines.FrozenHead(), baselines.Untrained())


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        ({"seeds": 3}, 3),
        ({"folds": 2, "seeds": 2, "set": {"lora.layers": "last:1"}}, 1),
        ({"folds": 2, "limit": 20}, 1),
        ({"curve": [10], "set": {"lora.layers": "last:1"}}, 3),
    ],
)
def test_every_row_is_encoded_once_a_run(tiny, csv, counted, options, calls):
    with registered(task(tiny, csv, baselines=FROZEN)):
        api.run("toy", **{**options, "set": {"epochs": 1, **options.get("set", {})}})
    assert len(counted) == calls and sum(counted) == 60


def test_what_learns_from_the_training_part_is_not_shared_between_folds(tiny, tmp_path, monkeypatch):
    path, fitted = tmp_path / "people.csv", []
    random = np.random.default_rng(0)
    ages = random.integers(18, 80, 60)
    path.write_text("age,job,label\n" + "".join(f"{age},{'ab'[age % 2]},{'no' if age < 50 else 'yes'}\n" for age in ages))
    original = stems.Table.encode
    monkeypatch.setattr(
        stems.Table, "encode", lambda self, table, *_: fitted.append((self.centre, len(table))) or original(self, table, *_)
    )
    with registered(task(tiny, path, data=data.csv(str(path), label="label", split=data.Random()), stem=stems.Table(), baselines=())):
        api.run("toy", folds=3, set={"epochs": 1}, baseline=False)
    assert len({centre for centre, _ in fitted}) == 4 and [rows for _, rows in fitted] == [60] * 4, "three folds and the refit"


@pytest.mark.parametrize("options", [{"folds": 2, "set": {"lora.layers": "last:1", "length": 6}}, {"curve": [10]}])
def test_a_run_ends_in_the_bits_that_it_ends_in_without(tiny, csv, tmp_path, monkeypatch, options):
    """Rows that are cut, too, and said as often."""
    with registered(task(tiny, csv, baselines=FROZEN)):
        options = {**options, "set": {"epochs": 1, **options.get("set", {})}}
        shared = api.run("toy", output=tmp_path / "shared", **options)
        monkeypatch.setattr(encodings, "places", lambda table, known: None)
        alone = api.run("toy", output=tmp_path / "alone", **options)
    assert same_end(tmp_path / "shared", tmp_path / "alone")
    assert all(shared[key] == alone[key] for key in ("scores", "baselines", "curve"))
    cut = [[note for note in record["notes"] if "longer" in note] for record in (shared, alone)]
    assert cut[0] == cut[1] and bool(cut[0]) == ("length" in options["set"])


@pytest.fixture
def network(tiny):
    def make(stem=None, **recipe: Any) -> Network:
        head = heads.Classification(labels=("down", "up"))
        return Network(load(tiny, sha256="0" * 64), stem or stems.Text(), head, replace(RECIPE, **recipe))

    return make


def texts(*values: str, **columns: Any) -> pa.Table:
    return pa.table({"id": [str(number) for number in range(len(values))], "text": list(values), **columns})


WORDS = ("a good day", "the bad film was the news", "it", "happy the day")


def test_taken_rows_are_the_rows_by_themselves(network):
    made, whole = network(length=6), texts(*WORDS)
    encodings = Encodings(whole)
    rows = np.array([3, 1])
    part = made.prepare(whole.take(rows), targets=False, encodings=encodings).encoded
    alone = made.prepare(whole.take(rows), targets=False).encoded
    for some in (np.array([0]), np.array([1, 0])):
        left, right = made.batch(part, some), made.batch(alone, some)
        assert left.keys() == right.keys() and all(left[name].equal(right[name]) for name in left)
    assert part.lengths.tolist() == alone.lengths.tolist() and part.truncated == alone.truncated == 1 and part.unknown == 0
    again = take(part, np.array([1]))
    assert again.rows.tolist() == [1] and again.whole.truncated == 1 == again.truncated


def test_what_changes_an_encoding_is_never_shared(network, counted):
    whole, encodings = texts(*WORDS, target=["up"] * 4), Encodings()
    made = network()
    made.prepare(whole, encodings=encodings)
    for same in (whole, whole.slice(1, 2), whole.take([2, 0]), whole.drop_columns(["target"]), whole.append_column("group", whole["id"])):
        made.prepare(same, targets=False, encodings=encodings)
    network(seed=5, epochs=9).prepare(whole, encodings=encodings)
    assert counted == [4]
    other = whole.set_column(1, "text", pa.array(["a good day", "the film", "it", "happy the day"]))
    for different in (
        other,
        other.slice(0, 2),
        texts("a good day", "x"),
        whole.append_column("tile", whole["id"]),
        pa.concat_tables([whole] * 2),
    ):
        made.prepare(different, targets=False, encodings=encodings)
    assert counted == [4, 4, 2, 4], "what repeats known rows is known, too"
