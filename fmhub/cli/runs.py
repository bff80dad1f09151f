"""`fmhub runs`: list, show and remove runs."""

from __future__ import annotations

import click


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
@click.pass_context
def runs(context: click.Context, as_json: bool) -> None:
    """List runs, oldest first."""
    if context.invoked_subcommand:
        return
    from fmhub.cli.show import interval
    from fmhub.runs import folder

    rows = folder.listing()
    if as_json:
        click.echo(folder.dumps(rows), nl=False)
        return
    for row in rows:
        score = f"{row['primary']} {interval(row['scores']['test'][row['primary']])}" if row["status"] == "done" else row.get("problem", "")
        click.echo(f"{row['id']:<44} {row['status']:<10} {score}")
    if not rows:
        click.echo("No runs yet. `fmhub tasks` lists what can be run.")


@runs.command()
@click.argument("run")
def show(run: str) -> None:
    """Print the record of RUN (a run's id, a unique beginning of it, or its folder)."""
    from fmhub.runs import folder

    place = folder.find(run)
    click.echo(folder.dumps(folder.read_record(place) if (place / "run.json").is_file() else folder.read_plan(place)), nl=False)


@runs.command()
@click.argument("run")
def targets(run: str) -> None:
    """Rebuild the targets of RUN's predictions from the task's own data and print them as JSON by split and id."""
    from fmhub.runs import folder
    from fmhub.training.restore import targets_of

    click.echo(folder.dumps(targets_of(folder.find(run))), nl=False)


@runs.command()
@click.argument("run")
def rm(run: str) -> None:
    """Delete RUN's folder; its entry on the board stays."""
    from fmhub.runs import folder

    click.echo(f"Removed {folder.remove(run)}")
