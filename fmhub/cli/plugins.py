"""`fmhub plugins`, `fmhub install`, `fmhub uninstall`."""

from __future__ import annotations

import sys

import click

from fmhub.cli.output import emit_json, json_option, note, table


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def plugins(context: click.Context, as_json: bool) -> None:
    """List the installed plugins, and why a broken one is quarantined."""
    if context.invoked_subcommand:
        return
    from fmhub import hub
    from fmhub.cli.listing import plugin_row

    found = hub.plugins()
    if as_json:
        emit_json([plugin_row(plugin) for plugin in found])
    elif found:
        rows = [(p.name, p.version, p.status, len(p.tasks), p.problem or "; ".join(p.notes) or p.summary) for p in found]
        table(("plugin", "version", "status", "tasks", ""), rows)
        if any(plugin.status == "broken" for plugin in found):
            note("`fmhub doctor` says what mends the broken ones.")
    else:
        click.echo("No plugins. `fmhub plugins search` lists those of the directory.")


@plugins.command()
@click.argument("words", nargs=-1)
@json_option
def search(words: tuple[str, ...], as_json: bool) -> None:
    """Search the plugin directory: every WORD must occur; without one, all are listed."""
    from importlib.metadata import entry_points

    from fmhub.plugins import directory
    from fmhub.plugins.plugin import normalise

    installed = {normalise(point.dist.name) for point in entry_points(group="fmhub") if point.dist}
    found = list(directory.search(" ".join(words)))
    if as_json:
        emit_json([{**vars(entry), "installed": entry.name in installed} for entry in found])
    elif found:
        rows = [(entry.name, "yes" if entry.name in installed else "", ", ".join(entry.tasks), entry.summary) for entry in found]
        table(("plugin", "installed", "tasks", ""), rows)
    else:
        click.echo(f"Nothing in the directory matches {' '.join(words)!r}.")


@click.command()
@click.argument("specs", nargs=-1, metavar="NAME|PATH|SPEC...")
@click.option("--all", "every", is_flag=True, help="Every plugin of the directory.")
@click.option("--upgrade", is_flag=True, help="Take newer releases than those installed.")
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def install(specs: tuple[str, ...], every: bool, upgrade: bool, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Install plugins without harm to what is installed: by directory NAME, folder or wheel PATH, or requirement (name==1.0)."""
    from fmhub.plugins import directory, installing

    if every == bool(specs):
        raise click.UsageError("Name one or more plugins, or --all. `fmhub plugins search` lists them.")
    names = list(directory.entries()) if every else list(specs)
    ask = not yes and sys.stdin.isatty()
    changes = installing.install(
        names, upgrade=upgrade, dry_run=dry_run, say=note, agree=lambda: not ask or click.confirm("Go on?", default=True, err=True)
    )
    if as_json:
        emit_json([vars(change) for change in changes])


@click.command()
@click.argument("name")
def uninstall(name: str) -> None:
    """Remove plugin NAME. What it needed stays, for others may need it."""
    from fmhub.plugins import installing

    click.echo(f"Removed {name} {installing.uninstall(name)}")
