"""Sounds: what users' files look like, what is refused in one line, resampling, and where long ones are cut."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from fmhub.errors import DataError
from fmhub.stems import sounds

RATE = 16000


def tone(hertz: float, seconds: float = 1.0, rate: int = RATE, loud: float = 0.5) -> np.ndarray:
    return (loud * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def file(wave: np.ndarray, rate: int = RATE, kind: str = "WAV", subtype: str | None = None) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, wave, rate, format=kind, subtype=subtype)
    return out.getvalue()


def g722(wave: np.ndarray) -> bytes:
    """Raw G.722 as PyAV writes it."""
    import av

    out = io.BytesIO()
    with av.open(out, "w", format="g722") as container:
        stream = container.add_stream("g722", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray((wave * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return out.getvalue()


def video(path: Path) -> Path:
    """A film of four grey pictures, without sound."""
    import av

    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        for number in range(4):
            picture = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 40 * number, np.uint8), format="rgb24")
            for packet in stream.encode(picture):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return path


def loudest(wave: np.ndarray, rate: int = RATE) -> float:
    """The frequency with most power."""
    power = np.abs(np.fft.rfft(wave * np.hanning(len(wave)))) ** 2
    return float(np.fft.rfftfreq(len(wave), 1 / rate)[power.argmax()])


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "PCM_32"), ("WAV", "FLOAT"), ("WAV", "DOUBLE"), ("WAV", "PCM_U8"),
        ("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("CAF", "PCM_16"), ("W64", "PCM_16"),
    ],
)  # fmt: skip
def test_every_lossless_format_gives_the_same_samples(kind: str, subtype: str) -> None:
    wave = tone(440)
    assert np.abs(sounds.read(file(wave, kind=kind, subtype=subtype), "Row 1", RATE) - wave).max() < (0.01 if subtype == "PCM_U8" else 1e-4)


@pytest.mark.parametrize(("kind", "subtype"), [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")])
def test_lossy_formats_give_nearly_the_same(kind: str, subtype: str) -> None:
    found = sounds.read(file(tone(440), kind=kind, subtype=subtype), "Row 1", RATE)
    assert abs(len(found) - RATE) < 0.1 * RATE
    assert abs(loudest(found) - 440) < 5 and 0.3 < np.abs(found[4000:12000]).max() < 0.7


def test_raw_g722_is_known_by_its_suffix(tmp_path: Path) -> None:
    (tmp_path / "a.g722").write_bytes(g722(tone(440)))
    found = sounds.read(str(tmp_path / "a.g722"), "Row 1", RATE)
    assert abs(len(found) - RATE) <= 64 and abs(loudest(found) - 440) < 5


def test_channels_are_averaged_and_the_rate_is_made_the_models() -> None:
    left, right = tone(500, rate=44100, loud=0.6), tone(500, rate=44100, loud=0.2)
    found = sounds.read(file(np.stack([left, right], 1), 44100, subtype="PCM_24"), "Row 1", RATE)
    assert len(found) == RATE and found.dtype == np.float32
    assert np.abs(found[800:-800] - tone(500, loud=0.4)[800:-800]).max() < 2e-3


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_resampling_keeps_what_fits_and_removes_what_would_fold_back(rate: int) -> None:
    kept = sounds.read(file(tone(1000, rate=rate), rate), "Row 1", RATE)
    assert abs(loudest(kept) - 1000) < 3 and abs(np.sqrt(np.mean(kept[1000:-1000] ** 2)) - 0.5 / np.sqrt(2)) < 5e-3
    if rate > 2 * 11000:
        folded = sounds.read(file(tone(1000, rate=rate) + tone(11000, rate=rate, loud=0.4), rate), "Row 1", RATE)
        assert np.abs(folded[800:-800] - kept[800:-800]).max() < 2e-3  # 11 kHz would come back at 5 kHz


def test_a_sound_may_be_bytes_a_path_or_what_the_hub_stores(tmp_path: Path) -> None:
    data = file(tone(440))
    (tmp_path / "a.wav").write_bytes(data)
    given_: list[Any] = [data, str(tmp_path / "a.wav"), {"bytes": data, "path": "x.wav"}, {"bytes": None, "path": str(tmp_path / "a.wav")}]
    found = sounds.decode(given_, list("abcd"), RATE)
    assert all(one.dtype == np.int16 and (one == found[0]).all() for one in found)


def test_what_is_louder_than_full_scale_is_clipped_not_wrapped() -> None:
    (found,) = sounds.decode([file(2 * tone(440), subtype="FLOAT")], ["a"], RATE)
    assert found.max() == 32767 and found.min() == -32767


def test_a_video_with_the_name_of_a_sound_is_refused_in_one_line(tmp_path: Path) -> None:
    path = video(tmp_path / "film.mp4").rename(tmp_path / "film.wav")
    with pytest.raises(DataError, match=r"^Row 7 is not a sound in one of the formats wav, flac, ogg, mp3, aiff, g722 \([^\n]*\)\.$"):
        sounds.read(str(path), "Row 7", RATE)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is an empty file"),
        (b"RIFF\0\0\0\0WAVE", "is not a sound"),
        (b"not a sound at all " * 100, "is not a sound"),
        (b"<html><body>404</body></html>", "is not a sound"),
        (file(tone(440))[:30], "is not a sound"),
        (file(np.zeros(0, np.float32)), "is a sound of 0 seconds"),
        (file(np.array([0.1, np.nan, 0.2] * 100, np.float32), subtype="FLOAT"), r"not numbers \(NaN or infinity\)"),
        (file(np.array([0.1, np.inf] * 100, np.float32), subtype="DOUBLE"), r"not numbers \(NaN or infinity\)"),
        (file(np.zeros(RATE, np.float32)), "is silent"),
        (file(tone(440, loud=5e-5), subtype="FLOAT"), "is silent"),
        (file(np.array([0.5], np.float32), 48000), "is a sound of 0 seconds"),  # less than one sample at the rate that is read
        (file(np.stack([tone(440), -tone(440)], 1)), "is silent"),  # its channels undo each other
        (None, "a sound is a path or bytes"),
        (3.5, "a sound is a path or bytes"),
        ({"bytes": None, "path": None}, "a sound is a path or bytes"),
    ],
)
def test_what_holds_no_sound_is_refused_by_its_name(data: Any, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        sounds.read(data, "Row 7", RATE)
    assert str(caught.value).startswith("Row 7") and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing.wav", ".", "nul\0byte.wav"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"Row 7: .* cannot be read"):
        sounds.read(str(tmp_path / name), "Row 7", RATE)


def test_ten_minutes_are_read_and_more_than_an_hour_is_not() -> None:
    quick = 100  # samples a second: an hour of them is small
    assert len(sounds.read(file(np.tile(tone(10, 1, quick), 600), quick), "Row 1", quick)) == 600 * quick
    with pytest.raises(DataError, match="Row 1 lasts 61 minutes; at most 60 are read"):
        sounds.read(file(np.tile(tone(10, 1, quick), 61 * 60), quick), "Row 1", quick)


def test_a_header_that_promises_more_than_there_is_gives_what_there_is() -> None:
    data = bytearray(file(tone(440)))
    data[40:44] = (2**31 - 2).to_bytes(4, "little")  # the length of the data chunk
    found = sounds.read(bytes(data), "Row 1", RATE)
    assert np.abs(found[:RATE] - tone(440)).max() < 1e-4 and len(found) == RATE


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 2000), st.integers(2, 300), st.integers(0, 2**32 - 1))
def test_pieces_follow_one_another_and_none_is_too_long_or_a_crumb(length: int, most: int, seed: int) -> None:
    sound = np.random.default_rng(seed).integers(20000, 32767, length).astype(np.int16)
    pieces = sounds.cuts(sound, most, rate=500)
    assert [begin for begin, _ in pieces] == [0, *(end for _, end in pieces[:-1])] and pieces[-1][1] == length
    assert all(0 < end - begin <= most for begin, end in pieces)
    assert all(end - begin >= most // 2 for begin, end in pieces[:-1])
    assert len(pieces) == 1 or pieces[-1][1] - pieces[-1][0] >= most // 4


def test_a_window_in_which_nobody_speaks_is_left_out() -> None:
    noise = np.random.default_rng(0).normal(0, 1e-3, 12 * RATE).astype(np.float32)
    noise[: 3 * RATE] += tone(300, 3)
    pieces = sounds.cuts((noise * 32767).astype(np.int16), 5 * RATE, RATE)
    assert len(pieces) == 1 and pieces[0][0] == 0 and pieces[0][1] >= 3 * RATE
    quiet = (noise[3 * RATE :] * 32767).astype(np.int16)
    assert len(sounds.cuts(quiet, 5 * RATE, RATE)) > 1  # quiet all through: nothing is louder


def test_a_long_sound_is_cut_in_its_pause() -> None:
    pause = np.zeros(RATE // 2, np.float32)
    sound = np.concatenate([tone(300, 3.2), pause, tone(300, 3.4), pause, tone(300, 2)])
    pieces = sounds.cuts((sound * 32767).astype(np.int16), 5 * RATE, RATE)
    assert len(pieces) == 3
    assert 3.2 < pieces[0][1] / RATE < 3.7 and 7.1 < pieces[1][1] / RATE < 7.6
