"""Texts that were predicted beside the true ones, word under word: what was left out, put in or mistaken."""

from __future__ import annotations

import base64
from typing import Any, Literal

import numpy as np

from fmhub.errors import FmhubError
from fmhub.evaluation.metrics.transcripts import folded
from fmhub.report.markup import Markup, join, tag
from fmhub.report.run import Run

MOST = 24
LONGEST = 400
"""Words of one text that are aligned."""
Step = tuple[Literal["=", "-", "+"], str]
"""A word that both have, that only the truth has, that only the prediction has."""


def worst_texts(run: Run) -> Markup | None:
    """The texts with most wrong words, and above each what was read, where the stem can show it."""
    pairs = zip(run.columns["target"], run.columns["prediction"], strict=True)
    found = [align(str(truth).split()[:LONGEST], str(guess).split()[:LONGEST]) for truth, guess in pairs]
    faults = np.array([sum(kind != "=" for kind, _ in steps) for steps in found])
    order = [int(row) for row in np.argsort(-faults, kind="stable")[:MOST] if faults[row]]
    if not order:
        return None
    pictures = _pictures(run, [str(run.columns["id"][row]) for row in order])
    figures = [
        tag("figure", picture, tag("figcaption", tag("b", run.columns["id"][row]), " ", *_drawn(found[row]), dir="auto"))
        for row, picture in zip(order, pictures, strict=True)
    ]
    note = "Struck out: only in the truth. Underlined: only in the prediction. Case, accents and punctuation are no difference here."
    return join([tag("p", note, class_="quiet"), tag("div", *figures, class_="aligned")])


def align(truth: list[str], guess: list[str]) -> list[Step]:
    """The fewest words struck out and put in that make `guess` of `truth`; two words are equal where they fold alike."""
    one, other = [folded(word) for word in truth], [folded(word) for word in guess]
    cost = np.zeros((len(one) + 1, len(other) + 1), np.int64)
    cost[:, 0], cost[0] = np.arange(len(one) + 1), np.arange(len(other) + 1)
    for i, word in enumerate(one, 1):
        for j, said in enumerate(other, 1):
            cost[i, j] = cost[i - 1, j - 1] if word == said else 1 + min(cost[i - 1, j], cost[i, j - 1])
    steps: list[Step] = []
    i, j = len(one), len(other)
    while i or j:
        if i and j and one[i - 1] == other[j - 1]:
            i, j = i - 1, j - 1
            steps.append(("=", guess[j]))
        elif j and (not i or cost[i, j - 1] <= cost[i - 1, j]):
            j -= 1
            steps.append(("+", guess[j]))
        else:
            i -= 1
            steps.append(("-", truth[i]))
    return steps[::-1]


def _drawn(steps: list[Step]) -> list[Any]:
    names = {"-": "del", "+": "ins"}
    return [part for kind, word in steps for part in (tag(names[kind], word) if kind in names else word, " ")]


def _pictures(run: Run, names: list[str]) -> list[Markup]:
    """What the stem shows of these examples, read again from the task's data; nothing where it shows none or they are gone."""
    shown = getattr(run.specs[0], "shown", None)
    if shown is None or "examples" not in run.holds:
        return [Markup()] * len(names)
    try:
        images = [shown(value) for value in run.inputs(names)]
    except (FmhubError, KeyError):
        return [Markup()] * len(names)
    sources = ["data:image/png;base64," + base64.b64encode(image).decode() for image in images]
    return [tag("img", src=source, alt=name, loading="lazy") for source, name in zip(sources, names, strict=True)]
