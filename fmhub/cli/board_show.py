"""What is on the board, in a terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from typing import Any

import click

from fmhub.cli.output import emit_json, json_option, note, table


@click.command()
@click.argument("task", required=False)
@json_option
def show(task: str | None, as_json: bool) -> None:
    """Rank runs and baselines, of TASK or of every task.

    Scores carry 95 % intervals and are recomputed from stored predictions. Entries that a paired bootstrap over the
    same test examples cannot tell apart from the best of their group share its rank.
    """
    from fmhub.leaderboard import overall, store

    tables = store.board(task, begin(quiet=task is not None))
    if as_json:
        emit_json(tables)
        return
    if not tables:
        click.echo("The board is empty. `fmhub run TASK` puts the first entry on it.")
    for number, one in enumerate(tables):
        click.echo(("\n" if number else "") + _heading(one))
        _entries(one)
        for entry in one["entries"]:
            for what, words in (("not ranked", "problem"), ("declares contamination", "contamination"), ("near-copy of", "copy_of")):
                if entry[words]:
                    click.echo(f"{what}: {entry['name']}: {entry[words]}")
    if task is None and (found := overall.overall(tables))["systems"]:
        click.echo()
        _print_overall(found)


@click.command()
@json_option
def overall(as_json: bool) -> None:
    """Compare systems across tasks by normalised scores: floor 0, reference run 1, means within families, then across.

    A task that was not tried counts as the floor. The win rate looks at the others on the board; the mean does not.
    """
    from fmhub.leaderboard import overall, store

    found = overall.overall(store.board(None, begin()))
    if as_json:
        emit_json(found)
    elif found["systems"]:
        _print_overall(found)
    else:
        click.echo("No entry has a normalised score yet: those need a task with frozen references.")


def begin(*, quiet: bool = False) -> list[dict[str, Any]]:
    """Every board begins with the reference runs that fmhub ships; the rows of those whose data are not here, which are only shown."""
    from fmhub.leaderboard import shipped

    shipped.ensure(note)
    found = shipped.reported()
    if found and not quiet:
        tasks = ", ".join(sorted({row["task"] for row in found}))
        note(f"Self-reported until their data are fetched, which `fmhub leaderboard reference` does: {tasks}")
    return found


def _print_overall(found: dict[str, Any]) -> None:
    families = set(found["tasks"].values())
    click.echo(f"Across tasks: mean normalised score over {len(found['tasks'])} tasks of {len(families)} families")
    head = ("rank", "system", "mean", "win rate", "tasks tried", "nobody better and cheaper in")
    shown = len(head) - (not _wide())
    table(head[:shown], [_overall_row(row)[:shown] for row in found["systems"]])


def _overall_row(row: dict[str, Any]) -> tuple[Any, ...]:
    from fmhub.cli.show import interval

    return (
        row["rank"],
        row["system"],
        interval(row),
        "" if row["win_rate"] is None else f"{row['win_rate']:.2f}",
        row["tasks"],
        _words(row["front"]),
    )


def _words(costs: list[str]) -> str:
    return ", ".join(cost.replace("_", " ") for cost in costs)


_SAID = ("rank", "entry", "kind", "score", "normalised", "status")
_COSTS = ("train rows", "trained params", "train", "samples/s", "latency", "peak memory")
WIDE = 150
"""Columns of a terminal from which on costs are shown beside scores; elsewhere than on a terminal they always are."""


def _entries(one: dict[str, Any]) -> None:
    rows = [(*_row(entry), *(_cost(entry) if _wide() else ())) for entry in one["entries"]]
    table((*_SAID, *(_COSTS if _wide() else ())), rows)


def _wide() -> bool:
    return not sys.stdout.isatty() or shutil.get_terminal_size().columns >= WIDE


def _heading(one: dict[str, Any]) -> str:
    arrow = {"max": "higher is better", "min": "lower is better", None: "metric unknown here"}[one["direction"]]
    return f"{one['task']} version {one['version']}, data {one['fingerprint'][:12]}: {one['metric']}, {arrow}"


def _row(entry: dict[str, Any]) -> tuple[Any, ...]:
    from fmhub.cli.show import interval

    return (
        entry["rank"] or "-",
        entry["name"],
        "baseline" if entry["kind"] == "baseline" else "run",
        interval(entry["score"]),
        f"{entry['normalised']['value']:.3f}" if entry["normalised"] else "",
        entry["status"] + (f" by {entry['submitter']}" if entry["submitter"] else ""),
    )


def _cost(entry: dict[str, Any]) -> tuple[Any, ...]:
    from fmhub.cli.show import seconds

    def said(name: str, show: Callable[[Any], str]) -> str:
        return "" if (value := (entry["cost"] or {}).get(name)) is None else show(value)

    return (
        entry["train"],
        said("trainable_parameters", "{:,}".format),
        said("train_seconds", seconds),
        said("samples_per_second", "{:,.0f}".format),
        said("latency_ms", "{:,.1f} ms".format),
        said("peak_memory_bytes", lambda value: f"{value / 2**20:,.0f} MiB"),
    )
