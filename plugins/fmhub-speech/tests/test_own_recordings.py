"""People's own recordings from csv or folder to record, report and predictions, on a tiny backbone; what cannot be used, in one line."""

import json
from dataclasses import replace
from pathlib import Path

import jiwer
import numpy as np
import pyarrow.parquet as pq
import pytest
import sklearn.metrics
import soundfile

import fmhub
from fmhub import DataError, hub
from fmhub.evaluation.metrics.transcripts import exact, folded
from fmhub.report import write
from fmhub.testing import data_checks, kit
from fmhub.testing.subject import Subject

RATE = 16000
WORDS = ("low", "high", "noise")


def sound(word: str, seconds: float = 0.5, seed: int = 0, rate: int = RATE) -> np.ndarray:
    random = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    waves = {"low": np.sin(2 * np.pi * 300 * t), "high": np.sin(2 * np.pi * 2500 * t), "noise": random.normal(0, 0.5, len(t))}
    return (0.3 * waves[word] + 0.01 * random.normal(size=len(t))).astype(np.float32)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> Path:
    """A random Whisper of one second and three words, of large enough weights that the sound is not lost beside the positions."""
    import torch
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
    from transformers import WhisperConfig, WhisperModel

    folder = tmp_path_factory.mktemp("whisper")
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(["<pad>", *WORDS])}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(f"<|{name}|>", special=True) for name in ("endoftext", "startoftranscript", "notimestamps")])
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=7, num_mel_bins=20, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, max_source_positions=50, max_target_positions=32,
        pad_token_id=0, bos_token_id=4, eos_token_id=4, decoder_start_token_id=5, init_std=0.2,
    )  # fmt: skip
    WhisperModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """A csv beside its 60 recordings by twelve speakers."""
    folder = tmp_path_factory.mktemp("clips")
    lines = ["file,text,who"]
    for number in range(60):
        said = [WORDS[number % 3]] if number % 2 else [WORDS[number % 3], WORDS[(number + 1) % 3]]
        wave = np.concatenate([sound(word, 0.4, number) for word in said])
        soundfile.write(folder / f"{number}.flac", wave, RATE)
        lines.append(f"{number}.flac,{' '.join(said).capitalize()}.,speaker {number // 5}")
    (folder / "clips.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


OPTIONS = {"set": {"epochs": 2, "batch": 8, "length": 100, "lr": 3e-3, "lora.layers": "all"}, "baseline": False}


@pytest.fixture(scope="module")
def written(backbone, clips, tmp_path_factory):
    """The record and the folder of a run on these recordings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FMHUB_HOME", str(tmp_path_factory.mktemp("home")))
        columns = {"audio": "file", "target": "text", "group": "who"}
        out = tmp_path_factory.mktemp("run") / "run"
        record = fmhub.run(
            "speech-recognition", backbone=str(backbone), data=str(clips / "clips.csv"), columns=columns, output=str(out), **OPTIONS
        )
        yield record, out


def test_a_csv_of_recordings_is_learnt_from_and_scored_as_jiwer_scores_it(written):
    record, out = written
    rows = [row for row in pq.read_table(out / "predictions.parquet").to_pylist() if row["split"] == "test"]
    true, said = [row["target"] for row in rows], [row["prediction"] for row in rows]
    scores = {name: score["value"] for name, score in record["scores"]["test"].items()}
    assert scores["wer"] == pytest.approx(jiwer.wer(list(map(folded, true)), list(map(folded, said))), abs=1e-6)
    assert scores["cer"] == pytest.approx(jiwer.cer(list(map(folded, true)), list(map(folded, said))), abs=1e-6)
    assert record["units"]["wer"] == "errors a word, texts folded by fold-1"
    assert scores["wer_exact"] == pytest.approx(jiwer.wer(list(map(exact, true)), list(map(exact, said))), abs=1e-6)


def test_no_speaker_crosses_a_split(written, clips):
    rows = pq.read_table(written[1] / "predictions.parquet").to_pylist()
    sides = {side: {row["group"] for row in rows if row["split"] == side} for side in ("validation", "test")}
    assert sides["test"] and sides["validation"] and not sides["test"] & sides["validation"]
    assert len(rows) < 60 and len(sides["test"] | sides["validation"]) < 12


def test_the_check_finds_a_speaker_who_is_in_declared_parts_of_both_kinds(clips):
    lines = (clips / "clips.csv").read_text(encoding="utf-8").splitlines()
    for name, part in (("train", lines[:41]), ("test", [lines[0], *lines[39:]])):  # speaker 7's last two are in both parts
        (clips / f"{name}.csv").write_text("\n".join(part) + "\n", encoding="utf-8")
    columns = {"audio": "file", "target": "text", "group": "who"}
    task, plugin = hub.task("fmhub-speech:speech-recognition")
    own = task.data.opened(str(clips / "train.csv"), columns, str(clips / "test.csv"), task.stem)
    outcome = kit.judged(data_checks.splits_disjoint, Subject(plugin, replace(task, sample=own), clips))
    assert outcome.ok is False and "Group 'speaker 7' is both in train and in test" in outcome.figure


def test_the_report_has_spectrograms_and_aligned_errors(written):
    page = write(written[1]).read_text(encoding="utf-8")
    assert "Worst mistakes" in page and "<del>" in page and "<ins>" in page and "data:image/png;base64," in page


def files(folder: Path) -> dict[str, Path]:
    """The same second as people have it."""
    from fmhub.stems import sounds

    wave = sound("low", 1.0)
    made = {
        "plain.wav": (wave, RATE, None), "deep.wav": (wave, RATE, "PCM_24"), "float.wav": (wave, RATE, "FLOAT"),
        "a.flac": (wave, RATE, None), "a.ogg": (wave, RATE, "VORBIS"), "opus.ogg": (wave, RATE, "OPUS"), "a.mp3": (wave, RATE, None),
        "telephone.wav": (sound("low", 1.0, rate=8000), 8000, "ULAW"),
        "stereo.wav": (np.stack([sound("low", 1.0, rate=44100)] * 2, 1), 44100, "PCM_24"),
        "short.wav": (wave[:160], RATE, None), "ten-minutes.flac": (np.tile(sound("low", 1.0), 600), RATE, None),
    }  # fmt: skip
    for name, (samples, rate, subtype) in made.items():
        soundfile.write(folder / name, samples, rate, subtype=subtype)
    (folder / "a.g722").write_bytes(bytes(range(256)) * 40)
    assert set(sounds.FORMATS) >= {"WAV", "FLAC", "OGG"}
    return {name: folder / name for name in (*made, "a.g722")}


def test_predict_writes_down_whatever_people_have(written, tmp_path):
    predictor = fmhub.load(written[1])
    adapted = [module for module in predictor._network.modules() if hasattr(module, "lora_A")]
    assert adapted and all(module.merged for module in adapted)
    given = files(tmp_path)
    found = {name: predictor.predict([str(path)])[0]["prediction"] for name, path in given.items()}
    assert all(isinstance(text, str) and text for text in found.values())
    assert set(" ".join(found.values()).split()) <= {*WORDS, "<pad>"}
    assert len(found["ten-minutes.flac"].split()) >= 600  # a word a window at least
    assert predictor.predict([given["plain.wav"].read_bytes()])[0]["prediction"] == found["plain.wav"]


def film(path: Path, container: str) -> None:
    """A second of grey pictures; an avi begins as a wav does."""
    import av

    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for shade in range(25):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), shade, np.uint8), format="rgb24")))
        file.mux(stream.encode())


def test_predict_says_in_one_line_what_it_cannot_read(written, tmp_path):
    predictor = fmhub.load(written[1])
    with soundfile.SoundFile(tmp_path / "empty.wav", "w", RATE, 1):
        pass
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(tmp_path / "nan.wav", np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT")
    film(tmp_path / "film.wav", "mp4")
    film(tmp_path / "riff.wav", "avi")
    cases = {
        "empty.wav": "0 seconds", "silent.wav": "silent", "nan.wav": "not numbers", "film.wav": "not a sound", "riff.wav": "not a sound",
        "gone.wav": "No such",
    }  # fmt: skip
    for name, said in cases.items():
        with pytest.raises(DataError, match=said) as caught:
            predictor.predict([str(tmp_path / name)])
        assert "\n" not in str(caught.value) and name in str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("gone.flac,Low.,x", r"gone\.flac\) cannot be read: No such file"),
        ("0.flac,,x", "no label or target"),
        ("0.flac,Ещё раз,x", "is written in Cyrillic letters; this task writes Latin ones"),
        (",Low.,x", "a sound is a path or bytes"),
    ],
)
def test_a_row_of_the_csv_that_cannot_be_used_is_named(backbone, clips, line, said):
    path = clips / "broken.csv"
    path.write_text((clips / "clips.csv").read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=said) as caught:
        fmhub.run("speech-recognition", backbone=str(backbone), data=str(path), columns={"audio": "file", "target": "text"}, **OPTIONS)
    assert "\n" not in str(caught.value)


def test_clips_that_are_all_longer_than_the_window_are_refused(backbone, clips):
    options = {**OPTIONS, "set": {**OPTIONS["set"], "length": 20}}
    with pytest.raises(DataError, match=r"examples of train are longer than 20 frames \(recipe.length\), and nothing can be learnt"):
        fmhub.run(
            "speech-recognition",
            backbone=str(backbone),
            data=str(clips / "clips.csv"),
            columns={"audio": "file", "target": "text"},
            **options,
        )


def test_a_folder_of_sounds_per_label_is_run_and_told_apart_by_cepstra(backbone, tmp_path):
    for word in WORDS:
        (tmp_path / "sounds" / word).mkdir(parents=True)
        for number in range(16):
            soundfile.write(tmp_path / "sounds" / word / f"{number}.wav", sound(word, 0.3 + number / 50, number), RATE)
    options = {"length": 100, "epochs": 6, "batch": 8}
    record = fmhub.run("spoken-command", backbone=str(backbone), data=str(tmp_path / "sounds"), set=options, output=str(tmp_path / "run"))
    assert record["scores"]["test"]["accuracy"]["n"] == record["data"]["test"] > 0
    assert [row["name"] for row in record["baselines"]] == ["majority", "mfcc-svm", "frozen-logistic"]
    mfcc = next(row for row in record["baselines"] if row["name"] == "mfcc-svm")
    assert mfcc["scores"]["test"]["accuracy"]["value"] > 0.8
    rows = [row for row in pq.read_table(tmp_path / "run" / "predictions.parquet").to_pylist() if row["split"] == "test"]
    true, said = [row["target"] for row in rows], [row["prediction"] for row in rows]
    scores = {name: score["value"] for name, score in record["scores"]["test"].items()}
    assert scores["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(true, said), abs=1e-6) and scores["accuracy"] > 0.8
    assert scores["f1_macro"] == pytest.approx(sklearn.metrics.f1_score(true, said, average="macro"), abs=1e-6)
    shares = np.array([row["scores"] for row in rows], np.float32)
    assert scores["log_loss"] == pytest.approx(sklearn.metrics.log_loss(true, shares, labels=sorted(WORDS)), abs=1e-6)
    predictor = fmhub.load(tmp_path / "run")
    soundfile.write(tmp_path / "new.ogg", sound("high", 0.6, 99, rate=44100), 44100)
    (said,) = predictor.predict([str(tmp_path / "new.ogg")])
    assert said["prediction"] == max(said["scores"], key=said["scores"].get) and set(said["scores"]) == set(WORDS)
    assert json.loads((tmp_path / "run" / "plan.json").read_text())["head"]["labels"] == sorted(WORDS)
