"""Log-mel spectrograms as Whisper reads them, and their random changes."""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


@functools.lru_cache(8)
def _filters(bins: int, mels: int, rate: int) -> torch.Tensor:
    from transformers.audio_utils import mel_filter_bank

    bank = mel_filter_bank(bins, mels, 0.0, 8000.0, rate, norm="slaney", mel_scale="slaney")
    return torch.from_numpy(bank).float().T.contiguous()


def log_mel(waves: torch.Tensor, settings: Mapping[str, Any]) -> torch.Tensor:
    """(n, samples) float32 -> (n, mels, frames), within about -1 to 2; 80 dB under each example's loudest point is silence."""
    size, hop = int(settings["n_fft"]), int(settings["hop_length"])
    short = torch.stft(waves, size, hop, window=torch.hann_window(size), return_complex=True)[..., :-1]
    filters = _filters(1 + size // 2, int(settings["feature_size"]), int(settings["sampling_rate"]))
    logs = (filters @ short.abs().square()).clamp(min=1e-10).log10()
    return (torch.maximum(logs, logs.amax((1, 2), keepdim=True) - 8.0) + 4.0) / 4.0


def disturbed(waves: torch.Tensor, real: torch.Tensor, random: np.random.Generator, strength: float) -> torch.Tensor:
    """Louder or softer by up to 6 dB, and with noise 10 to 40 dB below, for a share `strength` of the examples.

    The noise is white or falls by 6 dB an octave; `real` (n, samples) says where there is sound.
    """
    waves = waves * torch.from_numpy(10 ** (random.uniform(-6, 6, (len(waves), 1)) * strength / 20)).float()
    power = (waves.square().sum(1) / real.sum(1)).sqrt()
    for row in range(len(waves)):
        noise = random.standard_normal(waves.shape[1]).astype(np.float32)
        if random.random() < 0.5:
            noise = np.convolve(noise, 0.9 ** np.arange(30), mode="same").astype(np.float32)
            noise /= noise.std() + 1e-9
        if random.random() < strength:
            waves[row] += power[row] * 10 ** (-random.uniform(10, 40) / 20) * torch.from_numpy(noise)
    return waves


def masked(features: torch.Tensor, frames: torch.Tensor, random: np.random.Generator, strength: float) -> torch.Tensor:
    """SpecAugment (Park et al. 2019, arXiv:1904.08779): two bands of mels and two stretches of real frames become the mean.

    `strength` scales their widths: at 1 up to a fifth of the mels and a tenth of each example's `frames`.
    """
    mels = features.shape[1]
    for row, count in enumerate(frames.tolist()):
        mean = float(features[row, :, :count].mean())
        for _ in range(2):
            wide, long = (int(random.uniform(0, share * strength * size)) for share, size in ((0.2, mels), (0.1, count)))
            low, begin = int(random.integers(0, mels - wide + 1)), int(random.integers(0, count - long + 1))
            features[row, low : low + wide] = mean
            features[row, :, begin : begin + long] = mean
    return features


def picture(features: torch.Tensor) -> bytes:
    """(mels, frames) as a grey PNG (RFC 2083): a pixel each, the lowest mel below, the loudest point black."""
    low, high = float(features.min()), float(features.max())
    grey = (255 * (high - features.flip(0)) / max(high - low, 1e-6)).round().to(torch.uint8).numpy()
    lines = np.pad(grey, ((0, 0), (1, 0))).tobytes()  # each line begins with its filter: none
    header = struct.pack(">IIBBBBB", grey.shape[1], grey.shape[0], 8, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    chunks = (struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
