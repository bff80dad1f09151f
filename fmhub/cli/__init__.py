"""The command line: one file a group of commands, imported only when one of them is run.

The short help stands here, so that `fmhub --help` imports nothing but click. Commands have no logic of their own.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from fmhub.errors import FmhubError, Stopped, nearest

COMMANDS = {
    "tasks": ("listing", "List the tasks of every plugin."),
    "info": ("listing", "Show one task, backbone or plugin."),
    "backbones": ("listing", "List the pretrained backbones."),
    "run": ("run", "Fine-tune a task's adapter, score it and put it on the board."),
    "runs": ("runs", "List, show and delete runs."),
    "report": ("report", "Write a run's report as one HTML page."),
    "predict": ("predict", "Predict with a run, or with a task's latest run."),
    "leaderboard": ("board", "Compare runs, adapters with baselines."),
    "plugins": ("plugins", "List plugins, broken ones with the reason, or search the directory."),
    "install": ("plugins", "Install a plugin, by name, folder or wheel."),
    "uninstall": ("plugins", "Remove a plugin."),
    "new": ("check", "Write a whole plugin, to be changed."),
    "check": ("check", "Prove that a plugin behaves."),
    "doctor": ("doctor", "Look for what is wrong and say what mends it."),
}
"""Command: (module of this package, short help)."""

PLUGIN_GROUP = "fmhub.commands"


class Lazy(click.Group):
    """A group that imports a command's module when the command is run, not to list it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *sorted(_plugin_commands())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            module = importlib.import_module(f"fmhub.cli.{COMMANDS[cmd_name][0]}")
            command: click.Command = getattr(module, cmd_name)
            return command
        points = _plugin_commands().get(cmd_name, [])
        return _plugin_command(cmd_name, points) if points else None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):  # plugins are asked only where the house has no answer
            known = self.list_commands(ctx)
            if args[0] not in known:
                raise click.UsageError(f"No command {args[0]!r}.{nearest(args[0], known)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])
        if others := _plugin_commands():
            with formatter.section("Commands of plugins"):
                formatter.write_dl(
                    [(name, "from " + ", ".join(point.dist.name for point in points)) for name, points in sorted(others.items())]
                )


def _plugin_commands() -> dict[str, list[Any]]:
    """Entry points by command name, none of them imported; a core command's name cannot be taken."""
    from importlib.metadata import entry_points

    from fmhub.plugins.plugin import normalise

    disabled = {word.strip() for word in os.environ.get("FMHUB_DISABLE_PLUGINS", "").split(",")}
    found: dict[str, list[Any]] = {}
    for point in entry_points(group=PLUGIN_GROUP):
        if point.name not in COMMANDS and not {"all", normalise(point.dist.name if point.dist else "")} & disabled:
            found.setdefault(point.name, []).append(point)
    return found


def _owners(points: list[Any]) -> str:
    return ", ".join(sorted(point.dist.name for point in points))


def _plugin_command(name: str, points: list[Any]) -> click.Command:
    owners = _owners(points)
    if len(points) > 1:
        raise FmhubError(f"Command {name!r} is claimed by {owners}: uninstall one, or switch one off with FMHUB_DISABLE_PLUGINS.")
    try:
        command = points[0].load()
    except (Exception, SystemExit) as error:
        raise FmhubError(f"Command {name!r} of plugin {owners} cannot be loaded: {type(error).__name__}: {error}.") from error
    if not isinstance(command, click.Command):
        raise FmhubError(f"Command {name!r} of plugin {owners} is not a click command.")
    return command


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="fmhub", message="fmhub %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error; works after a command, too.")
def cli(debug: bool) -> None:
    """A hub of downstream tasks for foundation models."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 it failed and says why, 2 wrong usage. `arguments` are else the process's own."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = "--debug" in options
    arguments = [word for word in options if word != "--debug"] + arguments[len(options) :]
    try:
        with cli.make_context("fmhub", arguments or ["--help"]) as context:
            cli.invoke(context)
        sys.stdout.flush()
    except BaseException as error:
        code = _report(error, debug)
        if code is None:
            raise
        return code
    return 0


def _report(error: BaseException, debug: bool) -> int | None:
    """Say on stderr what went wrong; the exit code, or None where Python's own way is right."""
    match error:
        case click.exceptions.Exit():
            return error.exit_code
        case FmhubError():
            code, lines = error.exit_code, str(error)
        case click.ClickException():
            code, lines = error.exit_code, error.format_message()
            if isinstance(error, click.UsageError) and error.ctx is not None:
                lines += f"\nTry: {error.ctx.command_path} --help"
        case KeyboardInterrupt() | click.Abort():
            code, lines = 1, "stopped by Ctrl-C."
        case BrokenPipeError():  # the reader has seen enough, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        case Exception():
            first = (str(error).splitlines() or ["no message"])[0]
            code, lines = 1, f"{type(error).__name__}: {first}\nThis is a fault of fmhub or of a plugin: `--debug` shows where."
        case _:
            return None
    if debug:
        import traceback

        traceback.print_exception(error)
    print(lines if isinstance(error, Stopped) else f"Error: {lines}", file=sys.stderr)
    return code
