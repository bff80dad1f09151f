"""`fmhub leaderboard`: what is on the board, and whether it is what it was."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from fmhub.cli.output import emit_json, json_option, note, table


class Board(click.Group):
    """Subcommands, and `show` for whatever is none: `fmhub leaderboard sentiment` shows that task's table."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in {*self.commands, *ctx.help_option_names}:
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.group(cls=Board)
def leaderboard() -> None:
    """Compare runs and baselines; without a subcommand, as `show`."""


@leaderboard.command()
@click.argument("task", required=False)
@json_option
def show(task: str | None, as_json: bool) -> None:
    """Rank runs and baselines, of TASK or of every task.

    Scores carry 95 % intervals and are recomputed from stored predictions. Entries that a paired bootstrap over the
    same test examples cannot tell apart from the best of their group share its rank.
    """
    from fmhub.leaderboard import store

    _shipped()
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
            for what, words in (("not ranked", "problem"), ("declares contamination", "contamination"), ("near-copy of", "copy_of")):
                if entry[words]:
                    click.echo(f"{what}: {entry['name']}: {entry[words]}")


@leaderboard.command()
@json_option
def overall(as_json: bool) -> None:
    """Compare systems across tasks by normalised scores: floor 0, reference run 1, means within families, then across.

    A task that was not tried counts as the floor. The win rate looks at the others on the board; the mean does not.
    """
    from fmhub.leaderboard import overall, store

    _shipped()
    found = overall.overall(store.board())
    if as_json:
        emit_json(found)
        return
    if not found["systems"]:
        click.echo("No entry has a normalised score yet: those need a task with frozen references.")
        return
    click.echo(f"Mean normalised score over {len(found['tasks'])} tasks of {len(set(found['tasks'].values()))} families")
    table(
        ("rank", "system", "mean", "win rate", "tasks tried", "nobody better and cheaper in"),
        [_overall_row(row) for row in found["systems"]],
    )


def _shipped() -> None:
    """Every board begins with the reference runs that fmhub ships."""
    from fmhub.leaderboard import shipped

    if missing := shipped.ensure():
        note(f"Not on the board yet, for their data must be fetched: {', '.join(missing)}. `fmhub leaderboard reference` does that.")


def _overall_row(row: dict[str, Any]) -> tuple[Any, ...]:
    from fmhub.cli.show import interval

    return (
        row["rank"],
        row["system"],
        interval(row),
        "" if row["win_rate"] is None else f"{row['win_rate']:.2f}",
        row["tasks"],
        _words(row["front"]),
    )


def _words(costs: list[str]) -> str:
    return ", ".join(cost.replace("_", " ") for cost in costs)


@leaderboard.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Another address lets others on the network read the board.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@click.option("--private", is_flag=True, help="Reading needs a token, too (in a browser: as the password).")
@click.option("--rate", type=click.IntRange(1), default=600, show_default=True, help="Requests a minute of one token or address.")
@click.option("--quota", type=click.IntRange(1), default=200, show_default=True, help="Entries a day of one submitter.")
def serve(host: str, port: int, private: bool, rate: int, quota: int) -> None:
    """Serve the board over HTTP: its pages, its files, and the API that `submit` talks to. Needs the extra `serve`.

    Writing needs a token, made with `fmhub leaderboard token new NAME`. /openapi.json describes every route.
    """
    from fmhub.leaderboard import server

    _shipped()
    server.serve(host, port, rate=rate, quota=quota, public=not private)


@leaderboard.command()
@click.argument("run")
@click.option("--to", "url", required=True, metavar="URL", help="The board's address.")
@click.option("--token-file", type=click.Path(dir_okay=False), help="Where your token stands; FMHUB_TOKEN if left out.")
@json_option
def submit(run: str, url: str, token_file: str | None, as_json: bool) -> None:
    """Put RUN and its baselines on the board at URL, signed with your key; that board computes every score again.

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


@leaderboard.command()
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


@leaderboard.group()
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


@leaderboard.command()
@click.argument("folder", type=click.Path(file_okay=False))
def export(folder: str) -> None:
    """Write the board into FOLDER: pages that need no server, and CSV, JSON and Markdown."""
    from pathlib import Path

    from fmhub.leaderboard.export import export

    _shipped()
    count = export(Path(folder))
    click.echo(f"{count} entries: {Path(folder) / 'index.html'}")


@leaderboard.command()
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


@leaderboard.command()
@click.argument("run")
@click.argument("reason")
def declare(run: str, reason: str) -> None:
    """Declare that test examples of RUN may have reached its backbone, and why: it is flagged and left out of means."""
    from fmhub.leaderboard import store
    from fmhub.runs import folder

    store.add(folder.find_last(run), reason)
    click.echo("Declared. Thank you.")


@leaderboard.command()
@click.argument("entry", required=False)
@click.option("--all", "everything", is_flag=True, help="The whole board: every entry, and the log that chains them.")
@click.option("--receipt", type=click.Path(dir_okay=False), help="A receipt kept from earlier: finds a cut tail, too.")
@click.option("--rerun", "kind", flag_value="rerun", help="Predict the test part again from the run's adapter, too.")
@click.option("--retrain", "kind", flag_value="retrain", help="Train again from nothing, too, and print the difference.")
@click.option("--run", metavar="FOLDER", type=click.Path(file_okay=False, exists=True), help="Where ENTRY's run lies, if not in the home.")
@json_option
def verify(entry: str | None, everything: bool, receipt: str | None, kind: str | None, run: str | None, as_json: bool) -> None:
    """Check that ENTRY, or the whole board, is what it was: hashes, signatures, log, and scores computed again.

    Whatever was changed, removed, reordered or added past the board is named, and the exit code is then 1.
    With --rerun or --retrain entries whose runs are here are done again; those that agree are shown as re-run from then on.
    """
    from pathlib import Path

    from fmhub.errors import UsageError
    from fmhub.home import read_json
    from fmhub.leaderboard import again, verify

    if (entry is None) != everything or (entry and receipt) or (run and not (entry and kind)):
        raise UsageError(
            "Name one entry, or give --all (and with it, if you like, --receipt FILE); --run goes with ENTRY and --rerun or --retrain."
        )
    count, wrong = verify.verify(entry, read_json(Path(receipt)) if receipt else None)
    done = list(again.again(entry, kind, Path(run) if run else None)) if kind and not wrong else []
    if as_json:
        emit_json({"entries": count, "wrong": wrong, **({"again": done} if kind else {})})
    else:
        for line in wrong:
            click.echo(f"wrong: {line}")
        for one in done:
            click.echo(_again(one))
            table(("metric", "stored", "again", "difference"), [_difference(*pair) for pair in one["scores"].items()])
        click.echo(f"{count} entries looked at, {len(wrong) or 'nothing'} wrong")
    if wrong or any(one["agrees"] is False for one in done) or (entry and any(one["problem"] for one in done)):
        raise click.exceptions.Exit(1)


def _again(one: dict[str, Any]) -> str:
    if one["problem"]:
        return f"{one['name']}: not done again: {one['problem']}"
    return f"{one['name']}: {one['kind']} {'agrees' if one['agrees'] else 'DIFFERS'}"


def _difference(name: str, score: dict[str, Any]) -> tuple[Any, ...]:
    return name, *("undefined" if score[key] is None else f"{score[key]:{'+' if key == 'difference' else ''}.6f}" for key in score)


@leaderboard.command()
def receipt() -> None:
    """Print the sealed head of the log; keep it, and `verify --receipt` finds whatever is changed or cut later."""
    from fmhub.errors import UsageError
    from fmhub.leaderboard import store

    if (head := store.receipt()) is None:
        raise UsageError("The board is empty: there is nothing to give a receipt for.")
    emit_json(head)


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


_COLUMNS = ("rank", "entry", "kind", "score", "normalised", "status", "train rows", "trained params", "train", "samples/s", "peak memory")


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
        interval(entry["normalised"]) if entry["normalised"] else "",
        entry["status"] + (f" by {entry['submitter']}" if entry["submitter"] else ""),
        entry["train"],
        f"{cost['trainable_parameters']:,}" if "trainable_parameters" in cost else "",
        seconds(cost["train_seconds"]) if "train_seconds" in cost else "",
        f"{cost['samples_per_second']:,.0f}" if "samples_per_second" in cost else "",
        f"{cost['peak_memory_bytes'] / 2**20:,.0f} MiB" if "peak_memory_bytes" in cost else "",
    )
