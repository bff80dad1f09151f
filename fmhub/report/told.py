"""What is drawn of likelihoods, of rankings, and of answers found in passages."""

from __future__ import annotations

from typing import Any

import numpy as np

from fmhub.evaluation.metrics.answers import overlap
from fmhub.evaluation.metrics.ranking import places
from fmhub.report import svg
from fmhub.report.markup import Markup, join, table, tag
from fmhub.report.run import Run

MOST = 15


def surprise(run: Run) -> Markup | None:
    """How many bits a token of each text costs, and the texts that cost most and least."""
    tokens = run.columns["tokens"].astype(float)
    bits = run.columns["nll"].astype(float) / np.maximum(tokens, 1) / np.log(2)
    counts, edges = np.histogram(bits, bins=25)
    chart = svg.bars(edges.tolist(), counts.tolist(), "bits a token", "texts")
    words = f"Half of the texts cost at most {np.median(bits):.2f} bits a token: a perplexity of {2 ** np.median(bits):.1f}."
    parts = [tag("div", chart, tag("p", words), class_="charts")]
    if "examples" in run.holds and "input" in run.columns:
        order = [int(row) for row in np.argsort(-bits, kind="stable")]
        shown = order if len(order) <= 2 * MOST else [*order[:MOST], *order[-MOST:]]
        lines = [
            (_quoted(run.columns["input"][row]), run.columns["prediction"][row], f"{bits[row]:.2f}", int(tokens[row])) for row in shown
        ]
        parts.append(table(("beginning | rest", "written", "bits a token", "tokens"), lines, numbers=False))
    return join(parts)


def standing(run: Run) -> Markup | None:
    """At which place of its ranking the right one stood, and the rankings that were furthest off."""
    found = places(run.columns)
    reach = int(min(20, max(len(one) for one in run.columns["prediction"])))
    counts = [int((found == place).sum()) for place in range(reach)]
    rows = [(f"{place + 1}", count, f"{count / len(found):.1%}") for place, count in enumerate(counts)]
    beyond = len(found) - sum(counts)
    rows += [("further down or absent", beyond, f"{beyond / len(found):.1%}")] if beyond else []
    parts = [table(("place of the right one", "examples", "share"), rows)]
    if {"examples"} <= run.holds and {"input", "readable"} <= run.columns.keys():
        order = [int(row) for row in np.argsort(-found, kind="stable")[:MOST] if 0 < found[row] < np.inf]
        lines = [
            (
                _quoted(run.columns["input"][row]),
                run.columns["readable"][row][0],
                run.columns["readable"][row][int(found[row])],
                int(found[row]) + 1,
            )
            for row in order
        ]
        parts.append(table(("question", "chosen", "right", "its place"), lines, numbers=False))
    return join(parts)


def answers(run: Run) -> Markup | None:
    """The answers that share least with the right ones."""
    said, true = run.columns["prediction"], run.columns["target"]
    alike = np.array([max(overlap(one, answer) for answer in many) for one, many in zip(said, true, strict=True)])
    order = [int(row) for row in np.argsort(alike, kind="stable")[:MOST] if alike[row] < 1]
    asked: Any = run.columns.get("input", np.full(len(said), ""))
    lines = [(_quoted(asked[row]), said[row], " / ".join(true[row]), f"{alike[row]:.2f}") for row in order]
    return table(("question | passage", "found", "right", "F1"), lines, numbers=False) if lines else None


def _quoted(text: Any) -> Markup:
    return tag("div", str(text), class_="input", dir="auto")
