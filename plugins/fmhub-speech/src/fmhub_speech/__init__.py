"""Speech: recognition in five languages, spoken commands, and your own recordings."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from fmhub import Recipe, Task, data, heads, hookimpl, stems
from fmhub.evaluation import baselines
from fmhub.recipe import Lora
from fmhub.task import Reference
from fmhub_speech import asterisk, kinds
from fmhub_speech.mfcc import MfccSvm

fmhub_api = (1, 0)

WINDOW = 500
"""Frames of the window: five seconds, in English; the other languages have ten, since half of their words are in longer prompts."""
ENGLISH = Recipe(epochs=2, lr=1e-3, batch=8, budget=8000, length=WINDOW, patience=3, lora=Lora(rank=16, alpha=32))
MANY = Recipe(epochs=2, lr=1e-3, batch=8, budget=8000, length=2 * WINDOW, patience=3, lora=Lora(rank=16, alpha=32, layers="last:4"))
"""Whisper base costs three times as much, so its first two layers are not adapted; windows are not cached."""
WINDOWS = (200, 300, 500, 700)
"""Frames of the shorter windows that a prompt may have there: half of them last a second, and ten cost five times two."""

REFERENCE = {"en": 0.0647, "es": 0.1183, "fr": 0.1470, "it": 0.1159, "ru": 0.1342}
"""Word error rates of the committed reference runs; with nothing written it is 1."""


def recognition(suffix: str, name: str, script: str = "LATIN") -> Task:
    """Telephone prompts of one voice, written down."""
    language = suffix.removeprefix("-") or "en"
    english = language == "en"
    windows = () if english else WINDOWS
    whole: dict[str, tuple[int, ...]] = {"windows": ()}
    named = () if english else (f"<|{language}|>", "<|transcribe|>")
    columns = {"audio": "audio", "target": "target", "group": "group"}
    return Task(
        name=f"speech-recognition{suffix}",
        title=f"What is said, written down: {name}",
        summary=f"Telephone prompts of one professional voice, in training and test alike; --data takes a csv of audio and text in {name}.",
        data=data.rows(partial(asterisk.prompts, language), split=data.Random(test=0.2, validation=0.15), **columns),
        backbone="whisper-tiny-en" if english else "whisper-base",
        stem=stems.Audio(whole=True, windows=windows),
        head=heads.Transcription(prompt=("<|startoftranscript|>", *named, "<|notimestamps|>"), script=script),
        metrics=("wer", "cer", "wer_exact", *(("wer_english",) if english else ())),
        recipe=ENGLISH if english else MANY,
        baselines=(
            baselines.Untrained("zero-shot-30s", {"length": 3000}, whole),
            baselines.Untrained(f"zero-shot-{5 if english else 10}s", {}, whole),
        ),
        version="1" if english else "2",
        family="speech",
        licence=f"{asterisk.LICENCES[language]} ({asterisk.VOICES[language]})",
        source=f"asterisk-core-sounds-{language} 1.6.1",
        citation="The Asterisk project: core sounds 1.6.1.",
        group="words (prompts of the same words, or nearly, stay on one side)",
        references=(Reference("wer", 1.0, REFERENCE[language]),) if language in REFERENCE else (),
        slices=("length",),
        sample=data.rows(partial(asterisk.sample, language), split=data.Random(), **columns),
    )


@hookimpl
def fmhub_tasks() -> Iterator[Task]:
    yield recognition("", "English")
    yield recognition("-es", "Spanish")
    yield recognition("-fr", "French")
    yield recognition("-it", "Italian")
    yield recognition("-ru", "Russian", "CYRILLIC")
    columns = {"audio": "audio", "label": "target", "group": "group"}
    yield Task(
        name="spoken-command",
        title="The kind of a short utterance, or your own folder of sounds",
        summary="A letter, number, ordinal, date, codeword or phrase in one voice, in words not trained on; --data takes DIR/LABEL/*.",
        data=data.rows(kinds.utterances, split=data.Random(test=0.3, validation=0.15), **columns),
        backbone="whisper-tiny-en",
        stem=stems.Audio(),
        head=heads.Classification(labels=kinds.LABELS),
        metrics=("accuracy", "f1_macro", "log_loss", "ece"),
        recipe=Recipe(epochs=12, lr=1e-3, batch=16, budget=4800, length=150, patience=4, lora=Lora(rank=8)),
        baselines=(baselines.Majority(), MfccSvm(), baselines.FrozenLogistic()),
        family="speech",
        licence=f"{asterisk.LICENCES['en']} ({asterisk.VOICES['en']})",
        source="asterisk-core-sounds-en 1.6.1",
        citation="The Asterisk project: core sounds 1.6.1.",
        group="words (the same word in two prompts stays on one side)",
        references=(Reference("accuracy", 0.2632, 0.7602),),
        sample=data.rows(kinds.sample, split=data.Random(), **columns),
    )
