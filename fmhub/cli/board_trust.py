"""Whether the board is what it was."""

from __future__ import annotations

from typing import Any

import click

from fmhub.cli.output import emit_json, json_option, table


@click.command()
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


@click.command()
def receipt() -> None:
    """Print the sealed head of the log; keep it, and `verify --receipt` finds whatever is changed or cut later."""
    from fmhub.errors import UsageError
    from fmhub.leaderboard import store

    if (head := store.receipt()) is None:
        raise UsageError("The board is empty: there is nothing to give a receipt for.")
    emit_json(head)
