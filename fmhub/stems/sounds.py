"""One sound from a file or bytes to mono samples at the rate that is needed, never trusted.

libsndfile reads wav, flac, ogg (Vorbis, Opus), mp3, aiff, au and caf; PyAV reads raw G.722, which has no header to know it by.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fmhub.errors import DataError, FmhubError
from fmhub.stems import files

FORMATS = ("WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3", "MPEG", "AIFF", "AU", "CAF", "W64")
LARGEST = 1 << 29
"""Bytes of the largest file that is opened (512 MiB)."""
LONGEST = 3600
"""Seconds of the longest sound."""
PAUSE = 1e4
"""How many times weaker than the loudest piece of a sound one is in which nobody speaks."""
QUIET = 1e-4
"""Largest sample (of 1) of a sound in which there is nothing: below 16 bits' last few steps."""


def decode(sources: Sequence[Any], names: Sequence[str], rate: int) -> list[np.ndarray]:
    """int16 samples of every sound at `rate`, several decoded at a time. Raises `DataError` naming the first bad one."""
    from concurrent.futures import ThreadPoolExecutor

    def one(row: int) -> np.ndarray:
        return (read(sources[row], names[row], rate).clip(-1, 1) * 32767).round().astype(np.int16)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(one, range(len(sources))))


def content(source: Any, name: str) -> tuple[bytes, str]:
    """Bytes and suffix of a sound given as bytes, as a path, or as the hub's {bytes, path}. Raises `DataError`."""
    path = source.get("path") if isinstance(source, Mapping) else source
    data = files.content(source, name, "sound", LARGEST)
    if not data:
        raise DataError(f"{name} is an empty file.")
    return data, Path(path).suffix.lower() if isinstance(path, str) else ""


def read(source: Any, name: str, rate: int) -> np.ndarray:
    """(samples,) float32, the mean of all channels, resampled to `rate`, about -1 to 1. Raises `DataError` for what holds no sound."""
    data, suffix = content(source, name)
    sound, own = _g722(data, name) if suffix == ".g722" else _sndfile(data, name)
    if not np.isfinite(sound).all():
        raise DataError(f"{name} holds samples that are not numbers (NaN or infinity).")
    mono = sound.mean(axis=1)
    if mono.size and own != rate:
        mono = _library("soxr").resample(mono, own, rate)
    if not mono.size:
        raise DataError(f"{name} is a sound of 0 seconds.")
    if float(np.abs(mono).max()) < QUIET:
        raise DataError(f"{name} is silent: no sample of its mean channel is above {QUIET:g} of full scale. Leave it out.")
    return np.ascontiguousarray(mono, np.float32)


def _sndfile(data: bytes, name: str) -> tuple[np.ndarray, int]:
    soundfile = _library("soundfile")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.format not in FORMATS:
                raise DataError(f"{name} is of format {file.format}; known are {', '.join(FORMATS)} and raw .g722.")
            _bounded(file.frames / max(1, file.samplerate), name)
            return file.read(min(file.frames, LONGEST * file.samplerate), dtype="float32", always_2d=True), file.samplerate
    except (soundfile.SoundFileError, RuntimeError, ValueError, TypeError) as error:
        said = str(error).removeprefix("Error opening <_io.BytesIO object").split(">: ")[-1].rstrip(".")
        raise DataError(f"{name} is not a sound in one of the formats wav, flac, ogg, mp3, aiff, g722 ({said[:80]}).") from None
    except MemoryError:
        raise DataError(f"{name} does not fit into memory.") from None


def _g722(data: bytes, name: str) -> tuple[np.ndarray, int]:
    """ITU-T G.722 at 64 kbit/s: 8,000 bytes a second, 16 kHz. Any bytes are some sound to it."""
    av = _library("av")
    _bounded(len(data) / 8000, name)
    try:
        with av.open(io.BytesIO(data), format="g722") as file:
            pieces = [frame.to_ndarray().reshape(-1) for frame in file.decode(audio=0)]
    except (av.FFmpegError, ValueError) as error:
        raise DataError(f"{name} is not G.722 ({str(error)[:80]}).") from None
    sound = np.concatenate(pieces) if pieces else np.zeros(0, np.int16)
    return (sound.astype(np.float32) / 32768)[:, None], 16000


def _bounded(seconds: float, name: str) -> None:
    if seconds > LONGEST:
        raise DataError(f"{name} lasts {seconds / 60:.0f} minutes; at most {LONGEST // 60} are read: cut it.")


def _library(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except (ImportError, OSError):
        raise FmhubError(f"Reading this sound needs {name}: pip install 'fmhub[audio]'.") from None


def cuts(sound: np.ndarray, most: int, rate: int) -> list[tuple[int, int]]:
    """Begin and end of the pieces of a long sound, none longer than `most` samples, each cut where its last half is quietest.

    The last piece is no shorter than a quarter of `most`; pieces 40 dB below the loudest are pauses and left out.
    """
    pieces, at, step = [], 0, max(1, rate // 50)
    while len(sound) - at > most:
        first, last = at + most // 2, min(at + most, len(sound) - most // 4)
        end = min(last, first + step * int(_loudness(sound[first:last], step).argmin()) + step // 2)
        pieces.append((at, end))
        at = end
    pieces.append((at, len(sound)))
    peaks = [_loudness(sound[begin:end], step).max() for begin, end in pieces]
    return [piece for piece, peak in zip(pieces, peaks, strict=True) if peak >= max(peaks) / PAUSE]


def _loudness(sound: np.ndarray, step: int) -> np.ndarray:
    """Power of each `step` samples, averaged over a tenth of a second: a stop within a word is shorter."""
    power = np.add.reduceat(sound.astype(np.float32) ** 2, np.arange(0, len(sound), step))
    return np.convolve(power, np.ones(5), mode="same")
