"""What the training loop costs beside a bare PyTorch loop over the same batches: `python tests/benchmarks/loop.py BACKBONE_FOLDER`.

Both train the same network on the same rows with the same AdamW. They take turns with who is first, for a machine that gets slower or
faster within a round favours one; the median over pairs of rounds of the ratios' geometric mean is printed.
`--clock cpu` is for a machine that others use too.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from step import texts

from fmhub import heads, stems
from fmhub.backbones.adapter import trainable
from fmhub.backbones.load import load
from fmhub.backbones.products import fast_products
from fmhub.recipe import Recipe
from fmhub.task import Known
from fmhub.training import ranks
from fmhub.training.loop import Schedule, fit
from fmhub.training.network import Network, Part, select


def ready(folder: Path, rows: pa.Table, recipe: Recipe) -> tuple[Network, Part]:
    known = Known(train=rows)
    stem, head = stems.Text().fit(known), heads.Classification().fit(known, recipe)
    network = Network(load(folder, sha256=""), stem, head, recipe, known)
    return network, network.prepare(rows)


def ours(network: Network, part: Part) -> None:
    with tempfile.TemporaryDirectory() as place:
        fit(network, part, None, accelerator=ranks.accelerator("no"), checkpoint=Path(place) / "state", log=lambda *_: None)


@fast_products()
def bare(network: Network, part: Part) -> None:
    parameters, plan = list(trainable(network).values()), Schedule(part.encoded.lengths, network.recipe)
    optimiser = torch.optim.AdamW(parameters, lr=network.recipe.lr, fused=True)
    network.train()
    for step in range(plan.total):
        rows = plan.rows(step)
        optimiser.param_groups[0]["lr"] = plan.lr(step)
        loss, weight = network.head_spec.loss(network.outputs(part, rows), select(part.targets, rows, torch.device("cpu")), network.recipe)
        (loss / weight).backward()
        torch.nn.utils.clip_grad_norm_(parameters, network.recipe.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)


def main(arguments: list[str] | None = None) -> float:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    options = parser.parse_args(arguments)
    clock = time.perf_counter if options.clock == "wall" else time.process_time
    said = texts(None, options.rows)
    labels = np.random.default_rng(0).choice(["one", "other"], options.rows)
    rows = pa.table({"id": [str(n) for n in range(len(said))], "text": said, "target": labels})
    recipe, ratios = Recipe(epochs=1, patience=0, length=64), []
    for round_ in range(1 + 2 * options.pairs):  # the first one warms up
        seconds = {}
        for train in (ours, bare) if round_ % 2 else (bare, ours):
            network, part = ready(options.folder, rows, recipe)
            started = clock()
            train(network, part)
            seconds[train] = clock() - started
        ratios.append(seconds[ours] / seconds[bare])
    ratio = statistics.median(statistics.geometric_mean(ratios[i : i + 2]) for i in range(1, len(ratios), 2))
    print(f"{options.rows} texts, {options.pairs} pairs of rounds, {options.clock} time: the loop takes {ratio:.3f} of a bare one's")
    return ratio


if __name__ == "__main__":
    main()
