"""Log-mel spectrograms: exactly what Whisper's own feature extractor gives, and random changes that stay within bounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fmhub.stems import spectrogram
from fmhub.stems.audio import WHISPER


def speechlike(seconds: float, seed: int = 0) -> np.ndarray:
    """Bursts of harmonics and noise between pauses."""
    random = np.random.default_rng(seed)
    t = np.arange(round(16000 * seconds)) / 16000
    voice = sum(np.sin(2 * np.pi * 140 * k * t + 3 * np.sin(2 * t)) / k for k in range(1, 20))
    return (0.2 * voice * (np.sin(5 * t) > 0) + 0.01 * random.standard_normal(len(t))).astype(np.float32)


@pytest.mark.parametrize("mels", [80, 128])
@pytest.mark.parametrize("seconds", [2.0, 30.0])
def test_it_is_what_transformers_extractor_gives(mels: int, seconds: float) -> None:
    """Of a window of thirty seconds, the rest of which is silence, to float32's last digits."""
    from transformers import WhisperFeatureExtractor

    wave = speechlike(seconds)
    wanted = WhisperFeatureExtractor(feature_size=mels)(wave, sampling_rate=16000, return_tensors="pt").input_features
    padded = torch.zeros(1, 480_000)
    padded[0, : len(wave)] = torch.from_numpy(wave)
    found = spectrogram.log_mel(padded, {**WHISPER, "feature_size": mels})
    assert found.shape == wanted.shape == (1, mels, 3000)
    assert (found - wanted).abs().max() < 2e-5


def test_a_short_window_is_what_the_extractor_gives_of_one() -> None:
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(feature_size=80, chunk_length=5)
    wave = speechlike(3.1)
    wanted = extractor(wave, sampling_rate=16000, return_tensors="pt").input_features
    padded = torch.zeros(1, 80_000)
    padded[0, : len(wave)] = torch.from_numpy(wave)
    assert wanted.shape == (1, 80, 500)
    assert (spectrogram.log_mel(padded, WHISPER) - wanted).abs().max() < 2e-5


def test_an_example_does_not_depend_on_its_neighbours() -> None:
    waves = torch.from_numpy(np.stack([speechlike(1, 0), 0.01 * speechlike(1, 1)]))
    together = spectrogram.log_mel(waves, WHISPER)
    assert (together[1] - spectrogram.log_mel(waves[1:], WHISPER)[0]).abs().max() < 1e-6


def test_a_louder_recording_moves_the_whole_picture_up_and_changes_nothing_else() -> None:
    wave = torch.from_numpy(speechlike(1)[None])
    soft, loud = spectrogram.log_mel(wave, WHISPER), spectrogram.log_mel(2 * wave, WHISPER)
    assert (loud - soft - np.log10(4) / 4).abs().max() < 1e-4


def test_disturbing_changes_loudness_and_adds_noise_within_bounds() -> None:
    clean = torch.from_numpy(np.stack([speechlike(1, seed) for seed in range(40)]))
    real = torch.ones_like(clean, dtype=torch.bool)
    noisy = spectrogram.disturbed(clean.clone(), real, np.random.default_rng(0), 1.0)
    gains = [float((a * b).sum() / (a * a).sum()) for a, b in zip(clean, noisy, strict=True)]
    assert 10 ** (-6.2 / 20) < min(gains) < 0.8 and 1.2 < max(gains) < 10 ** (6.2 / 20)
    for gain, a, b in zip(gains, clean, noisy, strict=True):
        snr = 10 * np.log10(float(((gain * a) ** 2).mean() / ((b - gain * a) ** 2).mean()))
        assert 8.5 < snr < 41.5
    again = spectrogram.disturbed(clean.clone(), real, np.random.default_rng(0), 1.0)
    assert torch.equal(noisy, again)


def test_masks_are_at_most_as_wide_as_said_and_lie_where_there_is_sound() -> None:
    features = torch.arange(20 * 80 * 500, dtype=torch.float32).view(20, 80, 500)
    masked = spectrogram.masked(features.clone(), torch.full((20,), 300), np.random.default_rng(0), 1.0)
    changed = masked != features
    whole_bands, whole_stretches = changed.all(2), changed[:, :, :300].all(1)
    assert 0 < whole_bands.sum(1).max() <= 2 * 0.2 * 80 and 0 < whole_stretches.sum(1).max() <= 2 * 0.1 * 300
    rest = changed & ~whole_bands[:, :, None]
    assert not rest[:, :, 300:].any()
    assert torch.equal(spectrogram.masked(features.clone(), torch.full((20,), 300), np.random.default_rng(0), 0.0), features)
