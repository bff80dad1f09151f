"""Speech: recognition in five languages, spoken commands, and your own recordings."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from fmhub import Recipe, Task, data, heads, hookimpl, stems
from fmhub.evaluation import baselines
from fmhub.recipe import Lora
from fmhub_speech import asterisk

fmhub_api = (1, 0)

WINDOW = 500
"""Frames of the window: five seconds."""


def recognition(language: str, name: str, backbone: str, prompt: tuple[str, ...], script: str, recipe: Recipe, suffix: str = "") -> Task:
    """Telephone prompts of one voice, written down."""
    columns = {"audio": "audio", "target": "target", "group": "group"}
    return Task(
        name=f"speech-recognition{suffix}",
        title=f"What is said, written down: {name}",
        summary=f"Telephone prompts of one professional voice, in training and test alike; --data takes a csv of audio and text in {name}.",
        data=data.rows(
            partial(asterisk.prompts, language), split=data.Random(test=0.2, validation=0.15), audio="audio", target="target", group="group"
        ),
        backbone=backbone,
        stem=stems.Audio(whole=True),
        head=heads.Transcription(prompt=prompt, script=script),
        metrics=("wer", "cer", "wer_exact", *(("wer_english",) if language == "en" else ())),
        recipe=recipe,
        baselines=(baselines.Untrained("zero-shot-30s", {"length": 3000}), baselines.Untrained("zero-shot-5s")),
        family="speech",
        licence=f"{asterisk.LICENCES[language]} ({asterisk.VOICES[language]})",
        source=f"asterisk-core-sounds-{language} 1.6.1",
        citation="The Asterisk project: core sounds 1.6.1.",
        group="words (prompts of the same words, or nearly, stay on one side)",
        slices=("length",),
        sample=data.rows(partial(asterisk.sample, language), split=data.Random(), **columns),
    )


@hookimpl
def fmhub_tasks() -> Iterator[Task]:
    tuned = Recipe(epochs=6, lr=1e-3, batch=16, budget=8000, length=WINDOW, patience=3, lora=Lora(rank=16, alpha=32))
    yield recognition("en", "English", "whisper-tiny-en", ("<|startoftranscript|>", "<|notimestamps|>"), "LATIN", tuned)
