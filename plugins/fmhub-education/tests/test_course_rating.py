"""Ratings and grades: what is known comes from training alone, each rating leaves itself out, bad rows in one line each."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from fmhub_education import courses, fmhub_tasks, grades, samples

from fmhub import DataError
from fmhub.recipe import Recipe
from fmhub.task import Known, Setting

TASKS = {task.name: task for task in fmhub_tasks()}
RATING, GRADE = TASKS["course-rating"], TASKS["grade-text"]
OWN = replace(GRADE.head, low=None, high=None)
"""As it is on one's own data."""


@pytest.fixture(scope="module")
def splits():
    return RATING.sample.load()


def test_every_rating_is_in_one_part_and_only_training_is_known(splits):
    cells = [(row["person"], row["item"]) for table in splits.tables.values() for row in table.to_pylist()]
    assert len(set(cells)) == len(cells) == 600
    train = splits.tables["train"]
    held = splits.tables["test"].set_column(3, "target", [[1.0] * len(splits.tables["test"])])
    assert held.column_names[3] == "target"
    assert courses.known(held.select(["id", "person", "item"]), train)[courses.PERSON].equals(splits.tables["test"][courses.PERSON])


def test_a_training_rating_leaves_itself_out(splits):
    """Its own features come from the other ratings: as if its row were no part of training, the effects of others kept."""
    rows = splits.tables["train"].to_pylist()
    people, things = ([row[name] for row in rows] for name in ("person", "item"))
    given = np.array([row["target"] for row in rows])
    mean, _, by_item = courses.effects(courses._numbers(people), courses._numbers(things), given, courses.SHRINK)
    place = courses._numbers(things)[0]
    first = rows[0]
    others = [row["target"] - mean - by_item[place[row["item"]]] for row in rows[1:] if row["person"] == first["person"]]
    assert first[courses.PERSON] == pytest.approx(mean + sum(others) / (len(others) + courses.SHRINK[0]))
    assert first[courses.COUNTS[0]] == len(others)


def test_effects_are_the_penalised_least_squares(splits):
    from sklearn.linear_model import Ridge

    rows = splits.tables["train"]
    people, things = (courses._numbers(rows[name].to_pylist()) for name in ("person", "item"))
    given = rows["target"].to_numpy()
    mean, by_person, by_item = courses.effects(people, things, given, (8.0, 8.0))
    hot = np.hstack([np.eye(len(place))[codes] for place, codes in (people, things)])
    wanted = Ridge(8.0, fit_intercept=False).fit(hot, given - mean).coef_
    assert np.allclose(np.concatenate([by_person, by_item]), wanted, atol=1e-3)


def test_bias_beats_the_mean(splits):
    setting = Setting(train=splits.tables["train"], validation=splits.tables["validation"], head=RATING.head)
    test = splits.tables["test"]
    truth = test["target"].to_numpy()
    said = np.array(courses.Bias().fit(setting).predict(test)["prediction"])
    assert ((said - truth) ** 2).mean() < 0.6 * truth.var()
    strange = test.slice(0, 1).set_column(1, "person", [["nobody"]]).set_column(2, "item", [["nothing"]])
    assert courses.Bias().fit(setting).predict(strange)["prediction"] == pytest.approx([setting.train["target"].to_numpy().mean()])


ROWS = [(f"p{person}", f"c{thing}", str(1 + (person + thing) % 5)) for person in range(12) for thing in range(8)]


def own(path, rows, header="person,item,rating", task=RATING, target=""):
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    return task.data.opened(str(path), {"target": target or header.split(",")[-1]}, None, task.stem)


def test_own_ratings(tmp_path):
    splits = own(tmp_path / "a.csv", ROWS).load()
    assert sum(map(len, splits.tables.values())) == 96
    assert set(RATING.stem.fit(splits.known()).fields) == {courses.PERSON, courses.ITEM, *courses.COUNTS}


@pytest.mark.parametrize(
    ("rows", "header", "why"),
    [
        ([*ROWS, ("", "c1", "3")], "person,item,rating", "row 96: the person is empty"),
        ([*ROWS, ("p1", "", "3")], "person,item,rating", "row 96: the item is empty"),
        (
            [(rating, item, person) for person, item, rating in ROWS],
            "person,item,rating",
            "row 0: the rating is 'p0', not a number. Are",
        ),
        (ROWS, "person,course,rating", "which column is the item"),
    ],
)
def test_bad_ratings_are_one_line(tmp_path, rows, header, why):
    with pytest.raises(DataError, match=re.escape(why)) as caught:
        own(tmp_path / "a.csv", rows, header).load()
    assert "\n" not in str(caught.value)


SPOKEN = [(f"Introduction to subject {thing[1:]}", person, rating) for person, thing, rating in ROWS]


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([*ROWS, ("p1", "c1", "3")], "row 96: 'p1' has rated 'c1' before. Keep one of the two."),
        (SPOKEN, "seem to be swapped: the persons are sentences"),
    ],
)
def test_a_rating_given_twice_and_swapped_columns_are_one_line(tmp_path, rows, why):
    with pytest.raises(DataError, match=why) as caught:
        own(tmp_path / "a.csv", rows).load()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["Juan de la Cruz Pérez", "pupil", "Anna Smith", "van der Berg, Jan"])
def test_names_of_persons_are_no_sentences(tmp_path, name):
    named = [(f'"{name} {person[1:]}"', thing, rating) for person, thing, rating in ROWS]
    assert sum(map(len, own(tmp_path / "a.csv", named).load().tables.values())) == len(ROWS)


def test_training_sees_both_ends_of_the_scale_of_ones_own_grades(tmp_path):
    for seed in range(20):
        essays = [(f"Essay {seed} number {number} says a few things", str(2 + number % 3), f"pupil {number // 2}") for number in range(60)]
        essays[seed] = (essays[seed][0], "9", essays[seed][2])
        essays[59 - seed] = (essays[59 - seed][0], "-3", essays[59 - seed][2])
        splits = own(tmp_path / "a.csv", essays, "text,score,group", GRADE, "score").load()
        head = OWN.fit(splits.known(), Recipe())
        assert (head.low, head.high) == (-3, 9) and sum(map(len, splits.tables.values())) == 60
        for table in splits.tables.values():
            assert len(table) and len(head.targets(table)["value"]) == len(table)
        groups = [set(table["group"].to_pylist()) for table in splits.tables.values()]
        assert sum(map(len, groups)) == len(set().union(*groups)) and splits.rule == "Random"


def test_grades_that_the_data_part_themselves_stay_where_they_are(tmp_path):
    (tmp_path / "b.csv").write_text("text,score\nOne more essay,8\n")
    essays = [(f"Essay number {number} says a few things", str(9 if number == 11 else 2 + number % 3)) for number in range(60)]
    own(tmp_path / "a.csv", essays, "text,score", GRADE)
    splits = GRADE.data.opened(str(tmp_path / "a.csv"), {"target": "score"}, str(tmp_path / "b.csv"), None).load()
    assert splits.tables["test"]["target"].to_pylist() == [8] and 9 in splits.tables["train"]["target"].to_pylist()


def test_few_grades_are_on_the_declared_scale_and_ones_own_on_theirs(tmp_path):
    """`--limit` leaves training without the ends of the scale; one's own grades have another one."""
    from fmhub.data.parts import limit
    from fmhub.training.plan import Options, make

    tables = GRADE.data.load().tables
    head = GRADE.head.fit(Known(train=limit(tables["train"], 20)), GRADE.recipe)
    assert (head.low, head.high) == (-4, 4) and len(head.targets(tables["test"])["value"]) == len(tables["test"])
    own(
        tmp_path / "a.csv",
        [(f"Essay number {number} says a few things", str(20 + number % 11)) for number in range(60)],
        "text,score",
        GRADE,
    )
    task = make("grade-text", Options(data=str(tmp_path / "a.csv"), columns={"target": "score"})).task
    head = task.head.fit(Known(train=task.data.load().tables["train"]), task.recipe)
    assert (head.low, head.high) == (20, 30)


def test_a_rating_off_the_scale_names_its_row(tmp_path):
    splits = own(tmp_path / "a.csv", [*ROWS[:-1], ("p11", "c7", "9")]).load()
    (part,) = (table for table in splits.tables.values() if "95" in table["id"].to_pylist())
    with pytest.raises(DataError, match=r"Row 95: target 9\S* is not a number from 1 to 5"):
        RATING.head.targets(part)


def test_what_is_typed_is_looked_up(splits):
    stem = RATING.stem.fit(splits.known())
    row = splits.tables["test"].to_pylist()[0]
    typed = stem.typed(f"person={row['person']}; item={row['item']}; hour={row['hour']}", splits)
    assert typed == {name: row[name] for name in stem.fields}
    for value, why in (("person=nobody; item=course 1", "Unknown person 'nobody'"), ("person=p1; item=x", "Unknown item 'x'")):
        with pytest.raises(DataError, match=why):
            stem.typed(value, splits)


def test_graded_texts_keep_reviews_together_and_learn_their_scale(tmp_path):
    splits = GRADE.data.load()
    assert {name: len(table) for name, table in splits.tables.items()} == {"train": 2586, "validation": 371, "test": 751}
    groups = [set(table["group"].to_pylist()) for table in splits.tables.values()]
    assert sum(map(len, groups)) == len(set().union(*groups))
    head = OWN.fit(splits.known(), Recipe())
    assert (head.low, head.high) == (-4, 4)
    assert set(grades.sample()["id"].to_pylist()) < {name for table in splits.tables.values() for name in table["id"].to_pylist()}

    essays = [(f"Essay number {number} says a few things", str(1 + number % 6)) for number in range(60)]
    mine = own(tmp_path / "a.csv", essays, "text,score", GRADE).load()
    assert (OWN.fit(mine.known(), Recipe()).low, OWN.fit(mine.known(), Recipe()).high) == (1, 6)
    with pytest.raises(DataError, match="no label or target"):
        own(tmp_path / "b.csv", [*essays, ("one more", "")], "text,score", GRADE).load()


@pytest.mark.real
def test_the_fetched_ratings(monkeypatch):
    monkeypatch.delenv("FMHUB_HOME")  # the user's own, where they were fetched before
    table = courses.evaluations()
    assert len(table) == 73_421 and len(set(table["person"].to_pylist())) == 2972 and len(set(table["item"].to_pylist())) == 1128
    assert set(table["rating"].to_pylist()) == {1, 2, 3, 4, 5} and len(samples.ratings()) == 600
