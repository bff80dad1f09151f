"""Pairs: groups that never cross, placeholders, files as WMT gives them, and bad ones in one line each."""

from __future__ import annotations

import gzip
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from fmhub_translation import LANGUAGES, fmhub_tasks
from fmhub_translation.bitext import ALIKE, EMPTY, grouped
from fmhub_translation.memory import Memory

from fmhub import DataError
from fmhub.data.near import bag
from fmhub.stems.marks import MARK
from fmhub.task import Setting
from fmhub.testing.data_checks import splits_disjoint

TASKS = {task.name: task for task in fmhub_tasks()}
FRENCH = TASKS["translate-en-fr"]


@pytest.mark.parametrize("code", LANGUAGES)
def test_no_near_duplicate_crosses_the_split(code):
    splits = TASKS[f"translate-en-{code}"].data.load()
    assert sum(map(len, splits.tables.values())) > 9_500 and len(splits.tables["test"]) > 1_000
    groups = [set(table["group"].to_pylist()) for table in splits.tables.values()]
    assert sum(map(len, groups)) == len(set().union(*groups))
    held, known = ({bag(MARK.sub(" x ", text), EMPTY) for text in splits.tables[part]["source"].to_pylist()} for part in ("test", "train"))
    assert known.isdisjoint(held)
    for one in sorted(held, key=sorted)[::40]:
        assert max(len(one & other) / len(one | other) for other in known) < ALIKE
    for table in splits.tables.values():
        for source, target in zip(table["source"].to_pylist(), table["target"].to_pylist(), strict=True):
            assert sorted(MARK.findall(source)) == sorted(MARK.findall(target))


@pytest.mark.parametrize("code", LANGUAGES)
def test_fmhub_check_finds_none_in_what_is_declared(code):
    task = TASKS[f"translate-en-{code}"]
    found, why = splits_disjoint(SimpleNamespace(whole=task.data.load(), stem=task.stem, declared=replace(task, sample=None)))
    assert found, why


def test_near_duplicates_are_one_group():
    texts = ["Insert a row", "Inserts the rows", "Insert rows: 10", "Delete a row", "Open %1", "Opens %2."]
    groups = grouped(texts)
    assert groups[0] == groups[1] and groups[4] == groups[5]
    assert len({groups[0], groups[2], groups[3], groups[4]}) == 4


SHORT = [
    ("Insert a row", "Inserts the rows"),
    ("Save 3 files", "Save 5 files"),
    ("Delete sheet %1", "Delete sheet %2"),
    ("Export 10 pages", "Export 20 pages"),
]


@pytest.mark.parametrize(("learnt", "held"), SHORT)
def test_fmhub_check_finds_a_short_near_duplicate_in_two_parts(learnt, held):
    assert len(set(grouped([learnt, held]))) == 1
    whole = FRENCH.sample.load()

    def looked(**planted):
        tables = {}
        for name, table in whole.tables.items():
            sources = table["source"].to_pylist()
            sources = [planted.get(name, sources[0]), *sources[1:]]
            tables[name] = table.set_column(table.column_names.index("source"), "source", [sources])
        return splits_disjoint(SimpleNamespace(whole=replace(whole, tables=tables), stem=FRENCH.stem, declared=FRENCH))

    assert looked()[0] is True
    found, why = looked(train=learnt, test=held)
    assert found is False and "1 pairs of sources in different splits are near-duplicates" in why


def made(path, rows, header="source\ttarget"):
    text = "\n".join([*([header] if header else []), *("\t".join(row) for row in rows)]) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


PAIRS = [(f"open the {word} of number {number}", f"ouvrir le {word} {number}") for number in range(8) for word in "abcdefghij"]


@pytest.mark.parametrize(("name", "header"), [("a.tsv", "source\ttarget"), ("b.tsv", ""), ("c.tsv.gz", "")])
def test_files_as_wmt_has_them(tmp_path, name, header):
    own = FRENCH.data.opened(made(tmp_path / name, PAIRS, header), {}, None, FRENCH.stem)
    splits = own.load()
    assert sum(map(len, splits.tables.values())) == len(PAIRS)
    groups = [set(table["group"].to_pylist()) for table in splits.tables.values()]
    assert sum(map(len, groups)) == len(set().union(*groups))


def test_a_test_file_stays_whole_and_train_gives_way(tmp_path):
    train, test = made(tmp_path / "a.tsv", PAIRS, ""), made(tmp_path / "b.tsv", PAIRS[:3], "")
    splits = FRENCH.data.opened(train, {}, test, FRENCH.stem).load()
    assert len(splits.tables["test"]) == 3 and any("near-duplicate is held out" in note for note in splits.notes)


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([*PAIRS, ("only one",)], "line 81: a source, a tab and a target"),
        ([*PAIRS, ("open the file", "")], "line 81: a source, a tab and a target"),
        ([(target, f"{source} is of the and with") for source, target in PAIRS], "seem to be swapped"),
    ],
)
def test_bad_pairs_are_one_line(tmp_path, rows, why):
    own = FRENCH.data.opened(made(tmp_path / "a.tsv", rows, ""), {}, None, FRENCH.stem)
    with pytest.raises(DataError, match=why) as caught:
        own.load()
    assert "\n" not in str(caught.value)


def test_what_is_not_utf8_is_said(tmp_path):
    (tmp_path / "a.tsv").write_bytes("source\ttarget\nthe summer\tl'été\n".encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8"):
        FRENCH.data.opened(str(tmp_path / "a.tsv"), {}, None, FRENCH.stem).load()


def test_a_test_file_keeps_pairs_whose_placeholders_differ_and_train_loses_them(tmp_path):
    strange = [("it costs $5 million", "cela coûte 5 millions de dollars"), ("rank #1 of all", "le premier de tous")]
    train, test = made(tmp_path / "a.tsv", [*PAIRS, *strange], ""), made(tmp_path / "b.tsv", [("a new line", "une ligne"), *strange], "")
    splits = FRENCH.data.opened(train, {}, test, FRENCH.stem).load()
    assert len(splits.tables["test"]) == 3 and len(splits.tables["train"]) + len(splits.tables["validation"]) == len(PAIRS)
    for note in ("2 pairs of train .* left out", "2 pairs of test .* they stay"):
        assert any(re.fullmatch(note, one) for one in splits.notes), splits.notes


def test_a_mark_of_byte_order_and_utf_16_are_read(tmp_path):
    text = "".join(f"{source}\t{target}\r\n" for source, target in PAIRS)
    for name, data in (("a.tsv", text.encode("utf-8-sig")), ("b.tsv", text.encode("utf-16")), ("C.TSV.GZ", gzip.compress(text.encode()))):
        (tmp_path / name).write_bytes(data)
        splits = FRENCH.data.opened(str(tmp_path / name), {}, None, FRENCH.stem).load()
        rows = {(row["source"], row["target"]) for table in splits.tables.values() for row in table.to_pylist()}
        assert rows == set(PAIRS)


@pytest.mark.parametrize("damage", ["none", "cut", "flipped"])
def test_a_damaged_gz_is_one_line(tmp_path, damage):
    whole = bytearray(gzip.compress("".join(f"{source}\t{target}\n" for source, target in PAIRS).encode()))
    flipped = whole[:20] + bytes(byte ^ 255 for byte in whole[20:60]) + whole[60:]
    data = {"none": b"open\touvrir\n", "cut": whole[:-20], "flipped": flipped}[damage]
    (tmp_path / "a.tsv.gz").write_bytes(data)
    with pytest.raises(DataError, match="is a damaged") as caught:
        FRENCH.data.opened(str(tmp_path / "a.tsv.gz"), {}, None, FRENCH.stem).load()
    assert "a.tsv.gz" in str(caught.value) and "\n" not in str(caught.value)


def test_pairs_whose_placeholders_differ_are_left_out_and_said(tmp_path):
    rows = [*PAIRS, ("save %1", "enregistrer"), ("load $(ARG1)", "charger $(ARG1)")]
    splits = FRENCH.data.opened(made(tmp_path / "a.tsv", rows), {}, None, FRENCH.stem).load()
    assert sum(map(len, splits.tables.values())) == len(PAIRS) + 1
    assert any("1 pairs whose two sides have other placeholders" in note for note in splits.notes)


def test_the_memory_gives_the_nearest_translation():
    splits = FRENCH.sample.load()
    setting = Setting(train=splits.tables["train"], validation=splits.tables["validation"], head=FRENCH.head)
    fitted = Memory().fit(setting)
    pairs = zip(fitted.predict(splits.tables["train"])["prediction"], splits.tables["train"]["target"].to_pylist(), strict=True)
    assert np.mean([said == true for said, true in pairs]) > 0.98  # words in another order look the same
    assert np.isin(fitted.predict(splits.tables["test"])["prediction"], splits.tables["train"]["target"].to_pylist()).all()
