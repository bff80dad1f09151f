"""`fmhub runs`: list, show and remove runs."""

from __future__ import annotations

from typing import Any

import click

from fmhub.cli.output import emit_json, json_option, note, table


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def runs(context: click.Context, as_json: bool) -> None:
    """List runs, oldest first."""
    if context.invoked_subcommand:
        return
    from fmhub.cli.show import interval
    from fmhub.runs import folder

    rows = folder.listing()
    if as_json:
        emit_json(rows)
    elif rows:
        table(("run", "status", "metric", "score"), [_row(row, interval) for row in rows])
    else:
        note("No runs yet. `fmhub tasks` lists what can be run.")


def _row(row: dict[str, Any], interval: Any) -> tuple[str, ...]:
    if row["status"] != "done":
        return (row["id"], row["status"], "", row.get("problem", ""))
    return (row["id"], row["status"], row["primary"], interval(row["scores"]["test"][row["primary"]]))


@runs.command()
@click.argument("run")
def show(run: str) -> None:
    """Print the record of RUN (a run's id, a unique beginning of it, or its folder)."""
    from fmhub.runs import folder

    place = folder.find(run)
    emit_json(folder.read_record(place) if (place / "run.json").is_file() else folder.read_plan(place))


@runs.command()
@click.argument("run")
def targets(run: str) -> None:
    """Rebuild the targets of RUN's predictions from the task's own data and print them as JSON by split and id."""
    from fmhub.runs import folder
    from fmhub.training.targets import targets_of

    emit_json(targets_of(folder.find(run)))


@runs.command()
@click.argument("run")
def rm(run: str) -> None:
    """Delete RUN's folder; its entry on the board stays."""
    from fmhub.runs import folder

    click.echo(f"Removed {folder.remove(run)}")
