"""Kinds of short utterances: what files are named says what they are, no word is on two sides; the machine on cepstra."""

import numpy as np
import pyarrow as pa
import pytest
from fmhub_speech import fmhub_tasks, kinds
from fmhub_speech.mfcc import MfccSvm, cepstra

from fmhub import DataError, heads
from fmhub.evaluation.metrics.transcripts import folded
from fmhub.task import Setting

TASK = next(task for task in fmhub_tasks() if task.name == "spoken-command")


@pytest.mark.parametrize(
    ("name", "said", "wanted"),
    [
        ("digits_7", "seven", "number"), ("digits_million", "million", "number"), ("digits_h-7", "seventh", "ordinal"),
        ("digits_day-2", "Tuesday", "date"), ("digits_mon-4", "May", "date"), ("digits_today", "today", "date"),
        ("letters_q", "q", "letter"), ("letters_zed", "zed", "letter"), ("letters_ascii42", "star", ""), ("goodbye", "Goodbye!", ""),
        ("phonetic_w_p", "whiskey", "codeword"), ("vm-press", "press", ""), ("vm-nomore", "No more messages.", "phrase"),
        ("confbridge-locked", "The conference is now locked.", "phrase"), ("digits_oclock", "o'clock", ""),
    ],
)  # fmt: skip
def test_a_file_s_name_says_the_kind(name, said, wanted):
    assert kinds.kind(name, said) == wanted


def test_utterances_are_short_of_every_kind_and_no_word_crosses_the_split():
    splits = TASK.data.load()
    assert sum(map(len, splits.tables.values())) == len(kinds.utterances()) == 189
    sides: dict[str, set[str]] = {}
    for side, table in splits.tables.items():
        assert set(table["target"].to_pylist()) == set(kinds.LABELS) == set(TASK.head.labels)
        for said in table["said"].to_pylist():
            sides.setdefault(folded(said), set()).add(side)
    assert all(len(found) == 1 for found in sides.values())


def sounds(count: int = 24) -> pa.Table:
    """Low and high tones, a tenth of a second to half a second long."""
    import io

    import soundfile

    rows = []
    for number in range(count):
        out, t = io.BytesIO(), np.arange(1600 + 200 * number) / 16000
        soundfile.write(out, 0.3 * np.sin(2 * np.pi * (300, 2400)[number % 2] * t), 16000, format="WAV")
        rows.append({"id": str(number), "audio": out.getvalue(), "target": ("low", "high")[number % 2]})
    return pa.Table.from_pylist(rows)


def test_the_machine_on_cepstra_tells_tones_apart_and_gives_shares_of_every_label():
    rows, head = sounds(), heads.Classification(labels=("high", "low", "never"))
    fitted = MfccSvm().fit(Setting(train=rows.slice(0, 12), validation=rows.slice(12, 6), head=head))
    found = fitted.predict(rows.slice(18).drop_columns(["target"]))
    assert found["prediction"] == rows.slice(18)["target"].to_pylist()
    scores = np.array(found["scores"])
    assert scores.shape == (6, 3) and np.allclose(scores.sum(1), 1) and (scores[:, 2] == 0).all()
    assert [head.labels[place] for place in scores.argmax(1)] == found["prediction"]


def test_cepstra_do_not_depend_on_loudness_but_for_the_first_and_one_label_is_refused():
    import io

    import soundfile

    wave, made = 0.2 * np.sin(np.cumsum(np.linspace(0.02, 0.6, 16000))), []
    for loud in (1, 2):
        out = io.BytesIO()
        soundfile.write(out, loud * wave, 16000, format="WAV", subtype="FLOAT")
        made.append(out.getvalue())
    one, other = cepstra(pa.table({"id": ["a", "b"], "audio": made}), 2.0)
    assert one.shape == (80,) and np.abs((one - other)[1:]).max() < 0.02 < abs(one[0] - other[0])
    alone = sounds(4).filter(pa.array([True, False, True, False]))
    with pytest.raises(DataError, match="one label only"):
        MfccSvm().fit(Setting(train=alone, validation=alone, head=heads.Classification()))
