"""Which item a user meets next: on MovieLens-100k, and on your own events."""

from __future__ import annotations

from collections.abc import Iterator

from fmhub import Recipe, Task, data, heads, hookimpl, stems
from fmhub.evaluation import baselines
from fmhub.recipe import Lora
from fmhub.task import Reads, Reference
from fmhub_recommendation import movielens, samples

fmhub_api = (1, 0)


@hookimpl
def fmhub_tasks() -> Iterator[Task]:
    yield Task(
        name="next-item",
        title="The film that a viewer rates next (MovieLens-100k)",
        summary="Ranks all films that a person has not rated by what was rated so far, in order; every person's last one is the test.",
        data=data.Histories(data.rows(movielens.ratings)),
        stem=stems.Events(),
        head=heads.Ranking(reads=Reads("all", layers=(-5,))),
        metrics=("ndcg_10", "hr_10", "hr_5", "hr_1", "mrr", "coverage"),
        recipe=Recipe(epochs=6, patience=3, lr=1e-3, length=50, batch=16, dropout=0.2, augment=1.0, weight_decay=0.1, lora=Lora(rank=8)),
        baselines=(
            baselines.Popularity(),
            baselines.ItemKNN(),
            baselines.Ease(),
            baselines.Ease(decays=(0.9, 0.8, 0.7), name="ease-recent"),
            baselines.WindowedMarkov(),
            baselines.WindowedMarkov(both=True, discounts=(0.0, 0.25, 0.5), name="markov-both-ways"),
        ),
        references=(Reference("ndcg_10", 0.0449, 0.1310), Reference("hr_10", 0.0859, 0.2354)),
        family="recommendation",
        licence="research only, no redistribution: fetched, never shipped or copied into runs",
        source="recbole 1.2.1, recbole/dataset_example/ml-100k (GroupLens: ml-100k)",
        citation="F. M. Harper, J. A. Konstan: The MovieLens Datasets: History and Context. ACM TiiS 5(4), 2015.",
        redistribute=False,
        slices=("target_seen",),
        sample=data.Histories(data.rows(samples.events), window=20),
    )
