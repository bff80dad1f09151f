"""What one training step costs: `python tests/benchmarks/step.py BACKBONE_FOLDER [--texts FILE.tsv.gz]`.

All variants train the same LoRA on every linear layer with the same AdamW and a linear head over the mean, on the same
examples, in interleaved rounds; the table shows medians. `--clock cpu --threads 1` is for a machine that others use too.
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fmhub.backbones.adapter import attach, trainable
from fmhub.backbones.encoder import Encoder
from fmhub.backbones.load import load
from fmhub.recipe import Lora, Recipe
from fmhub.task import Reads
from fmhub.training.batching import epoch_batches

BATCH = 32


@dataclass(frozen=True)
class Variant:
    name: str
    layers: str = "all"
    tokens: str = "mean"
    packed: bool = True
    sorted: bool = True
    pad: int = 0
    plain: bool = False
    """The canonical step: the whole model in train mode, its own forward."""
    prefix: bool = False


VARIANTS = (
    Variant("peft, dynamic padding", packed=False, sorted=False, plain=True),
    Variant("peft, padded to 128", packed=False, sorted=False, plain=True, pad=128),
    Variant("module path", packed=False),
    Variant("packed"),
    Variant("packed, first token", tokens="first"),
    Variant("packed, prefix, last:3", layers="last:3", prefix=True),
    Variant("packed, prefix, last:2", layers="last:2", prefix=True),
    Variant("packed, prefix, last:1", layers="last:1", prefix=True),
)


class Step:
    """One variant, ready: `step(i)` trains on its i-th batch."""

    def __init__(self, variant: Variant, folder: Path, ids: list[list[int]]) -> None:
        backbone = load(folder, sha256="")
        attach(backbone, Recipe(lora=Lora(layers=variant.layers)))
        self.variant, self.ids, self.encoder = variant, ids, Encoder(backbone)
        if not variant.packed:
            self.encoder.packed = None
        self.head = nn.Linear(backbone.width, 2)
        parameters = [*trainable(self.encoder).values(), *self.head.parameters()]
        self.optimiser = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
        self.parameters = parameters
        lengths = np.array([len(one) for one in ids])
        random = np.random.default_rng(0).permutation(len(ids))
        batches = epoch_batches(lengths, BATCH, 0, 0) if variant.sorted else np.split(random, range(BATCH, len(random), BATCH))
        self.batches = [self.inputs(rows[np.argsort(-lengths[rows], kind="stable")] if variant.sorted else rows) for rows in batches]
        self.start = backbone.layer_count - int(variant.layers.rpartition(":")[2]) if variant.prefix else 0
        self.hidden = [self.kept(batch) for batch in self.batches] if variant.prefix else [None] * len(self.batches)

    def inputs(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        length = self.variant.pad or max(len(self.ids[row]) for row in rows)
        ids = torch.zeros(len(rows), length, dtype=torch.long)
        for at, row in enumerate(rows):
            one = torch.tensor(self.ids[row][:length])
            ids[at, : len(one)] = one
        return {"input_ids": ids, "attention_mask": (ids > 0).long()}

    def kept(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        hidden, mask = self.encoder.prefix(batch, self.start)
        return hidden[mask]

    def step(self, index: int) -> None:
        batch = self.batches[index]
        if self.variant.plain:
            self.encoder.model.train()
            state, mask = self.encoder.model(**batch).last_hidden_state, batch["attention_mask"][..., None].float()
            x = (state * mask).sum(1) / mask.sum(1)
        else:
            self.encoder.train()
            x = self.encoder(batch, Reads(self.variant.tokens), hidden=self.hidden[index], start=self.start).x
        loss = nn.functional.cross_entropy(self.head(x), batch["input_ids"][:, 1] % 2)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)


def measure(steps: list[Step], rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """Median seconds of one pass over the examples, by variant."""
    seconds: dict[str, list[float]] = {step.variant.name: [] for step in steps}
    for number in range(rounds + 1):
        for one in steps:
            started = clock()
            for index in range(len(one.batches)):
                one.step(index)
            if number:  # the first round warms up
                seconds[one.variant.name].append(clock() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def texts(path: str | None, rows: int) -> list[str]:
    """The last column of a tsv, shuffled, or made-up texts of varied length."""
    random = np.random.default_rng(0)
    if path is None:
        return [" ".join(random.choice(["a", "day", "film", "not", "very", "good"], int(n))) for n in random.lognormal(3, 0.5, rows)]
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = [line.rstrip("\n").split("\t")[-1] for line in file][1:]
    return [lines[i] for i in random.permutation(len(lines))[:rows]]


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--texts")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--only", default="", help="variants whose name contains this")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    backbone = load(options.folder, sha256="")
    tokenizer = backbone.tokenizer()
    tokenizer.no_padding()
    tokenizer.enable_truncation(min(256, backbone.max_length))
    ids = [one.ids for one in tokenizer.encode_batch(texts(options.texts, options.rows))]
    limit = min(128, backbone.max_length)
    chosen = [
        replace(variant, pad=min(variant.pad, limit)) for variant in VARIANTS if options.only in variant.name or variant is VARIANTS[0]
    ]
    steps = [Step(variant, options.folder, ids) for variant in chosen]
    found = measure(steps, options.rounds, time.perf_counter if options.clock == "wall" else time.process_time)
    base = found[VARIANTS[0].name]
    print(f"{len(ids)} texts, {np.mean([len(one) for one in ids]):.1f} tokens on average, {options.threads} threads, {options.clock} time")
    for name, seconds in found.items():
        print(f"{name:<26} {len(ids) / seconds:9.1f} examples/s {base / seconds:7.2f}x")
    return found


if __name__ == "__main__":
    main()
