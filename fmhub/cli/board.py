"""`fmhub leaderboard`: what is on the local board."""

from __future__ import annotations

from typing import Any

import click

from fmhub.cli.output import emit_json, json_option, table


@click.command()
@click.argument("task", required=False)
@json_option
def leaderboard(task: str | None, as_json: bool) -> None:
    """Rank runs and baselines, of TASK or of every task.

    Scores carry 95 % intervals and are recomputed from stored predictions. Entries that a paired bootstrap over the
    same test examples cannot tell apart from the best of their group share its rank.
    """
    from fmhub.leaderboard import store

    tables = store.board(task)
    if as_json:
        emit_json(tables)
        return
    if not tables:
        click.echo("The board is empty. `fmhub run TASK` puts the first entry on it.")
    for number, one in enumerate(tables):
        click.echo(("\n" if number else "") + _heading(one))
        table(_COLUMNS, [_row(entry) for entry in one["entries"]])
        for entry in one["entries"]:
            if entry["problem"]:
                click.echo(f"not ranked: {entry['name']}: {entry['problem']}")


_COLUMNS = ("rank", "entry", "kind", "score", "train rows", "trained params", "train", "samples/s", "peak memory")


def _heading(one: dict[str, Any]) -> str:
    arrow = {"max": "higher is better", "min": "lower is better", None: "metric unknown here"}[one["direction"]]
    return f"{one['task']} version {one['version']}, data {one['fingerprint'][:12]}: {one['metric']}, {arrow}"


def _row(entry: dict[str, Any]) -> tuple[Any, ...]:
    from fmhub.cli.show import interval, seconds

    cost = entry["cost"] or {}
    return (
        entry["rank"] or "-",
        entry["name"],
        "baseline" if entry["kind"] == "baseline" else "run",
        interval(entry["score"]),
        entry["train"],
        f"{cost['trainable_parameters']:,}" if "trainable_parameters" in cost else "",
        seconds(cost["train_seconds"]) if "train_seconds" in cost else "",
        f"{cost['samples_per_second']:,.0f}" if "samples_per_second" in cost else "",
        f"{cost['peak_memory_bytes'] / 2**20:,.0f} MiB" if "peak_memory_bytes" in cost else "",
    )
