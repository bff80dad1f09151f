"""Sounds through the backbone's own log-mel spectrogram, in windows as long as the recipe says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fmhub.errors import DataError, UsageError
from fmhub.home import read_json
from fmhub.task import Encoded

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch

    from fmhub.backbones.load import Backbone
    from fmhub.recipe import Recipe
    from fmhub.task import Known

WHISPER = {"feature_size": 80, "sampling_rate": 16000, "hop_length": 160, "n_fft": 400}
"""What a spectrogram is made with where a backbone does not say."""


@dataclass(frozen=True)
class Audio:
    """One sound: a path, or the bytes of a file, in column `audio` (or `path`, as folders of files have it).

    The backbone sees a window of `recipe.length` frames (hundredths of a second), filled up with silence, and only as many
    of its positions as that takes: five seconds cost a sixth of Whisper's thirty. Augmentation adds noise and masks.
    """

    whole: bool = False
    """True: a longer sound becomes several windows, cut where it is quietest; False: its end is left out."""
    positions: Literal["slice", "stretch"] = "slice"
    """Which positions a short window gets: the first of the backbone's, or all of them pressed together."""
    windows: tuple[int, ...] = ()
    """Frames of shorter windows: a sound gets the shortest that holds it, whatever else is in its batch; `recipe.length` is the longest."""
    fields: tuple[str, ...] = ("audio",)
    unit: str = "frames"
    files: tuple[str, ...] = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".g722")
    """Suffixes of the files in a user's folder that are examples."""

    def fit(self, known: Known) -> Audio:
        """Nothing to learn: the constants are the backbone's."""
        return self

    def encode(self, table: pa.Table, backbone: Backbone, recipe: Recipe) -> Encoded:
        """`sound`: int16 samples of all windows, one after another; `ends` of each; `windows` (rows + 1,) where each row's begin.

        A length is a row's windows in frames; with `windows`, rows of unequal ones share no forward pass. Raises `DataError`
        naming the row that is no sound.
        """
        import numpy as np

        from fmhub.stems import sounds

        frames, settings = window(backbone, recipe), _settings(backbone)
        rate, most = int(settings["sampling_rate"]), frames * int(settings["hop_length"])
        column = next((name for name in (*self.fields, "path") if name in table.column_names), None)
        if column is None:
            raise DataError(f"There is no column {self.fields[0]!r} with sounds; there are {', '.join(table.column_names)}.")
        sources = table.column(column).to_pylist()
        found = sounds.decode(sources, [_called(*one) for one in zip(table.column("id").to_pylist(), sources, strict=True)], rate)
        pieces, windows, cut = [], [0], []
        for sound in found:
            parts = sounds.cuts(sound, most, rate) if self.whole else [(0, min(len(sound), most))]
            cut.append(parts[-1][1] < len(sound))
            pieces += [sound[begin:end] for begin, end in parts]
            windows.append(len(pieces))
        ends, begins = np.cumsum([len(piece) for piece in pieces]), np.array(windows)
        values = {"sound": np.concatenate(pieces), "ends": ends, "windows": begins, "most": most, "settings": settings}
        lengths = np.diff(begins) * frames
        if self.windows:
            shorter = np.array(sorted({one // 2 * 2 for one in self.windows if 2 <= one < frames} | {frames}))
            held = -(-np.diff(ends, prepend=0)[begins[:-1]] // int(settings["hop_length"]))
            lengths = np.where(np.diff(begins) == 1, shorter[np.searchsorted(shorter, held)], lengths)
        return Encoded(lengths, values, np.array(cut, bool), alike=bool(self.windows))

    def batch(self, encoded: Encoded, rows: np.ndarray, *, random: np.random.Generator | None, strength: float) -> dict[str, torch.Tensor]:
        """`input_features` (windows, mels, frames) float32; `attention_mask` (windows, frames), where there is sound; `owner`
        (windows,), to which of `rows` each belongs."""
        import numpy as np
        import torch

        from fmhub.stems import spectrogram

        values = encoded.values
        hop, count = int(values["settings"]["hop_length"]), np.diff(values["windows"])[rows]
        wide = int((encoded.lengths[rows] // count).max())
        spans = [(owner, at) for owner, row in enumerate(rows) for at in range(values["windows"][row], values["windows"][row + 1])]
        waves = np.zeros((len(spans), wide * hop), np.float32)
        counts = np.zeros(len(spans), np.int64)
        for place, (_, at) in enumerate(spans):
            begin, end = values["ends"][at - 1] if at else 0, values["ends"][at]
            counts[place] = end - begin
            waves[place, : end - begin] = values["sound"][begin:end].astype(np.float32) / 32767
        sounds = torch.from_numpy(waves)
        frames = torch.from_numpy(-(-counts // hop))
        real = torch.arange(wide) < frames[:, None]
        if random is not None and strength > 0:
            sounds = spectrogram.disturbed(sounds, real.repeat_interleave(hop, 1), random, strength)
        features = spectrogram.log_mel(sounds, values["settings"])
        if random is not None and strength > 0:
            features = spectrogram.masked(features, frames, random, strength)
        return {"input_features": features, "attention_mask": real.long(), "owner": torch.tensor([owner for owner, _ in spans])}

    def shown(self, source: Any) -> bytes:
        """The log-mel spectrogram of the first half minute as a grey PNG: a pixel a frame, low tones below. Raises `DataError`."""
        import numpy as np
        import torch

        from fmhub.stems import sounds, spectrogram

        rate = WHISPER["sampling_rate"]
        wave = sounds.read(source, "The sound", rate)[: 30 * rate]
        padded = np.pad(wave, (0, max(0, WHISPER["n_fft"] - len(wave))))
        return spectrogram.picture(spectrogram.log_mel(torch.from_numpy(padded)[None], WHISPER)[0])

    def build(self, backbone: Backbone, recipe: Recipe, known: Known | None) -> None:
        """Nothing to train; the backbone's table of positions is cut to the window, in place."""
        from fmhub.backbones.context import follow, shorten

        shorten(backbone, window(backbone, recipe) // 2, self.positions)
        if self.windows:
            follow(backbone)


def _called(row: str, source: Any) -> str:
    """What an error calls a row: its id, and its file where that says more."""
    return f"Row {row} ({Path(source).name})" if isinstance(source, str) and not source.endswith(row) else f"Row {row}"


def window(backbone: Backbone, recipe: Recipe) -> int:
    """Frames of one window: the recipe's length, at most what the backbone has positions for, two frames a position."""
    from fmhub.backbones.context import positions

    most = getattr(backbone.model.config, "num_mel_bins", None) and 2 * positions(backbone)
    if not most:
        raise UsageError(f"Backbone {backbone.name!r} does not read spectrograms: use one of modality audio, such as whisper-tiny-en.")
    return min(recipe.length, most) // 2 * 2 or 2


def _settings(backbone: Backbone) -> dict[str, Any]:
    """The numbers of preprocessor_config.json, else Whisper's; as many mels as the backbone's first layer reads."""
    path = backbone.folder / "preprocessor_config.json"
    stored: dict[str, Any] = read_json(path, limit=1 << 20) if path.is_file() else {}
    usable = {name: stored[name] for name in WHISPER if isinstance(stored.get(name), int) and 0 < stored[name] <= 1 << 20}
    return {**WHISPER, **usable, "feature_size": int(backbone.model.config.num_mel_bins)}
