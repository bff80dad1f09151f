"""Classification of pictures: emoji in two styles, silhouettes, and your own folders."""

from __future__ import annotations

from collections.abc import Iterator

from fmhub import Recipe, Task, data, heads, hookimpl, stems
from fmhub.evaluation import baselines
from fmhub.recipe import Lora
from fmhub.task import Reads
from fmhub_vision import emoji, samples, silhouettes
from fmhub_vision.pixels import PixelLogistic

fmhub_api = (1, 0)

LABELLED = ("accuracy", "f1_macro", "top3_accuracy", "log_loss", "ece")


BASELINES = (baselines.Majority(), PixelLogistic(), baselines.FrozenLogistic())


@hookimpl
def fmhub_tasks() -> Iterator[Task]:
    picture, silhouette = stems.Image(size=112), stems.Image(size=56)
    yield Task(
        name="image-classification",
        title="Category of an emoji, or your own folder of pictures",
        summary="Which of nine categories an emoji belongs to, also in another style of drawing; --data DIR takes DIR/LABEL/*.jpg.",
        data=data.rows(emoji.pictures, split=data.Given(), image="image", target="target"),
        backbone="dinov2-small",
        stem=picture,
        head=heads.Classification(labels=emoji.LABELS, reads=Reads("first")),
        metrics=LABELLED,
        recipe=Recipe(epochs=6, lr=1e-3, lora=Lora(layers="last:4")),
        baselines=BASELINES,
        family="vision",
        licence="MIT (the packages); pictures CC-BY 4.0 (Twitter) and Apache-2.0 (Google); fetched, not shipped",
        source="npm emoji-datasource-twitter 16.0.0 and emoji-datasource-google 16.0.0",
        citation="The Unicode Consortium: Unicode Emoji 16.0 (categories). C. Henderson: emoji-data.",
        group="motif (an emoji with its variants of gender)",
        sample=data.rows(samples.emoji_like, image="image", target="target"),
    )
    yield Task(
        name="image-silhouettes",
        title="Kind of animal from a silhouette of 28 x 28 pixels",
        summary="Bear, bird, cat, cow, dog, elephant, giraffe, horse, sheep or zebra.",
        data=data.rows(silhouettes.pictures, split=data.Random(), image="image", target="target"),
        backbone="dinov2-small",
        stem=silhouette,
        head=heads.Classification(labels=silhouettes.LABELS, reads=Reads("first")),
        metrics=LABELLED,
        recipe=Recipe(epochs=3, lr=1e-3, lora=Lora(layers="last:4")),
        baselines=BASELINES,
        family="vision",
        licence="MIT",
        source="animal-mnist 0.4, animal_mnist/data/Animal_MNIST",
        citation="S. Mohammadi: Animal-MNIST, an extension to MNIST, 2025.",
        group="silhouette with its near-duplicates and mirror images",
        sample=data.rows(samples.silhouettes_like, image="image", target="target"),
    )
