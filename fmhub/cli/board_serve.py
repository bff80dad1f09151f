"""A board for others: served, sent to, with tokens and hidden targets."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from fmhub.cli.board_show import begin
from fmhub.cli.output import emit_json, json_option, note, table


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Another address lets others on the network read the board.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@click.option("--private", is_flag=True, help="Reading needs a token, too (in a browser: as the password).")
@click.option("--rate", type=click.IntRange(1), default=600, show_default=True, help="Requests a minute of one token or address.")
@click.option("--quota", type=click.IntRange(1), default=200, show_default=True, help="Entries a day of one submitter.")
def serve(host: str, port: int, private: bool, rate: int, quota: int) -> None:
    """Serve the board over HTTP: its pages, its files, and the API that `submit` talks to. Needs the extra `serve`.

    With an entry of this home's own goes its run's report, but for runs with data of one's own. Writing needs a token,
    made with `fmhub leaderboard token new NAME`. /openapi.json describes every route.
    """
    from fmhub.leaderboard import server

    begin(quiet=True)
    server.serve(host, port, rate=rate, quota=quota, public=not private)


@click.command()
@click.argument("run")
@click.option("--to", "url", required=True, metavar="URL", help="The board's address.")
@click.option("--token-file", type=click.Path(dir_okay=False), help="Where your token stands; FMHUB_TOKEN if left out.")
@json_option
def submit(run: str, url: str, token_file: str | None, as_json: bool) -> None:
    """Put RUN and its baselines on the board at URL, signed with your key; that board computes every score again.

    What `fmhub leaderboard declare` said of RUN goes with it.
    What does not answer is asked again, and sending twice does no harm. The receipt that the board gives is kept under
    FMHUB_HOME/receipts: `fmhub leaderboard verify --all --receipt` finds whatever is cut or changed later.
    """
    from fmhub.leaderboard import submit as client
    from fmhub.runs import folder

    with progress() as say:
        found = client.submit(folder.find_last(run), url, client.token_of(token_file), say)
    if as_json:
        emit_json(found)
        return
    for one in found:
        click.echo(
            f"{one['name']}: {'taken' if one['new'] else 'stands already'}, entry {one['id'][:12]}, log row {one['receipt']['count']}"
        )


@click.command()
@click.argument("task")
@click.argument("targets", type=click.Path(dir_okay=False, exists=True))
def hide(task: str, targets: str) -> None:
    """Give TASK's hidden part its TARGETS, a csv, jsonl or parquet file of id and target that this board alone has.

    From then on the hidden part ranks: entries bring their predictions of it, and nobody is shown another's.
    """
    from pathlib import Path

    from fmhub.leaderboard import store

    count = store.hide(task, Path(targets))
    click.echo(f"{count} hidden targets of {task}")


@click.group()
def token() -> None:
    """Who may do what on the board that `serve` serves."""


@token.command("new")
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(["submit", "read", "verify"]), help="submit and read if left out.")
def new_token(name: str, scopes: tuple[str, ...]) -> None:
    """Make a token for the submitter NAME and print it, this once: only its hash is kept.

    submit: put entries on the board. read: read a board that is private. verify: have the board recomputed.
    """
    from fmhub.leaderboard import tokens

    click.echo(tokens.new(name, scopes or ("submit", "read")))


@token.command("list")
@json_option
def list_tokens(as_json: bool) -> None:
    """List tokens: id, name, scopes, when they were made and revoked."""
    from fmhub.leaderboard import tokens

    found = tokens.listing()
    if as_json:
        emit_json(found)
    else:
        table(("id", "name", "scopes", "made", "revoked"), [tuple(row.values()) for row in found])


@token.command("revoke")
@click.argument("token")
def revoke_token(token: str) -> None:
    """Revoke a token by its id, or all of one submitter by name."""
    from fmhub.leaderboard import tokens

    click.echo(f"{tokens.revoke(token)} revoked")


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar of bytes on a terminal, elsewhere a line when an entry is sent."""
    if not sys.stderr.isatty():
        yield lambda name, sent, size: note(f"{name}: {size / 1024:,.0f} KiB sent") if sent == size else None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as drawn:
        bars: dict[str, Any] = {}

        def say(name: str, sent: int, size: int) -> None:
            if name not in bars:
                bars[name] = drawn.add_task(name, total=size)
            drawn.update(bars[name], completed=sent)

        yield say
