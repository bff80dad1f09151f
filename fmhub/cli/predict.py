"""`fmhub predict`: what a trained run says of new inputs."""

from __future__ import annotations

import sys
from typing import Any

import click

from fmhub.cli.output import emit_json, json_option


@click.command()
@click.argument("run")
@click.argument("inputs", nargs=-1, metavar="INPUT... | -")
@json_option
def predict(run: str, inputs: tuple[str, ...], as_json: bool) -> None:
    """Predict with RUN: an id, a folder, or a task (its last run). An INPUT is a value, or JSON where a task reads several.

    `-` reads inputs from stdin, one a line.
    """
    from fmhub import api
    from fmhub.runs import folder

    values = [line.rstrip("\n") for line in sys.stdin] if inputs in ((), ("-",)) else list(inputs)
    predictor = api.load(folder.find_last(run))
    found = predictor.predict([value if predictor.typed else _input(value, predictor.fields) for value in values])
    if as_json:
        emit_json(found)
        return
    for value, row in zip(values, found, strict=True):
        prediction = row.get("readable", row["prediction"])
        prediction = "; ".join(prediction) if isinstance(prediction, list) else prediction
        score = row["scores"].get(prediction) if isinstance(row.get("scores"), dict) else None
        shown = f"{prediction:.4g}" if isinstance(prediction, float) else str(prediction)
        click.echo(f"{shown}{'' if score is None else f'  {score:.3f}'}  {value[:100]}")


def _input(value: str, fields: tuple[str, ...]) -> Any:
    """A bare value, or JSON where the task has several fields."""
    if len(fields) == 1:
        return value
    import json

    try:
        return json.loads(value)
    except ValueError:
        raise click.UsageError(f"This task reads {', '.join(fields)}: give each input as JSON, not {value[:60]!r}.") from None
