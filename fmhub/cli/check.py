"""`fmhub check` and `fmhub new`: for those who write plugins."""

from __future__ import annotations

from pathlib import Path

import click

from fmhub.cli.output import emit_json, json_option, note
from fmhub.scaffold import KINDS


@click.command()
@click.argument("target", required=False, metavar="[PLUGIN|PATH]")
@click.option("--task", "tasks", multiple=True, metavar="TASK", help="Only this task; may be given again.")
@click.option("--quick", is_flag=True, help="Only what needs no data and no weights: light import, metadata, names, licences.")
@click.option("--backbone", metavar="B", help="Check with another backbone: a card's name or a folder.")
@click.option("--badge", type=click.Path(dir_okay=False, path_type=Path), help="Write the result as a small SVG picture.")
@json_option
@click.pass_context
def check(
    context: click.Context, target: str | None, tasks: tuple[str, ...], quick: bool, backbone: str | None, badge: Path | None, as_json: bool
) -> None:
    """Prove that a plugin behaves: installed, as a folder or as a wheel; without a name, the one in this folder.

    Each check prints the figure that it saw. Exit code 1 if any failed.
    """
    from fmhub.testing import kit, overlay

    outcomes = []
    with overlay.opened(target, note) as name:
        for outcome in kit.check(name, tasks=tasks, backbone=backbone, only_quick=quick):
            outcomes.append(outcome)
            if not as_json:
                mark = {True: "passed", False: "FAILED", None: "  -   "}[outcome.ok]
                click.echo(f"{mark}  {outcome.task + ': ' if outcome.task else ''}{outcome.check}: {outcome.figure}")
    failed = sum(outcome.ok is False for outcome in outcomes)
    if badge:
        kit.badge(badge.absolute(), outcomes)
    if as_json:
        emit_json([vars(outcome) for outcome in outcomes])
    else:
        click.echo(f"{sum(outcome.ok is True for outcome in outcomes)} passed, {failed} failed")
    context.exit(1 if failed else 0)


@click.command()
@click.argument("name")
@click.option(
    "--kind", type=click.Choice(list(KINDS)), default="text", help="; ".join(f"{kind}: {what}" for kind, what in KINDS.items()) + "."
)
def new(name: str, kind: str) -> None:
    """Write a whole plugin into the folder NAME: it installs, passes `fmhub check` and runs at once."""
    from fmhub import scaffold

    folder = scaffold.new(name, kind, Path.cwd())
    click.echo(f"Wrote {folder}. Its task is in src/{name.replace('-', '_')}/__init__.py. Next:")
    for line in (f"fmhub install ./{name}", f"fmhub check ./{name}", f"fmhub run {name.removeprefix('fmhub-')}"):
        click.echo(f"  {line}")
