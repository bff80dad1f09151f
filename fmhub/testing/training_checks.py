"""Checks of stem, head and recipe: that they learn what is there, learn nothing that is not, and do the same again."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fmhub.backbones.adapter import kept, load_into, save, trainable
from fmhub.data.parts import limit
from fmhub.evaluation import metrics
from fmhub.recipe import override
from fmhub.testing import Seen
from fmhub.testing.chance import Chance, gain
from fmhub.testing.subject import Fixed, Subject, canonical
from fmhub.training.loop import fit
from fmhub.training.network import Network
from fmhub.training.plan import describe, recipe_from, spec_from
from fmhub.training.tables import of_split

BATCH, STEPS, HEAD_LR = 8, 120, 1e-2
SECONDS = 60


class _Enough(Exception):
    pass


def overfits_one_batch(it: Subject) -> Seen:
    """Stem, adapter and head together learn eight examples by heart: the loss falls to a quarter.

    On frozen layers a small head takes larger steps than its recipe says, and a deep one may not: either will do.
    """
    own = it.task.recipe.lr
    rates = [max(own, HEAD_LR), own] if it.task.recipe.lora.layers == "head" else [own]
    seen: Seen = (False, "")
    for number, rate in enumerate(dict.fromkeys(rates)):
        if not seen[0]:
            seen = _learnt_by_heart(it, rate, f"batch-{number}")
    return seen


def _learnt_by_heart(it: Subject, rate: float, name: str) -> Seen:
    few = limit(it.splits.tables["train"], BATCH)
    rows = pa.concat_tables([few] * (STEPS // 10))
    changes: dict[str, Any] = {"epochs": 10, "batch": len(few), "accumulate": 1, "schedule": "constant", "warmup": 0, "weight_decay": 0}
    network = it.network(**changes, lr=rate, dropout=0, augment=0, label_smoothing=0, l1=0)
    network.to(it.accelerator.device)
    losses: dict[int, float] = {}

    def log(step: int, steps: int, values: dict[str, float], rate: float) -> None:
        losses[step] = values["loss"]
        if values["loss"] <= 0.1 * max(losses.values()):
            raise _Enough

    state = it.folder / name / "state.safetensors"
    with contextlib.suppress(_Enough):
        fit(network, network.prepare(rows), None, accelerator=it.accelerator, checkpoint=state, log=log)
    first, least = next(iter(losses.values())), min(losses.values())
    return least <= 0.25 * first or least < 0.02, f"loss {first:.3g} -> {least:.3g} in {max(losses)} steps"


def shuffled_labels_at_the_floor(it: Subject) -> Seen:
    """Trained on targets dealt out at random, it scores on the true ones as its own predictions in any other order do.

    A network that can tell examples apart before any training (by what the backbone says of titles, by what a translation copies)
    may know that much, and no more: the paired 95 % interval of what dealt targets taught it reaches down to nothing.
    """
    if it.is_likelihood:
        return None, "a likelihood is learnt from no labels"
    tables = {**it.splits.tables, **{name: _dealt(it.splits.tables[name]) for name in ("train", "validation")}}
    data = Fixed(replace(it.splits, tables=tables))

    def after(epochs: float, name: str) -> Path:
        task = replace(it.task, data=data, recipe=override(it.task.recipe, {"epochs": epochs}))
        return it.run(task, name, baseline=False)[1]

    taught = after(min(2, it.task.recipe.epochs), "shuffled")
    chance = Chance.of(it, taught)
    if chance.deviations <= 4:
        return True, f"{chance.value:.3f}, by chance {chance}"
    untaught = after(0, "untaught")
    before, (low, high) = Chance.of(it, untaught), gain(it, taught, untaught)
    figure = f"{chance.value:.3f}, before any training {before.value:.3f}, gain [{low:+.3f}, {high:+.3f}], by chance {chance}"
    return chance.deviations <= before.deviations or low <= 0, figure


def _dealt(table: pa.Table) -> pa.Table:
    """The targets dealt out at random, and with them what a row's `history` names: each event is the target of those before it."""
    target, past = table["target"].combine_chunks(), None
    pool = [target]
    if "history" in table.column_names:
        past = table["history"].combine_chunks()
        pool.append(past.flatten())
    values = pa.concat_arrays(pool)
    values = values.take(pa.array(np.random.default_rng(7).permutation(len(values))))
    table = table.set_column(table.column_names.index("target"), "target", values[: len(table)])
    if past is None:
        return table
    offsets = pa.array(np.concatenate([[0], np.cumsum(past.value_lengths().to_numpy())]), pa.int32())
    return table.set_column(table.column_names.index("history"), "history", pa.ListArray.from_arrays(offsets, values[len(table) :]))


def beats_the_floor(it: Subject) -> Seen:
    """The task's recipe on its sample does better than an answer that ignores the input; baselines are shown, never required."""
    record, folder = it.on_sample
    chance = Chance.of(it, folder)
    theirs = {row["name"]: (row["scores"]["test"][record["primary"]]["value"], row["difference"]["value"]) for row in record["baselines"]}
    shown = [f"{name} {value:.3f} (ours {gap:+.3f})" for name, (value, gap) in theirs.items()]
    figure = "; ".join([f"{record['primary']} {chance.value:.3f}, floor {chance.floor:.3f}", *shown])
    return (None if it.declared.expects == "chance" else chance.beaten), figure


def same_seed_same_bits(it: Subject) -> Seen:
    """Another process with the same seed ends in the same trained bits and predictions."""
    there = it.again.get("digest")
    if there is None:
        return False, f"the other process did not finish: {it.again['error']}"
    here = it.digest(it.trained)
    return here == there, here[:12] + ("" if here == there else f", in another process {there[:12]}")


def resume_is_no_difference(it: Subject) -> Seen:
    """A training that was killed and went on ends in the same bits as one that was not."""
    whole, resumed = it.digest(it.trained), it.digest(it.short("resumed", interrupt=True))
    return whole == resumed, whole[:12] + ("" if whole == resumed else f", resumed {resumed[:12]}")


def adapter_round_trips(it: Subject) -> Seen:
    """What is saved of stem, head and adapter, read back, predicts the same bits."""
    network, path = it.trained, it.folder / "adapter" / "adapter.safetensors"
    told = {"stem": describe(network.stem_spec), "head": describe(network.head_spec), "recipe": describe(network.recipe)}
    save(path, kept(network), told)
    read = json.loads(json.dumps(told))
    stem, head = spec_from(read["stem"], it.task.stem), spec_from(read["head"], it.task.head)
    other = Network(it.load(), stem, head, recipe_from(read["recipe"]))
    load_into(other, path)
    other.to(it.accelerator.device)
    same = canonical(it.predictions(network, it.few)) == canonical(it.predictions(other, it.few))
    size = sum(parameter.numel() for parameter in trainable(network).values())
    return same, f"{size} trained numbers, {path.stat().st_size / 1e6:.1f} MB" + ("" if same else ": other predictions")


def blind_to_targets(it: Subject) -> Seen:
    """Predictions are bit-equal whatever stands in `target`, and without it."""
    rows = it.few
    if "target" in it.trained.stem_spec.fields:
        return False, "the stem reads the column target"
    turned = rows["target"].combine_chunks().take(pa.array(np.roll(np.arange(len(rows)), 1)))
    changed = rows.set_column(rows.column_names.index("target"), "target", turned)
    one, two = (canonical(it.predictions(it.trained, table)) for table in (rows, changed))
    if one != two:
        return False, "other targets, other predictions: the stem reads the answer"
    same = one == canonical(it.predictions(it.trained, rows.drop_columns(["target"])))
    return same, f"{len(rows)} rows, bit-equal" if same else "other predictions where there is no target"


def sockets_closed(it: Subject) -> Seen:
    """Loading the plugin and its data, training and predicting open no socket."""
    again: dict[str, Any] = it.again
    if again["sockets"]:
        return False, f"it tried {again['sockets'][0]}"
    return not again["error"], again["error"] or "none was tried"


def runs_in_a_minute(it: Subject) -> Seen:
    """`fmhub run TASK --limit 50`, on the data that are checked. Time that a busy machine gave to others does not count."""
    began, worked = time.monotonic(), time.process_time()
    record, folder = it.run(it.task, "limited", limit=50)
    seconds = min(time.monotonic() - began, time.process_time() - worked)
    name = metrics.get(it.task.metrics[0]).name
    scored = of_split(_predictions(folder), "test")
    return seconds < SECONDS, f"{seconds:.1f} s, {name} {record['scores']['test'][name]['value']:.3f} over {len(scored)} rows"


def _predictions(folder: Any) -> pa.Table:
    from fmhub.runs.folder import read_table

    return read_table(folder / "predictions.parquet")
