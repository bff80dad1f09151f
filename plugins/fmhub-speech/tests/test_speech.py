"""The plugin: metadata, light import, the bundled prompts as their note counts them, and no words on two sides of a split."""

import io
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import soundfile
from fmhub_speech import asterisk, fmhub_api, fmhub_tasks

from fmhub import hub
from fmhub.evaluation import metrics
from fmhub.evaluation.metrics.transcripts import folded
from fmhub.testing import data_checks
from fmhub.testing.subject import Fixed, Subject

TASKS = {task.name: task for task in fmhub_tasks()}
WRITTEN = [name for name in TASKS if name.startswith("speech-recognition")]
DATA = Path(asterisk.__file__).parent / "data"
ORIGIN = (DATA / "ORIGIN.md").read_text(encoding="utf-8")


def test_every_task_says_what_users_need():
    assert fmhub_api == (1, 0) and "speech-recognition" in TASKS
    for task in TASKS.values():
        for name in ("title", "summary", "version", "licence", "source", "citation", "family"):
            assert getattr(task, name), (task.name, name)
        assert task.redistribute and task.sample is not None
        assert all(metrics.get(name) for name in task.metrics)
    for name in WRITTEN:
        seconds = 5 if name == "speech-recognition" else 10
        assert [baseline.name for baseline in TASKS[name].baselines] == ["zero-shot-30s", f"zero-shot-{seconds}s"]
        assert all(replace(TASKS[name].stem, **baseline.stem).windows == () for baseline in TASKS[name].baselines)
        assert TASKS[name].baselines[0].changes == {"length": 3000} and TASKS[name].recipe.length == 100 * seconds


def test_import_is_light():
    code = "import sys, fmhub_speech; list(fmhub_speech.fmhub_tasks()); print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"numpy", "pyarrow", "torch", "transformers", "sklearn", "pandas", "soundfile", "av", "jiwer"} & set(loaded) == set()


@pytest.mark.parametrize("language", asterisk.VOICES)
def test_the_bundled_prompts_are_what_their_note_counts(language):
    table = asterisk.prompts(language)
    (row,) = re.findall(rf"^\| {language} \| (.+) \| (.+) \| (\d+) \| ([\d.]+) \|$", ORIGIN, re.M)
    seconds = 0.0
    for content in table["audio"].to_pylist():
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            assert (file.format, file.subtype, file.channels) == ("OGG", "OPUS", 1)
            seconds += file.frames / file.samplerate
    assert row == (asterisk.VOICES[language], asterisk.LICENCES[language], str(len(table)), f"{seconds / 60:.1f}")
    assert len(set(table["id"].to_pylist())) == len(table)
    assert set(table["length"].to_pylist()) == {"short", "long"}
    texts = table["target"].to_pylist()
    assert all(text and text == " ".join(text.split()) and not re.search(r"[*#@]", text) for text in texts)


@pytest.mark.parametrize("name", WRITTEN)
def test_no_words_are_on_two_sides_of_the_split(name):
    splits = TASKS[name].data.load()
    assert set(splits.tables) == {"train", "validation", "test"}
    sides: dict[str, set[str]] = {}
    for side, table in splits.tables.items():
        for text in table["target"].to_pylist():
            sides.setdefault(folded(text), set()).add(side)
    assert all(len(found) == 1 for found in sides.values())
    assert splits.fingerprint == TASKS[name].data.load().fingerprint
    sizes = {side: len(table) / sum(map(len, splits.tables.values())) for side, table in splits.tables.items()}
    assert 0.6 < sizes["train"] < 0.7 and 0.17 < sizes["test"] < 0.23


@pytest.mark.parametrize("name", TASKS)
def test_the_check_finds_a_group_that_crosses_and_a_sound_that_is_there_twice(name):
    task, plugin = hub.task(f"fmhub-speech:{name}")
    splits = task.sample.load()

    def said(**parts):
        planted = replace(splits, tables={**splits.tables, **parts})
        return data_checks.splits_disjoint(Subject(plugin, replace(task, sample=Fixed(planted)), None))

    assert said()[0]
    test, train = splits.tables["test"], splits.tables["train"]
    again = test.slice(0, 2).set_column(0, "id", pa.array(["again-1", "again-2"]))
    ok, figure = said(train=pa.concat_tables([train, again]))
    assert not ok and "more than one split" in figure
    place = train.column_names.index("group")
    crossing = train.set_column(place, "group", pa.array([test["group"][0].as_py(), *train["group"].to_pylist()[1:]]))
    ok, figure = said(train=crossing)
    assert not ok and "group" in figure


def test_the_sample_is_small_and_the_same_every_time():
    one, other = asterisk.sample("en"), asterisk.sample("en")
    assert one.equals(other) and len(one) == 32 and sum(map(len, one["audio"].to_pylist())) < 200_000
    for language in asterisk.VOICES:
        assert all(len(re.findall(r"\w+", text)) >= 3 for text in asterisk.sample(language)["target"].to_pylist())


def test_the_licence_names_every_voice_and_holds_both_texts():
    licence = (DATA / "LICENSE").read_text(encoding="utf-8")
    assert all(name in licence for name in ("Allison Smith", "June Wallack", "Carlo Flora", "Maxim"))
    assert "CC-BY-SA-3.0" in licence and "Attribution 3.0 Unported" in licence
