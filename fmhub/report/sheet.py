"""A contact sheet of mistakes, where an example is something to look at: the stem shows it, or the head draws over it.

The run's folder holds no examples, so they are read again from the task's data; where these are gone there is no sheet.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np

from fmhub.errors import FmhubError
from fmhub.report.markup import Markup, tag
from fmhub.report.run import Run

MOST = 24


def sheet(run: Run) -> Markup | None:
    """The examples with most faults, or the wrong labels that the model was surest of."""
    stem, head = run.specs
    drawn, shown = getattr(head, "drawn", None), getattr(stem, "shown", None)
    if drawn is None and shown is None:
        return None
    if drawn is None and "labels" not in run.holds:
        return None
    order = _by_faults(run, head.faults) if drawn else _by_confidence(run)
    try:
        inputs = run.inputs([run.columns["id"][row] for row in order])
        figures = [_figure(run, row, value, drawn, shown) for row, value in zip(order, inputs, strict=True)]
    except FmhubError:
        return None
    return tag("div", *figures, class_="sheet") if figures else None


def _by_faults(run: Run, faults: Callable[[Any, Any], int]) -> list[int]:
    counts = np.array([faults(*pair) for pair in zip(run.columns["prediction"], run.columns["target"], strict=True)])
    return [int(row) for row in np.argsort(-counts, kind="stable")[:MOST] if counts[row]]


def _by_confidence(run: Run) -> list[int]:
    wrong = run.columns["prediction"] != run.columns["target"]
    sure = run.columns["scores"].max(1) if "scores" in run.holds else np.zeros(len(wrong))
    return [int(row) for row in np.argsort(-sure, kind="stable") if wrong[row]][:MOST]


def _figure(run: Run, row: int, value: Any, drawn: Any, shown: Any) -> Markup:
    guess, truth = run.columns["prediction"][row], run.columns["target"][row]
    if drawn is not None:
        image, words = drawn(guess, value, truth), str(run.columns["id"][row])
    else:
        image, words = shown(value), f"{truth}, not {guess}"
        if "scores" in run.holds:
            words += f" ({run.columns['scores'][row].max():.2f})"
    source = "data:image/png;base64," + base64.b64encode(image).decode()
    return tag("figure", tag("img", src=source, alt=words, loading="lazy"), tag("figcaption", words))
