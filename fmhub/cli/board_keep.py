"""What a board is made of and kept as: reference runs, declarations, files."""

from __future__ import annotations

import click

from fmhub.cli.board_show import begin


@click.command()
@click.argument("folder", type=click.Path(file_okay=False))
def export(folder: str) -> None:
    """Write the board into FOLDER: pages that need no server, and CSV, JSON and Markdown.

    With an entry of this home's own goes its run's report, but for runs with data of one's own.
    """
    from pathlib import Path

    from fmhub.leaderboard.export import export

    begin(quiet=True)
    count = export(Path(folder))
    click.echo(f"{count} entries: {Path(folder) / 'index.html'}")


@click.command()
@click.argument("run", required=False)
@click.option("--into", type=click.Path(file_okay=False), help="Where to keep RUN; registry/leaderboard if left out.")
def reference(run: str | None, into: str | None) -> None:
    """Put the reference runs that fmhub ships on the board; with RUN (or a task's name), keep that run as its task's reference.

    A reference run is the task as it is declared: `fmhub run TASK`, then `fmhub leaderboard reference TASK`, then commit
    registry/leaderboard. Kept are the record and the test part of its predictions and of its baselines' ones, in
    <plugin>/<task>.json and <plugin>/<task>/. Every board gets them by itself; without RUN, also those whose data must be
    fetched first because a licence forbids copies.
    """
    from pathlib import Path

    from fmhub.errors import UsageError
    from fmhub.leaderboard import shipped
    from fmhub.runs import folder

    if run is None:
        if into is not None:
            raise UsageError("--into needs the RUN to be kept.")
        for task, count in shipped.load().items():
            click.echo(
                f"{task}: {count if isinstance(count, str) else f'{count} entries' if count else 'a record only, without predictions'}"
            )
    else:
        place = shipped.keep(folder.find_last(run), Path(into) if into else None)
        click.echo(f"{place}, {sum(path.stat().st_size for path in place.rglob('*') if path.is_file()) / 1024:,.0f} KiB")


@click.command()
@click.argument("run")
@click.argument("reason")
def declare(run: str, reason: str) -> None:
    """Declare that test examples of RUN may have reached its backbone, and why: it is flagged and left out of means."""
    from fmhub.leaderboard import store
    from fmhub.runs import folder

    store.add(folder.find_last(run), reason)
    click.echo("Declared. Thank you.")
