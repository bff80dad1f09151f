"""How scores, times and sizes look on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click


def summary(record: Mapping[str, Any]) -> None:
    """The last lines of a run: its name, its score and the baselines' with intervals, rate and time."""
    name, cost = record["primary"], record["cost"]
    best = record["scores"]["test"][name]
    rows = [("", record["task"]["name"], best, None)]
    rows += [("baseline", row["name"], row["scores"]["test"][name], row["difference"]) for row in record["baselines"]]
    click.echo(f"run       {record['id']}")
    click.echo(f"{name:<9} {best['n']} test examples, 95 % intervals")
    for kind, title, score, gap in rows:
        line = f"{kind or 'adapter':<9} {title:<22} {interval(score)}"
        click.echo(line + (f"   adapter {_verdict(gap, record)}: {interval(gap, sign=True)}" if gap else ""))
    for split, scores in record["scores"].items():
        if split.startswith("shift:"):
            click.echo(f"{'shift':<9} {split.removeprefix('shift:'):<22} {interval(scores[name])}")
    for value, scores in (pair for found in (record.get("groups") or {}).values() for pair in found["values"].items()):
        click.echo(f"{'group':<9} {value[:22]:<22} {interval(scores[name])}   {scores[name]['n']} examples")
    for note in record["notes"]:
        click.echo(f"note      {note}")
    rate, size = f"{cost['samples_per_second']:.0f} examples/s", f"{cost['trainable_parameters'] / 1e3:,.0f} k of"
    click.echo(f"trained   {size} {cost['total_parameters'] / 1e6:.1f} M parameters, {rate}, {seconds(cost['train_seconds'])}")
    click.echo(f"time      {seconds(cost['total_seconds'])} in all, {cost['peak_memory_bytes'] / 2**20:,.0f} MiB at most")


def _verdict(gap: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """Better or worse, where the paired interval of the difference can tell; whatever direction is better. Nothing but `minus it` where the
    metric is that of a plugin which is gone: nobody knows the direction."""
    from fmhub.evaluation import better
    from fmhub.evaluation.declared import declared

    known = declared({"metrics": [record["primary"]], "task": record["task"]})
    return {True: "better", False: "worse", None: "not told apart"}[better(dict(gap), known[0])] if known else "minus it"


def interval(score: Mapping[str, Any], *, sign: bool = False) -> str:
    """`0.851 [0.840, 0.862]`; without ends where the data give none."""
    form = "+.3f" if sign else ".3f"
    if score["value"] is None:
        return "undefined"
    shown = {key: f"{round(score[key], 3) + 0.0:{form}}" for key in ("value", "low", "high") if score[key] is not None}  # + 0.0: no -0.000
    ends = f" [{shown['low']}, {shown['high']}]" if score["low"] is not None else " [no interval]"
    return f"{shown['value']}{ends}"


def seconds(value: float) -> str:
    """`42 s` or `3 min 05 s`."""
    whole = round(value)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"
