"""Translation of user-interface strings from English, and of your own pairs of lines."""

from __future__ import annotations

from collections.abc import Iterator

from fmhub import Lora, Recipe, Task, data, heads, hookimpl, stems
from fmhub.task import Reference
from fmhub_translation.bitext import Bitext, BySource
from fmhub_translation.memory import Copy, Memory, Phrases

fmhub_api = (1, 0)

LANGUAGES = {"fr": "French", "de": "German", "es": "Spanish", "zh": "Chinese"}

REFERENCE = {"de": (19.73, 61.91), "es": (23.93, 69.1), "fr": (25.53, 70.93), "zh": (5.18, 34.39)}
"""chrF of the source as it is and of the committed reference run, on the test part."""


@hookimpl
def fmhub_tasks() -> Iterator[Task]:
    for code, language in LANGUAGES.items():
        yield Task(
            name=f"translate-en-{code}",
            title=f"English user-interface strings into {language}",
            summary=f"Menus, messages and help of LibreOffice into {language}, placeholders kept; your own pairs with --data pairs.tsv.",
            data=pairs(f"data/en-{code}.tsv.gz", code),
            stem=stems.Passage(),
            head=heads.Translation(language=code, pieces=8000, depth=1, beams=2),
            metrics=("chrf", "bleu_zh" if code == "zh" else "bleu", "marks_kept"),
            references=(Reference("chrf", *REFERENCE[code]),) if code in REFERENCE else (),
            recipe=Recipe(epochs=0.15, lr=1e-3, length=96, lora=Lora(alpha=16, layers="last:2")),
            baselines=(Copy(), Memory(), Phrases()),
            family="translation",
            licence="MPL-2.0, (c) LibreOffice contributors",
            source="Debian libreoffice-l10n-* 4:7.4.7, bundled; see data/ORIGIN.md",
            citation="LibreOffice 7.4.7, The Document Foundation and its translators",
            group="sources that are near-duplicates",
            sample=pairs(f"data/sample-{code}.tsv", code, test=0.2, validation=0.15),
        )


def pairs(path: str, code: str, test: float = 0.12, validation: float = 0.06) -> Bitext:
    """Bundled pairs, split by source."""
    rule = BySource(code, test, validation)
    return Bitext(data.csv(path, package=__name__, delimiter="\t", quote=False, split=rule, source="source", target="target"))
