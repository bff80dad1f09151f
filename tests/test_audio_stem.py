"""The stem of sounds: windows as long as the recipe says, whose each is, fewer positions, and what users' own data look like."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import soundfile
import torch

from fmhub import data, stems
from fmhub.backbones.context import shorten
from fmhub.backbones.encoder import Encoder
from fmhub.errors import DataError, UsageError
from fmhub.recipe import Lora, Recipe
from fmhub.task import Known, Reads
from fmhub.training.frozen import Alone
from fmhub.training.loop import predict
from fmhub.training.network import Network
from fmhub.training.prefix import open_or_fill

RATE = 16000
RECIPE = Recipe(length=20)
"""Windows of 20 frames, a fifth of a second: the tiny backbone has 10 positions."""


def wave(seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * (300 + 50 * seed) * t)).astype(np.float32)


def wav(sound: np.ndarray, rate: int = RATE) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, sound, rate, format="WAV", subtype="FLOAT")
    return out.getvalue()


def table(*sounds: Any, column: str = "audio") -> pa.Table:
    return pa.table({"id": [f"r{number}" for number in range(len(sounds))], column: list(sounds)})


def batch(encoded: Any, rows: list[int], **options: Any) -> dict[str, torch.Tensor]:
    return stems.Audio().batch(encoded, np.array(rows), **{"random": None, "strength": 0.0, **options})


def test_a_batch_is_a_window_a_row_filled_up_with_silence(shaped: Any) -> None:
    encoded = stems.Audio().encode(table(wav(wave(0.1)), wav(wave(0.2, 1))), shaped("whisper"), RECIPE)
    assert encoded.lengths.tolist() == [20, 20] and encoded.truncated == 0
    found = batch(encoded, [1, 0])
    assert found["input_features"].shape == (2, 8, 20) and found["input_features"].dtype == torch.float32
    assert found["attention_mask"].sum(1).tolist() == [20, 10] and found["owner"].tolist() == [0, 1]
    alone = batch(encoded, [0])["input_features"][0]
    assert (found["input_features"][1] - alone).abs().max() < 1e-6


def test_a_longer_sound_is_cut_and_counted_or_becomes_several_windows(shaped: Any) -> None:
    rows = table(wav(wave(0.1)), wav(wave(0.7)), wav(wave(0.15)))
    cut = stems.Audio().encode(rows, shaped("whisper"), RECIPE)
    assert cut.truncated == 1 and cut.lengths.tolist() == [20, 20, 20]
    whole = stems.Audio(whole=True).encode(rows, shaped("whisper"), RECIPE)
    count = int(np.diff(whole.values["windows"])[1])
    assert whole.truncated == 0 and count >= 4 and whole.lengths.tolist() == [20, 20 * count, 20]
    assert whole.values["ends"][-1] == round(0.95 * RATE)
    found = batch(whole, [2, 1])
    assert found["owner"].tolist() == [0] + count * [1] and found["input_features"].shape == (1 + count, 8, 20)
    assert int(found["attention_mask"][1:].sum()) in range(70, 70 + count)


def test_ten_minutes_are_windows_of_all_they_hold(shaped: Any) -> None:
    loud = wave(600)
    encoded = stems.Audio(whole=True).encode(table(wav(loud)), shaped("whisper", max_source_positions=250), Recipe(length=500))
    assert 120 <= int(encoded.values["windows"][1]) <= 240 and encoded.values["ends"][-1] == len(loud) and encoded.truncated == 0


def test_the_window_is_never_longer_than_the_backbones_positions(shaped: Any) -> None:
    assert batch(stems.Audio().encode(table(wav(wave(0.1))), shaped("whisper"), Recipe(length=3000)), [0])["input_features"].shape[2] == 20
    assert batch(stems.Audio().encode(table(wav(wave(0.1))), shaped("whisper"), Recipe(length=9)), [0])["input_features"].shape[2] == 8


def test_augmentation_is_drawn_from_its_generator_and_off_without_one(shaped: Any) -> None:
    encoded = stems.Audio().encode(table(wav(wave(0.2)), wav(wave(0.2, 3))), shaped("whisper"), RECIPE)
    plain = batch(encoded, [0, 1])["input_features"]
    one, same, other = (batch(encoded, [0, 1], random=np.random.default_rng(seed), strength=1.0)["input_features"] for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other) and not torch.equal(one, plain)
    assert torch.equal(batch(encoded, [0, 1], random=np.random.default_rng(0), strength=0.0)["input_features"], plain)


SHORTER = stems.Audio(whole=True, windows=(8, 12))


def test_a_sounds_window_is_the_shortest_that_holds_it(shaped: Any) -> None:
    rows = table(*(wav(wave(seconds)) for seconds in (0.05, 0.08, 0.081, 0.2, 0.7)))
    encoded = SHORTER.encode(rows, shaped("whisper"), RECIPE)
    count = int(np.diff(encoded.values["windows"])[4])
    assert encoded.alike and encoded.lengths.tolist() == [8, 8, 12, 20, 20 * count] and count >= 4
    found = SHORTER.batch(encoded, np.array([2]), random=None, strength=0.0)
    assert found["input_features"].shape == (1, 8, 12) and found["attention_mask"].sum() == 9
    assert SHORTER.batch(encoded, np.array([4]), random=None, strength=0.0)["input_features"].shape == (count, 8, 20)
    full = stems.Audio(whole=True).encode(rows, shaped("whisper"), RECIPE)
    assert not full.alike and full.lengths.tolist() == [20, 20, 20, 20, 20 * count]
    short = SHORTER.encode(rows, shaped("whisper"), Recipe(length=10))
    assert set(short.lengths[:2].tolist()) == {8} and short.lengths[2] == 10 and not (short.lengths[3:] % 10).any()


@dataclass(frozen=True)
class States:
    """A head that says every state."""

    reads: Reads = Reads("all")

    def build(self, backbone: Any, stem: Any, recipe: Recipe) -> torch.nn.Module:
        return Given()

    def decode(self, outputs: torch.Tensor) -> dict[str, Any]:
        return {"prediction": [state.tolist() for state in outputs]}


class Given(torch.nn.Module):
    def forward(self, features: Any) -> torch.Tensor:
        return features.x  # type: ignore[no-any-return]


def network(backbone: Any, stem: Any = SHORTER) -> Network:
    recipe = Recipe(length=20, budget=60, lora=Lora(rank=2, layers="last:1"))
    return Network(backbone, stem, cast("Any", States()), recipe, Known(train=table()))


def test_what_is_said_of_a_sound_does_not_depend_on_the_others(shaped: Any) -> None:
    whole = network(shaped("whisper", save=True))
    rows = table(*(wav(wave(seconds, number)) for number, seconds in enumerate((0.05, 0.2, 0.11, 0.07, 0.1, 0.04))))
    lone: Any = Alone()
    together = predict(whole, whole.prepare(rows, targets=False), lone)["prediction"]
    assert [len(one) for one in together] == [4, 10, 6, 4, 6, 4]
    for row, wanted in enumerate(together):
        (found,) = predict(whole, whole.prepare(rows.slice(row, 1), targets=False), lone)["prediction"]
        assert np.abs(np.array(found) - wanted).max() < 1e-5
    again = whole.prepare(rows, targets=False).encoded.lengths.tolist()
    assert again == [8, 20, 12, 8, 12, 8]  # the longest window is as long as before short ones were read


def test_what_frozen_layers_say_is_kept_a_window_as_long_as_it_is(shaped: Any, tmp_path: Path) -> None:
    whole = network(shaped("whisper", save=True))
    rows, lone = table(*(wav(wave(seconds)) for seconds in (0.05, 0.2, 0.11, 0.07, 0.1))), cast("Any", Alone())
    part = whole.prepare(rows, targets=False)
    fresh = predict(whole, part, lone)["prediction"]
    said = []
    for _ in range(2):  # cold, then warm
        part.prefix = open_or_fill(whole, part.encoded, fingerprint="x", start=2, say=lambda line: None, root=tmp_path / "kept", exact=True)
        assert part.prefix is not None and part.prefix.counts.tolist() == [4, 10, 6, 4, 6]
        said.append(predict(whole, part, lone)["prediction"])
    assert said[0] == said[1]
    assert all(np.abs(np.array(one) - other).max() < 1e-5 for one, other in zip(said[0], fresh, strict=True))


@pytest.mark.parametrize("how", ["slice", "stretch"])
def test_a_shorter_context_has_the_first_positions_or_all_pressed_together(shaped: Any, how: Any) -> None:
    backbone = shaped("whisper")
    old = backbone.structure.core.embed_positions.weight.detach().clone()
    shorten(backbone, 4, how)
    new = backbone.structure.core.embed_positions.weight
    assert new.shape == (4, 32) and not new.requires_grad
    if how == "slice":
        assert torch.equal(new, old[:4])
    else:
        centres = (torch.arange(4) + 0.5) * 10 / 4 - 0.5
        low = centres.floor().long()
        wanted = old[low] + (centres - low)[:, None] * (old[low + 1] - old[low])
        assert (new - wanted).abs().max() < 1e-6
    states = Encoder(backbone)({"input_features": torch.randn(2, 8, 8)}, Reads("all")).x
    assert states.shape == (2, 4, 32)


def test_a_context_that_is_no_shorter_changes_nothing(shaped: Any) -> None:
    backbone = shaped("whisper")
    features = torch.randn(1, 8, 20)
    before = Encoder(backbone)({"input_features": features}, Reads("all")).x
    table_ = backbone.structure.core.embed_positions
    shorten(backbone, 10, "slice")
    shorten(backbone, 99, "stretch")
    assert backbone.structure.core.embed_positions is table_
    assert torch.equal(Encoder(backbone)({"input_features": features}, Reads("all")).x, before)


def test_the_mean_is_over_the_states_in_which_there_is_sound(shaped: Any) -> None:
    backbone, stem = shaped("whisper"), stems.Audio()
    encoded = stem.encode(table(wav(wave(0.1))), backbone, RECIPE)
    stem.build(backbone, RECIPE, None)
    inputs = batch(encoded, [0])
    every = Encoder(backbone)(inputs, Reads("all"))
    assert every.mask is not None and every.mask.sum() == 5
    assert (Encoder(backbone)(inputs, Reads("mean")).x - every.x[:, :5].mean(1)).abs().max() < 1e-6


def test_a_backbone_that_reads_no_spectrogram_is_refused(shaped: Any) -> None:
    with pytest.raises(UsageError, match="does not read spectrograms: use one of modality audio"):
        stems.Audio().encode(table(wav(wave(0.1))), shaped("bert"), RECIPE)


def test_the_row_that_is_no_sound_is_named(shaped: Any) -> None:
    with pytest.raises(DataError, match=r"^Row r1 is silent"):
        stems.Audio().encode(table(wav(wave(0.1)), wav(0 * wave(0.1))), shaped("whisper"), RECIPE)
    with pytest.raises(DataError, match="There is no column 'audio' with sounds; there are id, text"):
        stems.Audio().encode(pa.table({"id": ["a"], "text": ["b"]}), shaped("whisper"), RECIPE)


def test_a_users_folder_of_sounds_has_a_label_a_folder(tmp_path: Path, shaped: Any) -> None:
    for label in ("yes", "no"):
        (tmp_path / label).mkdir()
        for number in range(10):
            (tmp_path / label / f"{number}.wav").write_bytes(wav(wave(0.1, number + 20 * (label == "no"))))
        (tmp_path / label / "notes.txt").write_text("not a sound")
    stem = stems.Audio()
    splits = data.Required().opened(str(tmp_path), {}, None, stem).load()
    assert sum(map(len, splits.tables.values())) == 20 and set(splits.tables["train"]["target"].to_pylist()) == {"yes", "no"}
    encoded = stem.fit(Known(train=splits.tables["train"])).encode(splits.tables["test"], shaped("whisper"), RECIPE)
    assert len(encoded.lengths) == len(splits.tables["test"])


def test_a_users_csv_names_files_and_what_is_said(tmp_path: Path, shaped: Any) -> None:
    for number in range(10):
        (tmp_path / f"{number}.wav").write_bytes(wav(wave(0.1, number)))
    lines = ["file,text,who", *(f"{number}.wav,word {number},{number % 5}" for number in range(10))]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    stem = stems.Audio()
    columns = {"audio": "file", "target": "text", "group": "who"}
    splits = data.Required().opened(str(tmp_path / "list.csv"), columns, None, stem).load()
    assert sum(map(len, splits.tables.values())) == 10
    assert len(stem.encode(splits.tables["train"], shaped("whisper"), RECIPE).lengths) == len(splits.tables["train"])
    (tmp_path / "3.wav").unlink()
    with pytest.raises(DataError, match=r"Row .*3\.wav cannot be read: No such file"):
        stem.encode(pa.concat_tables(splits.tables.values()), shaped("whisper"), RECIPE)
