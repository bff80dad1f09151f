"""Texts finished in a style, and answers: the right one among others, or a part of a passage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from fmhub import Lora, Recipe, Reference, Task, data, heads, hookimpl, stems
from fmhub.evaluation import baselines
from fmhub_generation import chatterbot, samples
from fmhub_generation.beginnings import Beginnings, Texts
from fmhub_generation.offered import Offered, Pairs
from fmhub_generation.similar import TfidfSimilarity
from fmhub_generation.squad import ByPassage, Questions
from fmhub_generation.window import Window

fmhub_api = (1, 0)


@hookimpl
def fmhub_tasks() -> Iterator[Task]:
    yield Task(
        name="finish-text",
        title="A text finished in the style of others (user-interface strings)",
        summary="A small language model learns how LibreOffice words its menus and help; your own texts with --data texts.txt.",
        data=strings("data/strings.csv.gz"),
        backbone="smollm2-135m",
        stem=stems.Prose(),
        head=heads.Continuation(),
        metrics=("perplexity", "bits_per_byte", "next_token", "chrf"),
        recipe=Recipe(epochs=2, lr=2e-3, batch=16, budget=1024, length=48, lora=Lora(alpha=16, layers="last:4")),
        baselines=(baselines.Untrained("frozen"), baselines.NGram()),
        family="generation",
        licence="MPL-2.0, (c) LibreOffice contributors",
        source="Debian libreoffice-l10n-* 4:7.4.7, bundled; see data/ORIGIN.md",
        citation="LibreOffice 7.4.7, The Document Foundation and its contributors",
        group="texts that are near-duplicates",
        references=(Reference("perplexity", 209.3, 89.8),),
        sample=strings("data/sample.csv"),
    )
    yield Task(
        name="answer",
        title="The right answer among ten (small talk, trivia, help with computers)",
        summary="Which of several answers belongs to a question; your own pairs with --data pairs.csv --columns question=q,answer=a.",
        data=offered(chatterbot.pairs),
        stem=stems.Choices(),
        head=heads.Choice(),
        metrics=("mrr", "hr_1", "hr_5"),
        recipe=Recipe(epochs=2, lr=1e-3, batch=16, length=48, lora=Lora(alpha=16, layers="last:3")),
        baselines=(baselines.Untrained("frozen"), TfidfSimilarity()),
        family="generation",
        licence="BSD (chatterbot-corpus); fetched, not shipped",
        source="chatterbot-corpus 1.3.3, chatterbot_corpus/data/english/*.yml",
        citation="G. Cox and contributors: ChatterBot Language Training Corpus 1.3.3, 2026.",
        group="near-duplicate questions and equal answers",
        redistribute=False,
        references=(Reference("mrr", 0.293, 0.9306),),
        sample=offered(samples.talk),
    )
    yield Task(
        name="find-answer",
        title="The answer to a question inside a passage: your own, as SQuAD has them",
        summary="fmhub run find-answer --data squad.json (SQuAD 1.1 or 2.0), or a table with question, passage and answer.",
        data=Questions(),
        stem=stems.Excerpt(),
        head=heads.Span(),
        metrics=("answer_f1", "exact_match"),
        recipe=Recipe(epochs=2, lr=1e-3, batch=16, length=256),
        baselines=(Window(),),
        family="generation",
        licence="yours",
        source="--data",
        group="passage",
        sample=Questions(made_up()),
    )


def made_up() -> data.Data:
    """Questions on made-up passages."""
    roles = {name: name for name in ("question", "passage", "target")}
    return data.rows(samples.passages, split=ByPassage(), fields=("question", "passage"), **roles)


def offered(pairs: Callable[[], Any]) -> Pairs:
    """Pairs, split, with other answers beside the right one."""
    made = data.rows(pairs, split=Offered(), fields=("question", "candidates"), question="question", answer="answer", target="answer")
    return Pairs(made)


def strings(path: str) -> Texts:
    """Bundled texts, cut and split."""
    whole = data.csv(path, package=__name__, split=Beginnings(), text="text", target="text")
    return Texts(replace(whole, fields=("text", "rest")))
