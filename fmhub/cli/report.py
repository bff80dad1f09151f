"""`fmhub report`: a run as one HTML page."""

from __future__ import annotations

import click


@click.command()
@click.argument("run")
def report(run: str) -> None:
    """Write RUN's report (a run's id, a unique beginning of it, or its folder) and print where it lies.

    One self-contained page: scores with intervals beside the baselines', learning curve, mistakes, cost, how to do it again.
    """
    from fmhub.report import write

    click.echo(str(write(run)))
