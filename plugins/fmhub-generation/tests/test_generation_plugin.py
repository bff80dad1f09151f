"""Texts cut and grouped, answers offered, SQuAD read; files of one's own, and bad ones in one line each."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pytest
from fmhub_generation import fmhub_tasks, samples
from fmhub_generation.beginnings import halves, joined
from fmhub_generation.similar import TfidfSimilarity
from fmhub_generation.window import Window

from fmhub import DataError, UsageError
from fmhub.data import near
from fmhub.evaluation import evaluate
from fmhub.task import Setting

TASKS = {task.name: task for task in fmhub_tasks()}
FINISH, ANSWER, FIND = (TASKS[name] for name in ("finish-text", "answer", "find-answer"))


def shared(splits) -> set:
    groups = [set(table["group"].to_pylist()) for table in splits.tables.values()]
    return set().union(*(one & other for place, one in enumerate(groups) for other in groups[:place]))


def test_bundled_texts_are_cut_in_halves_and_near_duplicates_stay_together():
    splits = FINISH.data.load()
    assert sum(map(len, splits.tables.values())) == 600 and len(splits.tables["test"]) > 140 and not shared(splits) and not splits.notes
    rows = [row for table in splits.tables.values() for row in table.to_pylist()]
    for row in rows:
        count, first = len((row["text"] + row["rest"]).split()), len(row["text"].split())
        assert row["target"] == row["rest"] and row["rest"].startswith(" ") and first == count // 2 and 3 <= count <= 24
    train = [near.bag(row["text"] + row["rest"]) for row in splits.tables["train"].to_pylist()]
    for row in splits.tables["test"].to_pylist():
        bag = near.bag(row["text"] + row["rest"])
        assert max(len(bag & other) / len(bag | other) for other in train) < near.LINES


def test_near_duplicates_and_equal_keys_are_one_group():
    found = near.lines(
        ["Insert a row", "Inserts the rows", "Insert rows: 10 %", "Delete a row", "Open %1", "Opens %2."], ["a", "b", "c", "d", "e", "d"]
    )
    assert found[0] == found[1] and found[3] == found[4] == found[5] and len(set(found)) == 3


@pytest.mark.parametrize(
    ("text", "parts"),
    [("a b", ("a", " b")), (" a  b c ", ("a", "  b c")), ("a b c d e", ("a b", " c d e")), ("word", ("word", ""))],
)
def test_texts_are_cut_after_the_first_half_of_their_words(text, parts):
    assert halves(text) == parts


def test_given_rests_are_joined_with_white_space():
    assert joined("a", "b") == ("a", " b") and joined("a ", "b") == ("a ", "b") and joined("a", "\nb") == ("a", "\nb")


LINES = [
    f"{verb} the {thing} number {number}" for number, verb in enumerate(("open", "close", "print", "move", "save")) for thing in "abcdefgh"
]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.csv", "a.jsonl"])
def test_own_texts(tmp_path, name):
    text = {"txt": "\n".join(LINES), "csv": "\n".join(["body", *LINES]), "jsonl": "\n".join(json.dumps({"body": one}) for one in LINES)}
    data = (text[name.split(".")[1]] + "\n\n").encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    columns = {} if "txt" in name else {"text": "body"}
    splits = FINISH.data.opened(str(tmp_path / name), columns, None, FINISH.stem).load()
    assert sum(map(len, splits.tables.values())) == len(LINES) and not shared(splits)
    assert splits.tables["test"]["rest"][0].as_py().startswith(" ")


def test_own_beginnings_and_rests_and_a_test_file_of_ones_own(tmp_path):
    (tmp_path / "a.csv").write_text("prompt,completion\n" + "\n".join(f"Say {one},{one} it is" for one in "abcdefghijkl") + "\n")
    (tmp_path / "b.csv").write_text("prompt,completion\nSay a,a it is\nSay other,other words\n")
    named = {"text": "prompt", "rest": "completion"}
    splits = FINISH.data.opened(str(tmp_path / "a.csv"), named, str(tmp_path / "b.csv"), FINISH.stem).load()
    assert splits.tables["test"]["rest"].to_pylist() == [" a it is", " other words"]
    assert "Say a" not in splits.tables["train"]["text"].to_pylist() and any("near-duplicates" in note for note in splits.notes)


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.txt", b"", "empty"),
        ("a.txt", "café au lait\n".encode("latin-1"), r"line 1 is not UTF-8 .* Save the file as UTF-8"),
        ("a.txt", b"one\ntwo\n", "no text has two words"),
        ("a.csv", b'text\nfine words\n" "\n', "row"),
        ("a.csv", b"body\nfine words\n", "no column 'text'"),
    ],
)
def test_texts_that_cannot_be_used_are_refused_in_one_line(tmp_path, name, data, says):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=says) as error:
        FINISH.data.opened(str(tmp_path / name), {}, None, FINISH.stem).load()
    assert "\n" not in str(error.value)


def test_single_words_are_left_out_and_counted(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join([*LINES, "word"]))
    splits = FINISH.data.opened(str(tmp_path / "a.txt"), {}, None, FINISH.stem).load()
    assert any(note.startswith("1 text of one word") for note in splits.notes)


def test_answers_are_offered_among_others_of_the_same_part():
    splits = ANSWER.sample.load()
    assert not shared(splits)
    for name, table in splits.tables.items():
        own = set()
        for row in table.to_pylist():
            assert len(set(row["candidates"])) == len(row["candidates"]) == {"train": 3, "test": 10}.get(name, len(row["candidates"]))
            own.add(row["candidates"][int(row["target"])])
        assert all(set(row["candidates"]) <= own for row in table.to_pylist())
    places = [row for table in splits.tables.values() for row in table["target"].to_pylist()]
    assert len(set(places)) > 6


def test_own_pairs_lose_repetitions_and_keep_near_duplicates_together(tmp_path):
    pairs = [
        (f"Where is the {thing} of {place}?", f"It is in {place} {thing}.") for thing in "abcdef" for place in ("Rome", "Oslo", "Bonn")
    ]
    lines = [f"{q},{a}" for q, a in [*pairs, pairs[0]]]
    (tmp_path / "a.csv").write_text("q,a\n" + "\n".join(lines) + "\n")
    splits = ANSWER.data.opened(str(tmp_path / "a.csv"), {"question": "q", "answer": "a"}, None, ANSWER.stem).load()
    assert sum(map(len, splits.tables.values())) == len(pairs) and not shared(splits)
    assert any("1 pairs that were there before" in note for note in splits.notes)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("question,answer\nwhat?, \n", "row 1 .*has no|empty"),
        ("question,reply\nwhat?,that\n", "no column 'answer'"),
        ("question,answer\n,b\nc,d\n", "the question is empty"),
    ],
)
def test_pairs_that_cannot_be_used_are_refused_in_one_line(tmp_path, text, says):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=says) as error:
        ANSWER.data.opened(str(tmp_path / "a.csv"), {}, None, ANSWER.stem).load()
    assert "\n" not in str(error.value)


def test_likeness_of_words_ranks_all_candidates():
    splits = ANSWER.sample.load()
    setting = Setting(train=splits.tables["train"], validation=splits.tables["validation"], head=ANSWER.head)
    rows = splits.tables["test"]
    found = TfidfSimilarity().fit(setting).predict(rows.drop_columns(["target"]))
    for ranking, alike, offered in zip(found["prediction"], found["similarity"], rows["candidates"].to_pylist(), strict=True):
        assert sorted(map(int, ranking)) == list(range(len(offered))) and alike == sorted(alike, reverse=True)
    score = evaluate({"id": rows["id"].to_pylist(), "target": rows["target"].to_pylist(), **found}, ["mrr"])["mrr"]
    assert score["value"] > 0.4


def squad(*asked, context="The cat sat on the mat. It was red.") -> dict:
    return {"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": context, "qas": list(asked)}]}]}


def question(name: str, answer: str, start: int | None, **more) -> dict:
    return {"id": name, "question": f"What {name}?", "answers": [{"text": answer, "answer_start": start}] if answer else [], **more}


def many(count: int = 8) -> dict:
    made = [squad(question(f"q{n}", f"mat {n}", 19), context=f"The cat sat on the mat {n}.") for n in range(count)]
    return {"data": [one["data"][0] for one in made]}


def opened(path, test=None, columns=None):
    return FIND.data.opened(str(path), columns or {}, test and str(test), FIND.stem).load()


def test_squads_json_is_read_and_passages_never_cross(tmp_path):
    told = many()
    told["data"].append(squad(question("none", "", None, is_impossible=True))["data"][0])
    told["data"][0]["paragraphs"][0]["qas"].append(question("also", "cat", 4))
    (tmp_path / "squad.json").write_text(json.dumps(told))
    splits = opened(tmp_path / "squad.json")
    rows = [row for table in splits.tables.values() for row in table.to_pylist()]
    assert len(rows) == 9 and not shared(splits) and any("1 questions without an answer" in note for note in splits.notes)
    assert all(row["passage"][row["start"] :].startswith(row["target"][0]) for row in rows)


def test_the_hubs_rows_and_tables_are_read_and_a_held_out_passage_leaves_train(tmp_path):
    flat = [
        {"id": f"h{n}", "question": "Where?", "context": f"It is in room {n}.", "answers": {"text": [f"room {n}"], "answer_start": [9]}}
        for n in range(6)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, flat)))
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, [*flat[:1], {**flat[1], "id": "x", "context": "It is in room 1."}])))
    splits = opened(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert len(splits.tables["test"]) == 2 and len(splits.tables["train"]) + len(splits.tables["validation"]) == 4
    (tmp_path / "c.csv").write_text("q,text,a\n" + "\n".join(f"where {n}?,it is in room {n},room {n}" for n in range(8)) + "\n")
    splits = opened(tmp_path / "c.csv", columns={"question": "q", "passage": "text", "answer": "a"})
    assert sum(map(len, splits.tables.values())) == 8 and splits.tables["test"]["target"][0].as_py()[0].startswith("room")


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (squad(question("a", "dog", 4)), "row a: the answer 'dog' does not stand in its passage"),
        (squad(question("a", "mat", 4)), "row a: at character 4 of its passage there is no 'mat'"),
        (squad(question("a", "cat", 4), context=" "), "row a: the question or the passage is empty"),
        (squad(), "has no question"),
        ({"data": [{"title": "t"}]}, "not in SQuAD's format: it lacks 'paragraphs'"),
        ({"rows": []}, "it lacks 'data'"),
        ("{", "not in SQuAD's format"),
        (squad(question("a", "", None)), "no question has an answer"),
        (squad(question("a", 42, 4)), "format: the answer of 'a' is '42', no text"),
        (squad(question("a", "cat", 4), {**question("b", "cat", 4), "question": 7}), "format: the question of 'b' is '7', no text"),
        (squad(question("a", "cat", "4")), "format: the answer_start of 'a' is '4', no whole number"),
        (squad(question("a", "cat", 10**30)), "not in SQuAD's format"),
        (squad(question("a", "cat", 4), context=["x"]), "format: the context of 'a' is .*, no text"),
    ],
)
def test_questions_that_cannot_be_used_are_refused_in_one_line(tmp_path, told, says):
    (tmp_path / "squad.json").write_text(told if isinstance(told, str) else json.dumps(told))
    with pytest.raises(DataError, match=says) as error:
        opened(tmp_path / "squad.json")
    assert "\n" not in str(error.value)


def test_without_data_it_says_how_to_give_some():
    with pytest.raises(UsageError, match=r"--data squad.json"):
        FIND.data.load()


def test_the_window_finds_what_the_question_does_not_say():
    train = samples.passages().append_column("id", pa.array([str(n) for n in range(160)]))
    found = Window().fit(Setting(train=train, validation=train, head=FIND.head))
    rows = pa.table({"question": ["Where is the key?"], "passage": ["The sun shone. The key is in Paris. A dog barked."]})
    assert found.predict(rows) == {"prediction": ["Paris"]}


@pytest.mark.real
def test_chatterbots_pairs_are_each_once_and_split_by_likeness():
    from fmhub_generation import chatterbot

    table = chatterbot.pairs()
    assert len(table) > 850 and len({tuple(row.values()) for row in table.select(["question", "answer"]).to_pylist()}) == len(table)
    splits = ANSWER.data.load()
    assert not shared(splits) and len(splits.tables["test"]) > 200
