"""`fmhub leaderboard`: what is on the board, and whether it is what it was."""

from __future__ import annotations

from typing import Any

import click

from fmhub.cli.output import emit_json, json_option, table


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

    found = overall.overall(store.board())
    if as_json:
        emit_json(found)
        return
    if not found["systems"]:
        click.echo("No entry has a normalised score yet: those need a task with frozen references.")
        return
    click.echo(f"Mean normalised score over {len(found['tasks'])} tasks of {len(set(found['tasks'].values()))} families")
    table(("rank", "system", "mean", "win rate", "tasks tried"), [_overall_row(row) for row in found["systems"]])


def _overall_row(row: dict[str, Any]) -> tuple[Any, ...]:
    from fmhub.cli.show import interval

    return row["rank"], row["system"], interval(row), "" if row["win_rate"] is None else f"{row['win_rate']:.2f}", row["tasks"]


@leaderboard.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Another address lets others on the network read the board.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
def serve(host: str, port: int) -> None:
    """Serve the board's pages and files over HTTP, for reading. Needs the extra `serve`."""
    from fmhub.leaderboard import server

    server.serve(host, port)


@leaderboard.command()
@click.argument("folder", type=click.Path(file_okay=False))
def export(folder: str) -> None:
    """Write the board into FOLDER: pages that need no server, and CSV, JSON and Markdown."""
    from pathlib import Path

    from fmhub.leaderboard.export import export

    count = export(Path(folder))
    click.echo(f"{count} entries: {Path(folder) / 'index.html'}")


@leaderboard.command()
@click.argument("run", required=False)
@click.option("--into", type=click.Path(file_okay=False), help="Where to keep RUN; registry/leaderboard if left out.")
def reference(run: str | None, into: str | None) -> None:
    """Put the reference runs that fmhub ships on the board; with RUN, keep that one as its task's reference run.

    Kept are the record and the test part of its predictions and of its baselines' ones, in <plugin>/<task>.json and <plugin>/<task>/.
    """
    from pathlib import Path

    from fmhub.errors import UsageError
    from fmhub.leaderboard import shipped
    from fmhub.runs import folder

    if run is None:
        if into is not None:
            raise UsageError("--into needs the RUN to be kept.")
        for task, count in shipped.load().items():
            click.echo(f"{task}: {f'{count} entries' if count else 'a record only, without predictions'}")
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
@json_option
def verify(entry: str | None, everything: bool, receipt: str | None, as_json: bool) -> None:
    """Check that ENTRY, or the whole board, is what it was: hashes, signatures, log, and scores computed again.

    Whatever was changed, removed, reordered or added past the board is named, and the exit code is then 1.
    """
    from pathlib import Path

    from fmhub.errors import UsageError
    from fmhub.home import read_json
    from fmhub.leaderboard import verify

    if (entry is None) != everything or (entry and receipt):
        raise UsageError("Name one entry, or give --all (and with it, if you like, --receipt FILE).")
    count, wrong = verify.verify(entry, read_json(Path(receipt)) if receipt else None)
    if as_json:
        emit_json({"entries": count, "wrong": wrong})
    else:
        for line in wrong:
            click.echo(f"wrong: {line}")
        click.echo(f"{count} entries looked at, {len(wrong) or 'nothing'} wrong")
    if wrong:
        raise click.exceptions.Exit(1)


@leaderboard.command()
def receipt() -> None:
    """Print the sealed head of the log; keep it, and `verify --receipt` finds whatever is changed or cut later."""
    from fmhub.errors import UsageError
    from fmhub.leaderboard import store

    if (head := store.receipt()) is None:
        raise UsageError("The board is empty: there is nothing to give a receipt for.")
    emit_json(head)


_COLUMNS = ("rank", "entry", "kind", "score", "normalised", "train rows", "trained params", "train", "samples/s", "peak memory")


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
        entry["train"],
        f"{cost['trainable_parameters']:,}" if "trainable_parameters" in cost else "",
        seconds(cost["train_seconds"]) if "train_seconds" in cost else "",
        f"{cost['samples_per_second']:,.0f}" if "samples_per_second" in cost else "",
        f"{cost['peak_memory_bytes'] / 2**20:,.0f} MiB" if "peak_memory_bytes" in cost else "",
    )
