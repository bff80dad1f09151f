"""`fmhub predict`: what a trained run says of new inputs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fmhub.cli.output import emit_json, json_option

if TYPE_CHECKING:
    from fmhub.api import Predictor


@click.command()
@click.argument("run")
@click.argument("inputs", nargs=-1, metavar="INPUT... | -")
@click.option("--draw", metavar="FOLDER", help="Draw each prediction over its input, into FOLDER.")
@json_option
def predict(run: str, inputs: tuple[str, ...], draw: str | None, as_json: bool) -> None:
    """Predict with RUN: an id, a folder, or a task (its last run). An INPUT is a value, or JSON where a task reads several.

    `-` reads inputs from stdin, one a line.
    """
    from fmhub import api
    from fmhub.runs import folder

    values = [line.rstrip("\n") for line in sys.stdin] if inputs in ((), ("-",)) else list(inputs)
    predictor = api.load(folder.find_last(run))
    rows = [value if predictor.typed else _input(value, predictor.fields) for value in values]
    found = predictor.predict(rows)
    if draw:
        _draw(predictor, rows, found, Path(draw))
    for note in predictor.notes:
        click.echo(f"note  {note}", err=True)
    if as_json:
        emit_json(found)
        return
    for value, row in zip(values, found, strict=True):
        prediction = row.get("readable", row["prediction"])
        prediction = "; ".join(prediction) if isinstance(prediction, list) else prediction
        score = row["scores"].get(prediction) if isinstance(row.get("scores"), dict) else None
        shown = f"{prediction:.4g}" if isinstance(prediction, float) else str(prediction)
        click.echo(f"{shown}{'' if score is None else f'  {score:.3f}'}  {value[:100]}")


def _draw(predictor: Predictor, inputs: Sequence[Any], found: Sequence[dict[str, Any]], folder: Path) -> None:
    """One file an input, named after it; each row then says in `drawn` where it is."""
    from fmhub.home import atomic, make_folder

    make_folder(folder)
    for number, (value, row) in enumerate(zip(inputs, found, strict=True), 1):
        path = folder / f"{number}-{Path(value).stem if isinstance(value, str) else 'input'}.png"
        with atomic(path) as file:
            file.write(predictor.draw(value, row))
        row["drawn"] = str(path)


def _input(value: str, fields: tuple[str, ...]) -> Any:
    """A bare value, or JSON where the task has several fields."""
    if len(fields) == 1:
        return value
    import json

    try:
        return json.loads(value)
    except ValueError:
        raise click.UsageError(f"This task reads {', '.join(fields)}: give each input as JSON, not {value[:60]!r}.") from None
