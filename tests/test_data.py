"""Reading users' files: what is accepted, and the one line that says why something is not."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmhub import data
from fmhub.artifacts import sha256
from fmhub.data.fingerprint import fingerprint
from fmhub.errors import DataError, FetchError, UsageError

ROWS = [(f"text number {number}", "ham" if number % 3 else "spam") for number in range(60)]


def lines(mark: str = ",", rows: list[tuple[str, str]] = ROWS, header: tuple[str, str] = ("message", "label")) -> str:
    return "".join(mark.join(row) + "\n" for row in [header, *rows])


def rows_of(spec: data.Data) -> dict[str, str]:
    """{text: target} over all splits."""
    tables = spec.load().tables.values()
    return {row["text"]: row["target"] for table in tables for row in table.to_pylist()}


def test_the_room_is_light() -> None:
    code = "import sys, fmhub.data; print([m for m in ('pyarrow', 'numpy', 'datasets', 'pandas') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.parametrize("mark", [",", "\t", ";", "|"])
@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".tsv"])
def test_csv_by_any_separator(mark: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"my{ending}"
    content = lines(mark).encode()
    path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    assert rows_of(data.open(str(path), {"text": "message"})) == dict(ROWS)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_csv_with_a_byte_order_mark(encoding: str, tmp_path: Path) -> None:
    rows = [(f"{text} ŝ", label) for text, label in ROWS]
    (tmp_path / "my.csv").write_text(lines(rows=rows), encoding=encoding)
    assert rows_of(data.csv(str(tmp_path / "my.csv"), text="message")) == dict(rows)


def test_csv_with_quoted_separators_and_lines(tmp_path: Path) -> None:
    quoted = [(f'"a, ""b""\n{number}"', label) for number, (_, label) in enumerate(ROWS)]
    (tmp_path / "my.csv").write_text(lines(rows=quoted))
    assert set(rows_of(data.csv(str(tmp_path / "my.csv"), text="message"))) == {f'a, "b"\n{number}' for number in range(60)}


def test_csv_with_quotes_as_text(tmp_path: Path) -> None:
    rows = [(f'"unbalanced {number}', label) for number, (_, label) in enumerate(ROWS)]
    (tmp_path / "my.tsv").write_text(lines("\t", rows))
    assert rows_of(data.csv(str(tmp_path / "my.tsv"), text="message", quote=False)) == dict(rows)


def test_types_of_a_csv(tmp_path: Path) -> None:
    rows = [
        f"{number:03},true,2020-01-01,{number / 4},2021-02-{number % 28 + 1:02},{'yes' if number % 2 else 'no'}" for number in range(40)
    ]
    (tmp_path / "my.csv").write_text("id,flag,day,size,when,label\n" + "\n".join(rows) + "\n")
    schema = data.csv(str(tmp_path / "my.csv"), time="when").load().tables["train"].schema
    assert {name: str(schema.field(name).type) for name in schema.names} == {
        "id": "string", "flag": "string", "day": "string", "size": "double", "time": "date32[day]", "target": "string",
    }  # fmt: skip


def test_jsonl_and_parquet_give_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_text(lines())
    (tmp_path / "my.jsonl").write_text("".join(json.dumps({"message": text, "label": label}) + "\n" for text, label in ROWS))
    table = pa.table({"message": [text for text, _ in ROWS], "label": pa.array([label for _, label in ROWS]).dictionary_encode()})
    pyarrow.parquet.write_table(table, tmp_path / "my.parquet", row_group_size=7)
    (tmp_path / "my.json").write_text(json.dumps([{"message": text, "label": label} for text, label in ROWS]))
    kinds = "csv", "jsonl", "json", "parquet"
    prints = {data.open(str(tmp_path / f"my.{kind}"), {"text": "message"}).load().fingerprint for kind in kinds}
    assert len(prints) == 1


def test_a_held_out_file(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(lines())
    (tmp_path / "held.csv").write_text(lines(rows=[*ROWS[:6], ("new", "ham")]))
    splits = data.open(str(tmp_path / "train.csv"), {"text": "message"}, str(tmp_path / "held.csv")).load()
    assert [row["text"] for row in splits.tables["test"].to_pylist()] == [*(text for text, _ in ROWS[:6]), "new"]
    assert len(splits.tables["train"]) + len(splits.tables["validation"]) == 54
    assert splits.notes == ("6 rows of train, identical to examples held out, dropped",)
    assert splits.tables["test"]["id"][0].as_py() == "test-0"


def test_ids_that_clash_between_files_are_told_apart(tmp_path: Path) -> None:
    for name, start in (("train", 0), ("test", 100)):
        body = "".join(f"{number},{name} {number + start},{'ab'[number % 2]}\n" for number in range(30))
        (tmp_path / f"{name}.csv").write_text("id,text,label\n" + body)
    splits = data.open(str(tmp_path / "train.csv"), test=str(tmp_path / "test.csv")).load()
    assert splits.tables["test"]["id"][0].as_py() == "test-0"
    assert "same ids" in splits.notes[0]


def test_a_folder_of_texts(tmp_path: Path) -> None:
    for number, (text, label) in enumerate(ROWS):
        (tmp_path / "set" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / label / f"{number}.txt").write_text(text)
    assert rows_of(data.open(str(tmp_path / "set"))) == dict(ROWS)


def test_a_folder_with_splits_of_files_that_are_only_named(tmp_path: Path) -> None:
    for split, count in (("train", 40), ("test", 10)):
        for number in range(count):
            place = tmp_path / "set" / split / "ab"[number % 2]
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number}.png").write_bytes(f"{split}{number}".encode())
    (tmp_path / "set" / "train" / "a" / "0.png").write_bytes(b"test0")
    spec = data.folder(str(tmp_path / "set"), pattern="*.png", binary=True)
    splits = spec.load()
    first = splits.tables["test"].to_pylist()[0]
    assert (first["id"], first["target"], first["sha256"]) == ("test/a/0.png", "a", sha256(Path(first["path"])))
    assert splits.notes == ("1 row of train, identical to examples held out, dropped",)
    (tmp_path / "set").rename(tmp_path / "moved")
    assert data.folder(str(tmp_path / "moved"), pattern="*.png", binary=True).load().fingerprint == splits.fingerprint


def test_a_hub_layout_on_disk_opens_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FMHUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for split, count in (("train", 40), ("test", 10)):
        (tmp_path / "set" / "data").mkdir(parents=True, exist_ok=True)
        table = pa.table({"text": [f"{split} {number}" for number in range(count)], "label": [number % 2 for number in range(count)]})
        info = {
            "info": {"features": {"text": {"dtype": "string", "_type": "Value"}, "label": {"names": ["no", "yes"], "_type": "ClassLabel"}}}
        }
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
        pyarrow.parquet.write_table(table, tmp_path / "set" / "data" / f"{split}-00000-of-00001.parquet")
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    splits = data.open(f"hf:{tmp_path / 'set'}").load()
    assert {name: len(table) for name, table in splits.tables.items()} == {"train": 36, "validation": 4, "test": 10}
    assert splits.tables["test"]["target"].to_pylist()[:2] == ["no", "yes"]
    with pytest.raises(FetchError, match=r"hf:someone/set needs the hub"):
        data.hf("someone/set").load()
    with pytest.raises(DataError, match="There is no folder"):
        data.open("hf:./absent").load()


def test_rows_of_a_function() -> None:
    def table() -> pa.Table:
        return pa.table({"text": [text for text, _ in ROWS], "target": [label for _, label in ROWS]})

    assert rows_of(data.rows(table)) == dict(ROWS)
    parts = data.rows(lambda: {"train": table().slice(0, 40), "dev": table().slice(40, 10), "test": table().slice(50)}, split=data.Given())
    assert list(parts.load().tables) == ["train", "validation", "test"]
    with pytest.raises(DataError, match="returned list: it must return"):
        data.rows(list).load()


def test_package_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fmhub_some_plugin").mkdir()
    (tmp_path / "fmhub_some_plugin" / "__init__.py").touch()
    (tmp_path / "fmhub_some_plugin" / "my.csv").write_text(lines())
    monkeypatch.syspath_prepend(str(tmp_path))
    assert rows_of(data.csv("my.csv", package="fmhub_some_plugin", text="message")) == dict(ROWS)
    with pytest.raises(DataError, match=r"no file or folder mi\.csv\. Did you mean my\.csv"):
        data.csv("mi.csv", package="fmhub_some_plugin").load()
    with pytest.raises(DataError, match="package 'fmhub_absent' has no data files"):
        data.csv("my.csv", package="fmhub_absent").load()


def test_files_of_an_artifact(tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_text(lines())
    made = data.Artifact("my-set", (data.File("my.csv", sha256(tmp_path / "my.csv")),), (data.Local(str(tmp_path)),))
    assert rows_of(data.csv("my.csv", artifact=made, text="message")) == dict(ROWS)


def test_a_split_column(tmp_path: Path) -> None:
    names = ["Train"] * 40 + ["dev"] * 8 + ["TEST"] * 10 + ["shift:web"] * 2
    body = "".join(f"{text},{label},{name}\n" for (text, label), name in zip(ROWS, names, strict=True))
    (tmp_path / "my.csv").write_text("text,label,part\n" + body)
    splits = data.open(str(tmp_path / "my.csv"), {"split": "part"}).load()
    assert {name: len(table) for name, table in splits.tables.items()} == {"train": 40, "validation": 8, "test": 10, "shift:web": 2}


NEW_LABEL = b"text,split,label\n" + b"".join(
    b"t%d,%s,%s\n" % (n, b"test" if n < 9 else b"train", b"eggs" if n < 2 else (b"spam", b"ham")[n % 2]) for n in range(30)
)
BAD = {
    "empty file": (b"", "is empty"),
    "blank file": (b"\xef\xbb\xbf \n", "is empty"),
    "only a header": (b"text,label\n", "has no rows"),
    "broken encoding": (lines().encode() + b"caf\xe9,ham\n", r"line 62 is not UTF-8 \(byte 0xe9\)"),
    "a ragged row": (b"text,label\na,b\na,b,c\n", "Row #3: Expected 2 columns, got 3"),
    "a column twice": (b"text,text,label\na,b,c\n", "'text' is there twice"),
    "no target": (b"text,lable\na,b\n", "which column is the target"),
    "empty label": (b"text,label\na,x\nb,\nc,y\nd, \n", "rows 2, 4 of 4 have no label"),
    "one class": (b"text,label\n" + b"".join(b"t%d,ham\n" % n for n in range(9)), "every training row has the target 'ham'"),
    "infinite field": (b"size,label\n1.5,a\ninf,b\n", "row 2 of 2 has an infinite size"),
    "infinite target": (b"text,target\na,1.5\nb,-inf\n", "row 2 of 2 has an infinite target"),
    "NaN target": (b"text,target\na,1.5\nb,nan\n", "row 2 of 2 has no label or target"),
    "two rows": (b"text,label\na,x\nb,y\n", "2 rows with 2 different examples cannot fill 3 parts"),
    "an id twice": (b"id,text,label\n" + b"".join(b"%d,t%d,%d\n" % (n % 29, n, n % 2) for n in range(30)), "id '0' is given to 2 rows"),
    "no split": (b"text,label,split\na,x,train\nb,y,\n", "row 2 has no split"),
    "no test": (b"text,label,split\na,x,train\nb,y,train\n", "declares train, but no test split"),
    "new label": (NEW_LABEL, r"label 'eggs' is in 2 rows of test \(first: id 0\) but in none of train; train has 'ham', 'spam'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_csv_is_one_clear_line(name: str, tmp_path: Path) -> None:
    content, says = BAD[name]
    (tmp_path / "my.csv").write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        data.open(str(tmp_path / "my.csv")).load()
    assert "\n" not in str(caught.value)


def test_an_unknown_column_shows_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_text(lines())
    with pytest.raises(DataError, match=r"no column 'mesage' \(for text\)\. Did you mean message\? Columns: message, label"):
        data.open(str(tmp_path / "my.csv"), {"text": "mesage"}).load()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("my.jsonl", b'{"text": "a", "label": "x"}\n{"text": \n', "not one JSON object a line"),
        ("my.jsonl", b'{"text": "a"}\n[1]\n', "not one JSON object a line"),
        ("my.json", b"[1, 2]", "not one JSON object a line"),
        ("my.json", b'[{"text": "a"', "not one JSON object a line"),
        ("my.json", b"[" * 100_000, "not one JSON object a line"),
        ("my.parquet", b"nonsense", "not a parquet file"),
        ("my.csv.gz", b"nonsense", "damaged .gz"),
        ("my.csv.gz", gzip.compress(lines().encode(), mtime=0)[:60], "damaged .gz"),
    ],
)
def test_other_bad_files(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says):
        data.open(str(tmp_path / name)).load()


def test_references_that_are_wrong(tmp_path: Path) -> None:
    (tmp_path / "my.xlsx").touch()
    (tmp_path / "my.csv").touch()
    (tmp_path / "my.jsonl").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no file or folder .*my\.cvs\. Did you mean my\.csv"):
        data.open(str(tmp_path / "my.cvs"))
    with pytest.raises(UsageError, match="suffix says no kind"):
        data.open(str(tmp_path / "my.xlsx"))
    with pytest.raises(UsageError, match="different kinds"):
        data.open(str(tmp_path / "my.csv"), test=str(tmp_path / "my.jsonl"))
    with pytest.raises(UsageError, match="brings its own test part"):
        data.open("hf:name", test="x.csv")
    with pytest.raises(DataError, match="no files"):
        data.open(str(tmp_path / "empty")).load()
    with pytest.raises(UsageError, match="give it with --data"):
        data.Required().load()


def test_roles_may_be_named_once_and_headers_may_have_blanks(tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_text("text , stars\n" + "".join(f"t{number},{number % 5}\n" for number in range(40)))
    assert data.open(str(tmp_path / "my.csv"), {"label": "stars"}).load().tables["train"].column_names == ["id", "target", "text"]
    with pytest.raises(UsageError, match="two words for the same role"):
        data.open(str(tmp_path / "my.csv"), {"label": "stars", "target": "stars"}).load()


def test_a_decimal_target_is_a_number(tmp_path: Path) -> None:
    values = pa.array([Decimal(number) / 4 for number in range(40)])
    pyarrow.parquet.write_table(pa.table({"text": [f"t{n}" for n in range(40)], "price": values}), tmp_path / "my.parquet")
    assert data.open(str(tmp_path / "my.parquet"), {"target": "price"}).load().tables["train"]["target"].type == pa.float64()


def test_a_missing_number_in_a_field_is_null(tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_text(
        "size,label\n" + "".join(f"{'nan' if n % 7 == 0 else '' if n % 7 == 1 else n / 4},{n % 2}\n" for n in range(70))
    )
    tables = data.csv(str(tmp_path / "my.csv")).load().tables.values()
    assert sum(table["size"].null_count for table in tables) == 20


VALUES = st.one_of(
    st.lists(st.one_of(st.none(), st.text(max_size=5)), min_size=1, max_size=20).map(lambda v: pa.array(v, pa.string())),
    st.lists(st.one_of(st.none(), st.binary(max_size=5)), min_size=1, max_size=20).map(lambda v: pa.array(v, pa.binary())),
    st.lists(st.one_of(st.none(), st.integers(-(2**60), 2**60)), min_size=1, max_size=20).map(lambda v: pa.array(v, pa.int64())),
    st.lists(st.one_of(st.none(), st.floats(width=32)), min_size=1, max_size=20).map(lambda v: pa.array(v, pa.float64())),
    st.lists(st.one_of(st.none(), st.booleans()), min_size=1, max_size=20).map(lambda v: pa.array(v, pa.bool_())),
    st.lists(st.one_of(st.none(), st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=3)), min_size=1, max_size=20).map(
        lambda v: pa.array(v, pa.list_(pa.string()))
    ),
    st.lists(st.one_of(st.none(), st.fixed_dictionaries({"a": st.integers(0, 9), "b": st.text(max_size=3)})), min_size=1, max_size=20).map(
        lambda v: pa.array(v, pa.struct({"a": pa.int64(), "b": pa.string()}))
    ),
)


@settings(deadline=None, max_examples=150)
@given(VALUES, st.data())
def test_a_fingerprint_sees_content_and_nothing_else(array: pa.Array, draw: st.DataObject) -> None:
    cut = draw.draw(st.integers(0, len(array)))
    padded = pa.concat_arrays([array[:1], array])[1:]
    forms = [pa.chunked_array([array]), pa.chunked_array([array[:cut], array[cut:]], array.type), pa.chunked_array([padded])]
    prints = {fingerprint({"train": pa.table({"x": form})}) for form in forms}
    assert len(prints) == 1
    place = draw.draw(st.integers(0, len(array) - 1))
    other = pa.concat_arrays([array[:place], array[place + 1 :]])
    assert fingerprint({"train": pa.table({"x": other})}) not in prints
    assert fingerprint({"test": pa.table({"x": array})}) not in prints
    assert fingerprint({"train": pa.table({"y": array})}) not in prints


@settings(deadline=None)
@given(st.lists(st.text(max_size=4), min_size=2, max_size=8), st.data())
def test_a_fingerprint_sees_order_and_borders(texts: list[str], draw: st.DataObject) -> None:
    other = draw.draw(st.one_of(st.permutations(texts), st.lists(st.text(max_size=4), min_size=2, max_size=8)))
    same = fingerprint({"train": pa.table({"x": texts})}) == fingerprint({"train": pa.table({"x": pa.array(other, pa.large_string())})})
    assert same == (texts == other)


def test_a_fingerprint_does_not_depend_on_widths() -> None:
    wide = {"train": pa.table({"n": pa.array([1, 2], pa.int64()), "x": pa.array([0.5, None], pa.float64()), "s": pa.array(["a", "b"])})}
    slim = {
        "train": pa.table(
            {"s": pa.array(["a", "b"]).dictionary_encode(), "x": pa.array([0.5, None], pa.float32()), "n": pa.array([1, 2], pa.int8())}
        )
    }
    assert fingerprint(wide) == fingerprint(slim)
    assert fingerprint({"train": pa.table({"x": pa.array([np.nan])})}) != fingerprint(
        {"train": pa.table({"x": pa.array([None], pa.float64())})}
    )


def test_the_fingerprint_is_frozen() -> None:
    """A new value here breaks the comparison with every record made before."""
    table = pa.table({"id": ["0", "1"], "text": ["a", "b"], "target": [1.5, -2.0], "n": [1, None]})
    assert fingerprint({"train": table}) == "a7f5e2c9eb2b320d61bbb229ca29e84cf735bad28d56e9119b5b257722dd3e27"
