"""Texts word under word in the report, and spectrograms as PNG."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fmhub.evaluation.metrics.transcripts import folded
from fmhub.report.aligned import align, worst_texts
from fmhub.report.run import Run
from fmhub.stems import spectrogram

WORDS = st.lists(st.sampled_from(["press", "one", "two", "One,", "dièse", "diese"]), max_size=7)


@given(WORDS, WORDS)
def test_an_alignment_holds_both_texts_and_is_the_shortest(truth: list[str], guess: list[str]) -> None:
    steps = align(truth, guess)
    assert [word for kind, word in steps if kind != "-"] == guess
    true = [folded(word) for kind, word in steps if kind != "+"]
    assert true == [folded(word) for word in truth]
    common = sum(kind == "=" for kind, _ in steps)
    assert common == longest([folded(word) for word in truth], [folded(word) for word in guess])
    assert len(steps) == len(truth) + len(guess) - common


def longest(one: list[str], other: list[str]) -> int:
    """Length of the longest common subsequence, by its definition."""
    if not one or not other:
        return 0
    if one[0] == other[0]:
        return 1 + longest(one[1:], other[1:])
    return max(longest(one[1:], other), longest(one, other[1:]))


def run(truths: list[str], guesses: list[str]) -> Run:
    columns = {
        "id": np.array([f"clip-{row}" for row in range(len(truths))], object),
        "target": np.array(truths, object),
        "prediction": np.array(guesses, object),
    }
    plan = {"head": {"kind": "fmhub.heads:Transcription"}, "stem": {"kind": "gone:Stem"}}
    return Run(Path(), {"primary": "wer"}, plan, [], columns)


def test_the_worst_texts_come_first_and_right_ones_are_not_shown() -> None:
    shown = run(["a b c d", "press <b>1</b>", "Right."], ["a x y d", "press", "right"])
    assert "texts" in shown.holds and "labels" not in shown.holds
    page = str(worst_texts(shown))
    assert page.index("clip-0") < page.index("clip-1") and "clip-2" not in page
    assert "<del>b</del>" in page and "<ins>y</ins>" in page
    assert "<del>&lt;b&gt;1&lt;/b&gt;</del>" in page and "<b>1</b>" not in page and "<img" not in page
    assert worst_texts(run(["Right."], ["right"])) is None


def test_numbers_and_labels_are_no_texts() -> None:
    columns = {"id": np.array(["a"], object), "target": np.array([1.0]), "prediction": np.array([2.0])}
    assert "texts" not in Run(Path(), {}, {"head": {}}, [], columns).holds
    words = {name: np.array(["up"], object) for name in ("id", "target", "prediction")}
    assert "texts" not in Run(Path(), {}, {"head": {"labels": ["up", "down"]}}, [], words).holds


def test_a_spectrogram_is_a_picture_with_low_tones_below() -> None:
    features = torch.zeros(80, 300)
    features[10, 100:] = 2.0
    with Image.open(io.BytesIO(spectrogram.picture(features))) as image:
        assert image.format == "PNG" and image.mode == "L" and image.size == (300, 80)
        pixels = np.asarray(image)
    assert (pixels[69, 100:] == 0).all() and (pixels[69, :100] == 255).all() and (pixels[:69] == 255).all()


@pytest.mark.parametrize("seconds", [0.005, 1.0])
def test_the_stem_shows_a_sound_however_short(seconds: float) -> None:
    import soundfile

    from fmhub import stems

    out = io.BytesIO()
    soundfile.write(out, 0.3 * np.sin(np.arange(round(16000 * seconds)) / 5), 16000, format="WAV")
    with Image.open(io.BytesIO(stems.Audio().shown(out.getvalue()))) as image:
        assert image.size == (max(round(100 * seconds), 2), 80)
