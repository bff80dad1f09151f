"""Every task: metadata, samples, and light import; the fetched sets with their stated counts."""

import re
import subprocess
import sys
from collections import Counter

import pytest
from fmhub_text import fmhub_api, fmhub_tasks, reuters, samples, spamassassin

from fmhub import FetchError, UsageError, artifacts
from fmhub.data.near import copies

TASKS = {task.name: task for task in fmhub_tasks()}
OWN_DATA = ("text-classification", "text-regression")


def test_the_six_tasks():
    assert list(TASKS) == ["sentiment", "sentiment-score", "topic", "spam", *OWN_DATA]
    assert fmhub_api == (1, 0)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_metadata_is_complete(task):
    for name in ("title", "summary", "version", "licence", "source"):
        assert getattr(task, name), name
    assert task.family == "text"
    assert len(task.baselines) >= 2
    assert len({baseline.name for baseline in task.baselines}) == len(task.baselines)
    assert task.name in OWN_DATA or (task.citation and task.group)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_sample_loads_offline_and_fits_the_head(task, monkeypatch, tmp_path):
    monkeypatch.setenv("FMHUB_OFFLINE", "1")
    monkeypatch.setenv("FMHUB_HOME", str(tmp_path))
    splits = task.sample.load()
    head = task.head.fit(splits.known(), task.recipe)
    for table in splits.tables.values():
        assert len(table) >= 20
        assert head.targets(table)
    texts = [text for table in splits.tables.values() for text in table["text"].to_pylist()]
    assert len(set(texts)) == len(texts)
    assert list(tmp_path.iterdir()) == []


def test_what_must_not_be_copied_is_marked():
    assert {name for name, task in TASKS.items() if not task.redistribute} == {"topic", "spam"}
    assert all("not shipped" in TASKS[name].licence for name in ("topic", "spam"))


@pytest.mark.parametrize("name", OWN_DATA)
def test_without_data_the_user_is_told_what_to_give(name):
    with pytest.raises(UsageError, match="--data"):
        TASKS[name].data.load()


def test_offline_a_fetched_set_says_so_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("FMHUB_OFFLINE", "1")
    monkeypatch.setenv("FMHUB_HOME", str(tmp_path))
    for name in ("topic", "spam"):
        with pytest.raises(FetchError, match="FMHUB_OFFLINE"):
            TASKS[name].data.load()


def test_import_is_light():
    code = "import sys, fmhub_text; list(fmhub_text.fmhub_tasks()); print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"numpy", "pyarrow", "torch", "transformers", "sklearn", "vaderSentiment", "requests", "email.parser", "gzip"}
    assert heavy & set(loaded) == set()


def test_made_up_texts_do_not_change():
    assert samples.news()["text"][0].as_py() == "the group in tokyo: said annual earnings rose; declared a quarterly dividend"
    assert Counter(samples.news()["label"].to_pylist()) == dict.fromkeys(reuters.LABELS, 40)
    assert Counter(samples.mails()["label"].to_pylist()) == dict.fromkeys(spamassassin.LABELS, 120)


LINES = "Category\tText\nd\tstring\nclass\t\n"


@pytest.fixture
def stories(tmp_path, monkeypatch):
    """A Reuters set of four lines in the layout of the real one."""
    train = "earn\tacme corp net profit rose to ten mln dlrs in the first quarter of the year \nacq\tacme buys bolt for cash\n"
    test = "earn\tacme corp net profit rose to two mln dlrs in the first quarter of the year \ncrude\toil up\n"
    (tmp_path / "reuters-r8-train.tab").write_text(LINES + train)
    (tmp_path / "reuters-r8-test.tab").write_text(LINES + test)
    monkeypatch.setattr(artifacts, "fetch", lambda artifact: tmp_path)
    return reuters.stories()


def test_training_stories_that_resemble_a_test_story_are_left_out(stories):
    assert stories["train"]["text"].to_pylist() == ["acme buys bolt for cash"]
    assert stories["test"]["label"].to_pylist() == ["earn", "crude"]
    assert stories["test"]["id"].to_pylist() == ["test-0", "test-1"]


@pytest.mark.real
def test_topic_is_the_stated_set():
    tables = TASKS["topic"].data.load().tables
    assert {name: len(table) for name, table in tables.items()} == {"train": 4777, "validation": 651, "test": 2189}
    assert Counter(tables["test"]["target"].to_pylist())["earn"] == 1083
    _nothing_crosses(tables)


@pytest.mark.real
def test_spam_is_the_stated_set():
    tables = TASKS["spam"].data.load().tables
    labels = Counter(label for table in tables.values() for label in table["target"].to_pylist())
    assert labels == {"ham": 4099, "spam": 1766}
    _nothing_crosses(tables)
    texts = " ".join(text for table in tables.values() for text in table["text"].to_pylist()).lower()
    for leak in (r"https?://\w", r"\w@\w+\.\w", "mailman/listinfo", "deathtospamdeathtospam", "netnoteinc", "^return-path:"):
        assert not re.search(leak, texts), leak


def _nothing_crosses(tables):
    rows = [
        (part, text, group)
        for part, table in tables.items()
        for text, group in zip(*(table[c].to_pylist() for c in ("text", "group")), strict=True)
    ]
    held = {group for part, _, group in rows if part == "test"}
    assert all(part == "test" or group not in held for part, _, group in rows)
    pairs = copies([text for _, text, _ in rows])
    assert pairs
    assert all(rows[i][0] == rows[j][0] for i, j in pairs)
