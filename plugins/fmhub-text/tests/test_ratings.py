"""The bundled ratings: counts as stated, the label rule, and a split that nothing crosses."""

import csv
import gzip
import io
import runpy
from collections import Counter, defaultdict
from importlib.resources import files
from pathlib import Path

import pytest
from fmhub_text import fmhub_tasks, ratings

from fmhub.data import Given
from fmhub.data.near import copies, words

TASKS = {task.name: task for task in fmhub_tasks()}


def parts(task):
    return {name: part for part, table in task.data.load().tables.items() for name in table["id"].to_pylist()}


@pytest.fixture(scope="module")
def rows():
    return ratings.read().to_pylist()


def test_all_rows_of_the_four_domains_are_there_once(rows):
    assert Counter(row["domain"] for row in rows) == {"film": 10605, "news": 5190, "tweets": 4200, "amazon": 3708}
    assert len({row["id"] for row in rows}) == 23703
    assert all(-4 <= row["rating"] <= 4 and row["text"].strip() == row["text"] != "" for row in rows)


def test_quotes_are_text_and_entities_are_resolved(rows):
    texts = [row["text"] for row in rows]
    assert sum('"' in text for text in texts) > 300
    assert not any("&amp;" in text or "&quot;" in text or "&lt;" in text for text in texts)


def test_polarity_is_the_sign_of_a_rating_of_at_least_one_half(rows):
    table = ratings.polarity()
    by_id = {row["id"]: row["rating"] for row in rows}
    labels = dict(zip(table["id"].to_pylist(), table["label"].to_pylist(), strict=True))
    assert Counter(labels.values()) == {"positive": 10278, "negative": 9181}
    assert labels == {name: "positive" if rating > 0 else "negative" for name, rating in by_id.items() if abs(rating) >= 0.5}
    assert "rating" not in table.column_names


@pytest.mark.parametrize(("name", "counts"), [("sentiment", (13628, 1912, 3919)), ("sentiment-score", (16570, 2381, 4752))])
def test_the_split_is_the_stated_one(name, counts):
    splits = TASKS[name].data.load()
    assert tuple(len(splits.tables[part]) for part in ("train", "validation", "test")) == counts
    assert isinstance(TASKS[name].data.split, Given)
    assert {"id", "text", "target", "domain", "group"} == set(splits.tables["train"].column_names)


def test_both_tasks_split_the_same_way():
    parts = [
        {row: part for part, table in TASKS[name].data.load().tables.items() for row in table["id"].to_pylist()}
        for name in TASKS
        if name.startswith("sentiment")
    ]
    assert parts[0].items() <= parts[1].items()


def test_each_domain_is_split_70_10_20(rows):
    counts = Counter((row["domain"], row["split"]) for row in rows)
    for domain in ("tweets", "amazon", "film", "news"):
        total = sum(counts[domain, part] for part in ("train", "validation", "test"))
        for part, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
            assert counts[domain, part] / total == pytest.approx(share, abs=0.012)


def test_no_document_duplicate_or_near_duplicate_crosses_the_split(rows):
    found, same = defaultdict(set), defaultdict(set)
    for row in rows:
        document = row["id"].split("_")[0] if row["domain"] in ("amazon", "news") else row["id"]
        found[document].add(row["split"])
        found["group", row["group"]].add(row["split"])
        same[" ".join(words(row["text"]))].add(row["split"])
    assert all(len(parts) == 1 for parts in found.values())
    assert all(len(parts) == 1 for parts in same.values())
    pairs = copies([row["text"] for row in rows])
    assert len(pairs) > 500
    assert all(rows[i]["split"] == rows[j]["split"] for i, j in pairs)


def test_the_bundled_file_is_what_its_script_makes(tmp_path, monkeypatch):
    root = Path(__file__).parents[1]
    script = runpy.run_path(str(root / "tools/make_ratings.py"))
    source, out = tmp_path / "ratings.tsv.gz", tmp_path / "out.csv.gz"
    packed = (files("fmhub_text") / "data/ratings.csv.gz").read_bytes()
    bundled = list(csv.DictReader(io.StringIO(gzip.decompress(packed).decode(), newline="")))
    with gzip.open(source, "wt", encoding="utf-8", newline="") as file:
        file.write("domain\tid\trating\ttext\n")
        for row in bundled:
            file.write(f"{row['domain']}\t{row['id'].removeprefix(row['domain'] + '-')}\t{row['rating']}\t{row['text']}\n")
    script["main"].__globals__["OUT"] = out
    script["main"](str(source))
    assert gzip.decompress(out.read_bytes()) == gzip.decompress(packed)


def test_the_licence_and_the_origin_travel_with_the_data():
    folder = files("fmhub_text") / "data"
    assert "Copyright (c) 2016 C.J. Hutto" in (folder / "LICENSE").read_text()
    assert "vaderSentiment 0.5" in (folder / "ORIGIN.md").read_text()


def test_samples_are_cut_within_the_splits(rows):
    split = {row["id"]: row["split"] for row in rows}
    for sample in (ratings.polarity_sample(), ratings.ratings_sample()):
        assert Counter(sample["split"].to_pylist()) == {"train": 400, "validation": 100, "test": 100}
        assert all(split[row["id"]] == row["split"] for row in sample.to_pylist())
