"""Events as rows with histories: what is held out, what is left out, and what is refused in one line."""

import datetime
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from fmhub import DataError, UsageError, data
from fmhub.data.histories import past, people


def events(rows, names=("user", "item", "time")):
    table = pa.table({name: [row[number] for row in rows] for number, name in enumerate(names)})
    return data.Histories(data.rows(lambda: table), window=3)


def walk(user, count, start=0):
    return [(user, f"i{number}", float(start + number)) for number in range(count)]


def test_the_last_event_is_test_the_one_before_validation_and_every_windowth_of_the_rest_a_training_row():
    splits = events([*walk("a", 9), *walk("b", 4)]).load()
    tables = {name: table.to_pylist() for name, table in splits.tables.items()}
    assert [(row["user"], row["target"], len(row["history"])) for row in tables["test"]] == [("a", "i8", 8), ("b", "i3", 3)]
    assert [(row["user"], row["target"], len(row["history"])) for row in tables["validation"]] == [("a", "i7", 7), ("b", "i2", 2)]
    assert [(row["history"], row["target"]) for row in tables["train"]] == [
        (["i0", "i1", "i2"], "i3"),
        (["i0", "i1", "i2", "i3", "i4", "i5"], "i6"),
        (["i0"], "i1"),
    ]
    assert [row["target_seen"] for row in tables["test"]] == ["never", "1-9 times"]
    assert tables["test"][0]["times"] == [float(number) for number in range(8)] and tables["test"][0]["time"] == 8.0
    assert splits.catalogue["id"].to_pylist() == [f"i{number}" for number in range(9)]


@settings(max_examples=60, deadline=None)
@given(
    some.lists(some.tuples(some.integers(0, 4), some.integers(0, 12), some.integers(0, 5)), min_size=1, max_size=60), some.integers(1, 7)
)
def test_every_training_event_but_a_users_first_is_the_target_of_one_place(rows, window):
    table = pa.table(
        {name: [str(row[number]) if number < 2 else float(row[2]) for row in rows] for number, name in enumerate(("user", "item", "time"))}
    )
    spec = data.Histories(data.rows(lambda: table), window=window)
    if max(Counter(user for user, _ in {row[:2] for row in rows}).values()) < 4:
        with pytest.raises(DataError, match="no user has 4 events"):
            spec.load()
        return
    splits = spec.load()
    learnt: dict = {}
    for row in splits.tables["train"].to_pylist():
        events, past = [*row["history"], row["target"]], learnt.get(row["user"], [])
        assert events[: len(past)] == past and 1 <= len(events) - max(1, len(past)) <= window  # it goes on where the last one ended
        learnt[row["user"]] = events
    assert people(splits.tables["train"]) == learnt
    for row in splits.tables["test"].to_pylist():
        before = next(one for one in splits.tables["validation"].to_pylist() if one["user"] == row["user"])
        assert row["history"] == [*before["history"], before["target"]]
        assert before["history"] == learnt[row["user"]]  # nothing held out was learnt
        assert row["times"] == sorted(row["times"]) and row["time"] >= row["times"][-1]
        assert len({*row["history"], row["target"]}) == len(row["history"]) + 1


def test_of_equal_times_the_order_of_the_file_counts():
    rows = [("a", name, 1.0) for name in ("x", "y", "z", "w")]
    assert events(rows).load().tables["test"].to_pylist()[0]["target"] == "w"
    assert events(rows[::-1]).load().tables["test"].to_pylist()[0]["target"] == "x"


def test_without_times_the_order_of_the_rows_counts():
    splits = events([row[:2] for row in walk("a", 5)], ("user", "item")).load()
    assert splits.tables["test"].to_pylist()[0]["target"] == "i4"


def test_repeated_events_and_short_users_are_left_out_and_said():
    splits = events([*walk("a", 5), ("a", "i2", 9.0), ("a", "i2", 9.0), ("once", "i0", 1.0)]).load()
    assert splits.tables["test"].to_pylist()[0]["target"] == "i4"
    assert splits.notes == (
        "2 repeated events (a user met an item again) were left out",
        "1 users with fewer than 4 different items are in train only",
    )
    assert "once" not in splits.tables["train"]["user"].to_pylist()


def test_dates_and_milliseconds_are_seconds():
    days = [f"2020-01-0{number + 1}T00:00:00" for number in range(5)]
    told = events([("a", f"i{number}", day) for number, day in enumerate(days)]).load().tables["test"].to_pylist()[0]
    assert told["time"] == datetime.datetime(2020, 1, 5, tzinfo=datetime.UTC).timestamp()
    counted = events([("a", f"i{number}", 1.6e12 + number) for number in range(5)]).load().tables["test"].to_pylist()[0]
    assert counted["time"] == pytest.approx(1.6e9 + 0.004)
    zoned = events([("a", f"i{number}", f"2020-01-01T0{number}:00:00+02:00") for number in range(5)]).load().tables["test"].to_pylist()[0]
    assert zoned["time"] == datetime.datetime(2020, 1, 1, 2, tzinfo=datetime.UTC).timestamp()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("a", "x", float("nan")), "row 6 of 6 has no time"),
        (("a", "x", 4e9), "row 6 of 6 has a time that lies in the future"),
        (("", "x", 1.0), "row 6 of 6 has no user"),
        (("a", None, 1.0), "row 6 of 6 has no item"),
        (("a", "x", 4e12), "row 6 of 6 has a time that lies in the future"),
        (("a", "x", None), "row 6 of 6 has no time"),
    ],
)
def test_bad_events_are_refused_in_one_line(change, said):
    with pytest.raises(DataError, match=said) as caught:
        events([*walk("a", 5), change]).load()
    assert "\n" not in str(caught.value)


def test_times_with_and_without_a_zone_do_not_mix():
    days = [("a", f"i{number}", f"2020-01-0{number + 1}T00:00:00") for number in range(5)]
    with pytest.raises(DataError, match="all with a time zone or none") as caught:
        events([*days, ("a", "x", "2020-02-01T00:00:00+02:00")]).load()
    assert "\n" not in str(caught.value)


def test_what_a_user_met_is_known_by_name():
    splits = events([*walk("a", 9), *walk("short", 2), ("once", "i0", 1.0)]).load()
    assert past("a", splits) == {"history": [f"i{number}" for number in range(9)], "times": [float(number) for number in range(9)]}
    assert past("short", splits)["history"] == ["i0", "i1"]
    for user, known in (("once", splits), ("b", splits), ("a", None)):
        with pytest.raises(DataError, match=f"Unknown user '{user}'.*two events or more") as caught:
            past(user, known)
        assert "\n" not in str(caught.value)


def test_times_that_are_no_times_users_too_short_and_empty_tables():
    with pytest.raises(DataError, match="neither seconds nor an ISO date"):
        events([("a", "x", "yesterday")]).load()
    with pytest.raises(DataError, match="no user has 4 events"):
        events(walk("a", 3)).load()
    with pytest.raises(DataError, match="no rows"):
        data.Histories(data.rows(lambda: pa.table({"user": pa.array([], pa.string()), "item": pa.array([], pa.string())}))).load()


def test_titles_make_the_catalogue_and_columns_can_have_any_name(tmp_path):
    path = tmp_path / "interactions.csv"
    lines = [f"{user},{item},{item},Film {item},{'old' if item % 2 else 'new'}" for user in "ab" for item in range(10, 0, -1)]
    path.write_text("who,what,when,name,kind\n" + "\n".join(lines) + "\n")
    spec = events(walk("a", 5)).opened(str(path), {"user": "who", "item": "what", "time": "when", "title": "name"}, None, None)
    splits = spec.load()
    assert splits.catalogue.slice(0, 2).to_pylist() == [
        {"id": "1", "title": "Film 1", "text": "Film 1. old"},
        {"id": "2", "title": "Film 2", "text": "Film 2. new"},
    ]
    assert [row["target"] for row in splits.tables["test"].to_pylist()] == ["10", "10"]
    with pytest.raises(UsageError, match="--test does not go with events"):
        spec.opened(str(path), {}, str(path), None)
    with pytest.raises(DataError, match=r"which column is the user\? Name it with --columns user=NAME"):
        spec.opened(str(path), {"item": "what"}, None, None).load()
    with pytest.raises(DataError, match=r"no column 'whom' \(for user\)"):
        spec.opened(str(path), {"user": "whom", "item": "what"}, None, None).load()


def test_a_spec_without_a_catalogue_says_what_it_needs():
    from fmhub import Recipe, heads
    from fmhub.task import Known

    with pytest.raises(UsageError, match="Ranking needs data with a catalogue"):
        heads.Ranking().fit(Known(train=pa.table({"id": ["0"]})), Recipe())
