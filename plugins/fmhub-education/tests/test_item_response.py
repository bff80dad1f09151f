"""Answers to items: people's answers are divided, what is known of a person never holds what is asked, bad rows in one line each."""

from __future__ import annotations

import io
import lzma
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fmhub_education import fmhub_api, fmhub_tasks, pinned, samples, verbal
from fmhub_education.rasch import OtherAnswers, Rasch

from fmhub import DataError, data
from fmhub.task import Setting

TASKS = {task.name: task for task in fmhub_tasks()}
ITEMS = TASKS["item-response"]


def test_every_task_says_what_users_need():
    import tomllib

    assert fmhub_api == (1, 0)
    for task in TASKS.values():
        for name in ("title", "summary", "version", "licence", "source", "citation", "sample", "baselines", "group"):
            assert getattr(task, name), (task.name, name)
        assert task.family == "education"
    entry = tomllib.loads((Path(__file__).parents[3] / "registry" / "plugins" / "fmhub-education.toml").read_text())
    assert set(entry["tasks"]) == set(TASKS)


def test_import_is_light():
    code = "import sys, fmhub_education; list(fmhub_education.fmhub_tasks()); print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"numpy", "pyarrow", "torch", "transformers", "sklearn", "pandas"} & set(loaded) == set()


@pytest.fixture(scope="module")
def splits():
    return ITEMS.sample.load()


def test_of_every_person_answers_are_held_out_and_only_training_is_known(splits):
    tables = splits.tables
    assert {name: len(table) for name, table in tables.items()} == {"train": 420, "validation": 60, "test": 120}
    cells = [(row["person"], row["item"]) for table in tables.values() for row in table.to_pylist()]
    assert len(set(cells)) == len(cells) == 600
    train = {(row["person"], row["item"]): row["target"] for row in tables["train"].to_pylist()}
    for table in tables.values():
        for row in table.to_pylist():
            mine = {item: answer for (person, item), answer in train.items() if person == row["person"] and item != row["item"]}
            assert dict(zip(row["known"], row["answers"], strict=True)) == mine


def test_a_changed_answer_changes_what_others_know_and_not_its_own_row(splits):
    rows = samples.answers()
    target = rows["answer"].to_pylist()
    number = next(place for place, name in enumerate(splits.tables["train"]["id"].to_pylist()) if name == "0")
    assert number == 0
    target[0] = "no" if target[0] == "yes" else "yes"
    rows = rows.set_column(2, "answer", [target])
    other = replace(ITEMS.sample, rows=data.rows(lambda: rows, split=ITEMS.sample.rows.split, **dict(ITEMS.sample.rows.columns))).load()
    before, after = splits.tables["train"].to_pylist(), other.tables["train"].to_pylist()
    assert {**before[0], "target": ""} == {**after[0], "target": ""} and before[1]["answers"] != after[1]["answers"]


CELLS = [(f"p{person}", f"Item number {item}", "yes" if person + item > 7 else "no") for person in range(10) for item in range(6)]


def own(path, rows, header="person,item,answer"):
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    return ITEMS.data.opened(str(path), {"label": header.split(",")[-1]}, None, ITEMS.stem)


def test_own_answers(tmp_path):
    splits = own(tmp_path / "a.csv", [*CELLS, ("late", "Item number 1", "yes")]).load()
    assert {name: len(table) for name, table in splits.tables.items()} == {"train": 41, "validation": 10, "test": 10}
    assert splits.notes == ("1 people with fewer than 5 answers are only learnt from",)
    stem = ITEMS.stem.fit(splits.known())
    assert stem.levels == ("no", "yes") and len(stem.items) == 6


def test_answers_may_be_marks_of_any_scale(tmp_path):
    marks = [(person, item, str((int(person[1:]) + int(item[-1])) % 4)) for person, item, _ in CELLS]
    known = own(tmp_path / "a.csv", marks).load().known()
    stem, head = ITEMS.stem.fit(known), ITEMS.head.fit(known, ITEMS.recipe)
    assert stem.levels == head.labels == ("0", "1", "2", "3")
    weight, bias = head.line(stem.design(known.train), head.targets(known.train))
    assert weight.shape == (4, 9) and bias.shape == (4,)


def test_an_item_and_a_level_that_are_there_once_are_learnt_from(tmp_path):
    for place in range(20):
        rows = [*CELLS, (f"p{place % 10}", "Item asked once", "no")]
        rows[place] = (*rows[place][:2], "maybe")
        for test in (None, tmp_path / "b.csv"):
            (tmp_path / "b.csv").write_text("person,item,answer\nnew,Item number 1,yes\nnew,Item number 2,no\n")
            own(tmp_path / "a.csv", rows)
            splits = ITEMS.data.opened(str(tmp_path / "a.csv"), {"label": "answer"}, test and str(test), ITEMS.stem).load()
            stem, head = ITEMS.stem.fit(splits.known()), ITEMS.head.fit(splits.known(), ITEMS.recipe)
            for table in splits.tables.values():
                stem.design(table)
                head.targets(table)
            assert len(splits.tables["validation"]) >= 8 and (test or len(splits.tables["test"]) >= 8)


def test_a_test_file_of_new_people(tmp_path):
    (tmp_path / "b.csv").write_text("person,item,answer\nnew,Item number 1,yes\nnew,Item number 2,no\n")
    own(tmp_path / "a.csv", CELLS)
    found = ITEMS.data.opened(str(tmp_path / "a.csv"), {"label": "answer"}, str(tmp_path / "b.csv"), ITEMS.stem).load()
    assert len(found.tables["test"]) == 2 and found.tables["test"]["known"].to_pylist() == [[], []]
    assert len(found.tables["validation"]) == 10


@pytest.mark.parametrize(
    ("rows", "header", "why"),
    [
        ([*CELLS, ("p1", "", "yes")], "person,item,answer", "row 60: the item is empty"),
        ([*CELLS, ("", "Item number 1", "yes")], "person,item,answer", "row 60: the person is empty"),
        ([*CELLS, ("p1", "Item number 2", "yes")], "person,item,answer", "row 60: 'p1' has answered 'Item number 2' before"),
        (CELLS, "who,item,answer", "which column is the person"),
        (CELLS, "person,question,answer", "which column is the item"),
        ([(item, person[1:], answer) for person, item, answer in CELLS], "person,item,answer", "seem to be swapped"),
        ([(item, person, answer) for person, item, answer in CELLS], "person,item,answer", "seem to be swapped"),
    ],
)
def test_bad_answers_are_one_line(tmp_path, rows, header, why):
    with pytest.raises(DataError, match=why) as caught:
        own(tmp_path / "a.csv", rows, header).load()
    assert "\n" not in str(caught.value)


def test_an_answer_off_the_scale_and_a_strange_item_name_their_row(splits, tmp_path):
    (tmp_path / "b.csv").write_text("person,item,answer\nnew,Item number 1,yes\nnew,Item number 2,maybe\n")
    own(tmp_path / "a.csv", CELLS)
    found = ITEMS.data.opened(str(tmp_path / "a.csv"), {"label": "answer"}, str(tmp_path / "b.csv"), ITEMS.stem).load()
    head = ITEMS.head.fit(found.known(), ITEMS.recipe)
    with pytest.raises(DataError, match="label 'maybe' is not one that was trained on"):
        head.targets(found.tables["test"])
    stem = ITEMS.stem.fit(splits.known())
    row = splits.tables["test"].slice(0, 1)
    for column, value, why in (
        ("item", ["I can fly."], "training has no question 'I can fly.'"),
        ("answers", [["perhaps"] * len(row["known"][0])], "training has no answer 'perhaps'"),
        ("answers", [["yes"]], "questions are known and 1 answers"),
        ("item", [""], "a question is empty"),
    ):
        with pytest.raises(DataError, match=why):
            stem.design(row.set_column(row.column_names.index(column), column, [value]))


def test_what_is_typed_is_looked_up_in_the_training_part(splits):
    row = splits.tables["test"].to_pylist()[0]
    typed = ITEMS.stem.typed(f"person={row['person']}; item={row['item']}", splits)
    assert (typed["item"], typed["known"], typed["answers"]) == (row["item"], row["known"], row["answers"])
    assert ITEMS.stem.typed('{"item": "I can find a rhyme."}', None)["known"] == []
    for value, why in (("person=nobody; item=x", "Unknown person 'nobody'"), ("x", "is typed as"), ("{", "Not JSON")):
        with pytest.raises(DataError, match=why):
            ITEMS.stem.typed(value, splits)


def test_the_plain_numbers_say_what_they_should(splits):
    stem = ITEMS.stem.fit(splits.known())
    wide = stem.design(splits.tables["train"])
    alike = np.array(stem.alike)
    assert wide.shape == (420, 13) and (wide[:, :10].sum(1) == 1).all() and np.abs(wide).max() <= 1
    assert np.allclose(alike, alike.T) and not alike.diagonal().any()
    sums = [place for place, item in enumerate(stem.items) if any(word in item for word in ("number", "equation"))]
    words = [place for place in range(10) if place not in sums]
    assert alike[np.ix_(sums, sums)].sum() / 20 > alike[np.ix_(sums, words)].mean() + 0.2


def test_rasch_ranks_people_and_items_and_other_answers_beat_it(splits):
    from sklearn.metrics import roc_auc_score

    setting = Setting(train=splits.tables["train"], validation=splits.tables["validation"], head=ITEMS.head)
    truth = [target == "yes" for target in splits.tables["test"]["target"].to_pylist()]
    found = {}
    for one in (Rasch(items_only=True, name="item-mean"), Rasch(), OtherAnswers()):
        scores = np.array(one.fit(setting).predict(splits.tables["test"])["scores"])
        assert np.allclose(scores.sum(1), 1)
        found[one.name] = roc_auc_score(truth, scores[:, 1])
    assert found["item-mean"] < found["rasch"] < found["other-answers"]
    unknown = splits.tables["test"].slice(0, 1).set_column(1, "person", [["nobody"]])
    assert len(Rasch().fit(setting).predict(unknown)["prediction"]) == 1


def test_a_pickle_is_read_and_never_run(monkeypatch, tmp_path):
    """Texts come in their order, repeated ones too, and a payload that would run is only a list of words."""
    import pickle

    class Payload:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    out = io.BytesIO()
    pickle.Pickler(out, protocol=5).dump([Payload(), ["a", "b"], "a", np.arange(3).tobytes(), b"x"])
    (tmp_path / "VerbAgg.pkl.compress").write_bytes(lzma.compress(out.getvalue()))
    monkeypatch.setattr("fmhub.artifacts.fetch", lambda artifact: tmp_path)
    texts, block = pinned.constants("VerbAgg")
    assert [text for text in texts if text in "ab"] == ["a", "b", "a"] and block.tolist() == [0, 1, 2]
    assert not (tmp_path / "ran").exists()


def test_items_are_told_as_people_read_them():
    assert verbal.text("S1WantCurse") == "A bus fails to stop for me. I would want to curse."
    assert verbal.text("S4wantCurse").endswith("for a call. I would want to curse.")
    assert verbal.text("S3DoShout") == "The grocery store closes just as I am about to enter. I would shout."


@pytest.mark.real
def test_the_fetched_answers(monkeypatch):
    monkeypatch.delenv("FMHUB_HOME")  # the user's own, where they were fetched before
    table = verbal.answers()
    assert len(table) == 7584 and len(set(table["person"].to_pylist())) == 316 and len(set(table["item"].to_pylist())) == 24
    assert table["answer"].to_pylist().count("yes") == 3611
    assert table.to_pylist()[0] == {"person": "1", "item": "A bus fails to stop for me. I would want to curse.", "answer": "no"}
