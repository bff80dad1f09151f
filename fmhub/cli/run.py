"""`fmhub run`: train, score, compare, record."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import click

from fmhub.cli.output import emit_json, json_option, note
from fmhub.errors import FmhubError, Stopped
from fmhub.process import collect_later, keep_memory


@click.command()
@click.argument("tasks", nargs=-1, metavar="TASK...")
@click.option("--all", "every", is_flag=True, help="Run every task of every plugin.")
@click.option("--backbone", metavar="B", help="A card's name, hub:org/name or a folder.")
@click.option("--data", metavar="PATH", help="Your own rows: csv, jsonl, parquet, a folder, or hf:name[:config].")
@click.option("--test", metavar="PATH", help="Held-out rows to --data; split off where left out.")
@click.option("--columns", metavar="ROLE=NAME,...", help="Which column is what, e.g. text=review,label=stars.")
@click.option("--set", "changes", multiple=True, metavar="recipe.KEY=VALUE", help="Change the recipe, e.g. recipe.lora.rank=16.")
@click.option("--seed", type=int, metavar="N", help="Decides every random choice.")
@click.option("--seeds", type=int, default=1, metavar="N", help="Train N seeds; scores are their mean.")
@click.option(
    "--folds",
    type=int,
    metavar="K",
    help="Cross-validate: all rows are cut into K folds, each predicted by an adapter that never saw it; the saved adapter is trained on "
    "all rows. A test part that the data itself declares stays out of the folds and is scored as shift:given.",
)
@click.option("--curve", metavar="N,N,...", help="Train on so many rows too: the score against the size of the training part.")
@click.option("--groups", metavar="COLUMN", help="Scores for each value of COLUMN; with --folds no value crosses a fold.")
@click.option(
    "--fast",
    is_flag=True,
    help="Adapt the fewest last layers whose validation score, tried on a pilot, is within a tolerance (of an accuracy 0.015) of the best "
    "tried. Not with folds, which test on the pilot's rows.",
)
@click.option("--budget", metavar="TIME", help="Adapt as many layers, for as many epochs, as fit into 90s, 10m or 1h.")
@click.option("--limit", type=int, metavar="N", help="Train on N examples only; the test part stays whole.")
@click.option("--random-weights", is_flag=True, help="The same backbone from a random start: does pretraining help?")
@click.option("--no-baseline", "baseline", flag_value=False, default=True, help="Leave the classical baselines out.")
@click.option("--processes", type=int, default=1, metavar="N", help="Train in N processes that share every batch.")
@click.option(
    "--engine", type=click.Choice(["ray"]), help="Spread tasks, seeds and folds over a Ray cluster (RAY_ADDRESS, or this machine)."
)
@click.option("--track", metavar="TRACKER", help="Tell tensorboard, mlflow or wandb, too; log.jsonl is always written.")
@click.option("--resume", metavar="RUN", help="Go on with an interrupted run, by id or folder.")
@click.option("--output", metavar="DIR", help="Put the run's folder there (absent or empty).")
@click.option("--install", is_flag=True, help="Install the plugin that has the task, where it is not installed.")
@json_option
@click.option("--quiet", is_flag=True, help="No progress.")
def run(
    tasks: tuple[str, ...], every: bool, changes: tuple[str, ...], columns: str | None, curve: str | None, as_json: bool, **given: Any
) -> None:
    """Adapt a backbone to TASK, score it beside its baselines, and put it on the local board."""
    from fmhub import hub
    from fmhub.training.ranks import is_first

    if every == bool(tasks):
        raise click.UsageError("Name one or more tasks, or --all. `fmhub tasks` lists them.")
    install = given.pop("install")
    for name in tasks:
        _have(name, install)
    names = [f"{plugin.name}:{task.name}" for task, plugin in hub.tasks()] if every else list(tasks)
    if len(names) > 1 and (given["resume"] or given["output"]):
        raise click.UsageError("--resume and --output take one task.")
    collect_later()
    keep_memory()
    options = {
        **given,
        "columns": _pairs("--columns", columns.split(",") if columns else ()),
        "set": _pairs("--set", changes),
        "curve": _sizes(curve),
    }
    engine = options.pop("engine")
    records, failed = [], []
    for result in _spread(names, options) if engine else _each(names, options):
        if isinstance(result, FmhubError):
            failed.append(result)
            continue
        records.append(result)
        if not as_json and is_first():
            from fmhub.cli.show import summary

            summary(result)
    if as_json and records and is_first():
        emit_json(records if len(names) > 1 else records[0])
    if failed:
        raise failed[0] if len(names) == 1 else FmhubError("\n".join(map(str, failed)))


def _have(name: str, install: bool) -> None:
    """Install the plugin that has the task: where the user said so, or says so now."""
    from fmhub import hub

    try:
        hub.task(name)
    except hub.NotInstalled as missing:
        ask = f"{missing}\nInstall it now?"
        if not install and not (sys.stdin.isatty() and click.confirm(ask, default=True, err=True)):
            raise
        from fmhub.plugins import installing

        installing.install([missing.plugin], say=note)
        hub.refresh()


def _each(names: list[str], options: dict[str, Any]) -> Iterator[Any]:
    """Records, and in their place what went wrong: a task that fails stops no other one, Ctrl-C stops all."""
    from fmhub import api

    for name in names:
        try:
            yield api.run(name, **options)
        except Stopped:
            raise
        except FmhubError as error:
            yield error if len(names) == 1 else FmhubError(f"{name}: {error}")


def _spread(names: list[str], options: dict[str, Any]) -> list[Any]:
    """Records and errors of a Ray cluster."""
    from fmhub import api

    one_machine = {name: options.pop(name) for name in ("processes", "resume", "output", "track")}
    if one_machine != {"processes": 1, "resume": None, "output": None, "track": None}:
        raise click.UsageError("--engine ray takes none of --processes, --resume, --output and --track.")
    return api.spread(names, **options)


def _sizes(curve: str | None) -> tuple[int, ...]:
    """`100,300` as whole numbers, smallest first."""
    try:
        return tuple(sorted({int(size) for size in curve.split(",")})) if curve else ()
    except ValueError:
        raise click.UsageError(f"--curve takes whole numbers with commas between, like 100,300,1000, not {curve}.") from None


def _pairs(option: str, entries: Any) -> dict[str, str]:
    """`a=b` entries as a mapping."""
    pairs = [entry.partition("=") for entry in entries]
    for key, sign, value in pairs:
        if not (key.strip() and sign and value.strip()):
            raise click.UsageError(f"{option} takes NAME=VALUE, not {key + sign + value!r}.")
    return {key.strip(): value.strip() for key, _, value in pairs}
