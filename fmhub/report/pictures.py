"""What a report draws of predictions: each picture names what it needs of the columns, and none asks what they are about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fmhub.evaluation import evaluate, slices
from fmhub.evaluation.metrics.decisions import net_benefit
from fmhub.report import svg
from fmhub.report.aligned import worst_texts
from fmhub.report.markup import Markup, join, table, tag, text
from fmhub.report.mosaic import mosaic
from fmhub.report.run import Run
from fmhub.report.sheet import sheet
from fmhub.report.timeline import timeline
from fmhub.report.told import answers, standing, surprise

MOST_LABELS = 20
MOST_SLICES = 40
MISTAKES = 20


@dataclass(frozen=True)
class Picture:
    """A section of the report, drawn where the run `holds` everything in `needs`; one that draws None is left out."""

    title: str
    needs: frozenset[str]
    draw: Callable[[Run], Markup | None]
    wide: bool = False


def learning_curve(run: Run) -> Markup | None:
    """Training loss and validation score against steps, one line a member (seed, fold)."""
    charts: list[Markup] = []
    members = sorted({str(row.get("member", "")) for row in run.log})
    for key, name in (("loss", "training loss"), ("validation", f"validation {run.record['primary']}")):
        series = {}
        for member in members:
            points = [(row["step"], row[key]) for row in run.log if str(row.get("member", "")) == member and _finite(row.get(key))]
            if points:
                series[member] = points
        if series:
            charts.append(tag("div", svg.lines(series, "step", name, dots=key == "validation"), svg.legend(list(series))))
    return tag("div", *charts, class_="charts") if charts else None


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and bool(np.isfinite(value))


def size_curve(run: Run) -> Markup | None:
    """The primary metric against the number of training rows, beside the baselines': is the adapter worth it on this data?"""
    curve = run.record.get("curve")
    if not curve:
        return None
    series: dict[str, list[tuple[float, float]]] = {}
    for point in curve["points"]:
        for name, score in [("adapter", point["score"]), *((row["name"], row["score"]) for row in point["baselines"])]:
            if _finite(score["value"]):
                series.setdefault(name, []).append((point["train"], score["value"]))
    chart = tag("div", svg.lines(series, "training rows", str(run.record["primary"]), dots=True), svg.legend(list(series)))
    return join([tag("div", chart, class_="charts"), tag("p", curve["says"])])


def by_group(run: Run) -> Markup | None:
    """The primary metric for each value of the columns that the task or its user asked to look at."""
    parts: list[Any] = []
    for column, groups in (run.record.get("groups") or {}).items():
        found = {value: scores[run.record["primary"]] for value, scores in groups["values"].items()}
        left = tag("p", f"{groups['left_out']} rarer values are left out.", class_="quiet") if groups["left_out"] else ""
        parts += [tag("h3", column), score_rows(found, run), left]
    return join(parts) if parts else None


def by_slice(run: Run) -> Markup | None:
    """The primary metric in every part of the data that a column of its own names."""
    parts = []
    asked = run.record.get("groups") or {}
    for column in [name for name in run.extra if name not in asked]:
        values = {str(value) for value in run.columns[column] if value is not None}
        if not 2 <= len(values) <= min(MOST_SLICES, len(run.columns[column]) // 2) or run.metric is None:
            continue  # names of single examples are no parts
        found = slices(run.columns, column, [run.metric], run.labels or None)
        scores = {value: one[run.record["primary"]] for value, one in found.items()}
        if any(score["value"] is not None for score in scores.values()):
            parts += [tag("h3", column), score_rows(scores, run)]
    return join(parts) if parts else None


def score_rows(scores: dict[str, dict[str, float | None]], run: Run, *, first: str = "") -> Markup:
    """One row a name: its score, the interval in figures and drawn on a common scale, how many examples."""
    ends = [float(end) for score in scores.values() for end in (score["value"], score["low"], score["high"]) if end is not None]
    span = (min(ends, default=0.0), max(ends, default=1.0))
    rows = []
    for name, score in scores.items():
        low, value, high = score["low"], score["value"], score["high"]
        drawn = svg.interval(low, value, high, span, marked=name == first) if None not in (low, value, high) else ""  # type: ignore[arg-type]
        rows.append((name, figure(score), drawn, score["n"]))
    return table(("", run.record["primary"], "95 % interval", "n"), rows)


def number(value: object) -> str:
    """Three decimals, fewer of large values, or a dash where there is no value."""
    if not isinstance(value, (int, float)):
        return "–"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{round(value, 3) + 0.0:.3f}"


def figure(score: dict[str, float | None]) -> Markup:
    """A score with its interval below it."""
    return tag("span", number(score["value"]), tag("small", ends_of(score)))


def ends_of(score: dict[str, float | None]) -> str:
    """`0.840 to 0.862`, or why there is no interval."""
    if score.get("low") is None:
        return str(score.get("note", "none"))
    return f"{number(score['low'])} to {number(score['high'])}"


def confusion(run: Run) -> Markup | None:
    """How often each true label was predicted as which: counts, shaded by the share of the row."""
    names = run.labels + sorted({*run.columns["target"], *run.columns["prediction"]} - set(run.labels))
    place = {label: index for index, label in enumerate(names)}
    counts = np.zeros((len(names), len(names)), dtype=int)
    for truth, guess in zip(run.columns["target"], run.columns["prediction"], strict=True):
        counts[place[truth], place[guess]] += 1
    if len(names) > MOST_LABELS:
        return _confusions(names, counts)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    rows = [[name, *(_shaded(counts[i, j], shares[i, j], i == j) for j in range(len(names)))] for i, name in enumerate(names)]
    return join([tag("p", "Rows are the truth, columns the prediction."), table(["", *names], rows)])


def _shaded(count: int, share: float, right: bool) -> Markup:
    return tag(
        "span",
        str(count),
        class_="cell",
        title=f"{share:.1%} of the row",
        style=f"--share:{100 * share:.0f}%;--tone:var({'--c0' if right else '--bad'})",
    )


def _confusions(names: list[str], counts: np.ndarray) -> Markup | None:
    """With many labels: the most frequent mistakes."""
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:15]
    rows = [(names[at // len(names)], names[at % len(names)], int(wrong.flat[at])) for at in order if wrong.flat[at]]
    return table(("truth", "predicted as", "examples"), rows) if rows else None


def residuals(run: Run) -> Markup:
    """Prediction against truth, and how the errors are spread."""
    truth, guess = run.columns["target"].astype(float), run.columns["prediction"].astype(float)
    chosen = np.random.default_rng(0).permutation(len(truth))[:1500]
    counts, edges = np.histogram(guess - truth, bins=25)
    dots = svg.scatter([(float(truth[row]), float(guess[row])) for row in chosen], "target", "prediction")
    return tag("div", dots, svg.bars(edges.tolist(), counts.tolist(), "prediction minus target", "examples"), class_="charts")


def calibration(run: Run) -> Markup:
    """Whether a stated confidence is kept, in ten bins; the error with its interval below."""
    scores = run.columns["scores"]
    said, was = scores.max(1), np.array(run.labels, dtype=object)[scores.argmax(1)] == run.columns["target"]
    bins = np.minimum((said * 10).astype(int), 9)
    points = [(float(said[bins == b].mean()), float(was[bins == b].mean()), int((bins == b).sum())) for b in range(10) if (bins == b).any()]
    error = evaluate(run.columns, ["ece"], run.labels)["ece"]
    words = f"Expected calibration error {number(error['value'])} ({ends_of(error)}). On the dashed line confidence and truth agree."
    return tag("div", tag("div", svg.reliability(points), tag("p", words)), class_="charts")


def decisions(run: Run) -> Markup | None:
    """Of two labels: whether the second's probability is kept, and what acting on it is worth against acting always or never."""
    if len(run.labels) != 2:
        return None
    name, said, was = run.labels[1], run.columns["scores"][:, 1], run.columns["target"] == run.labels[1]
    bins = np.minimum((said * 10).astype(int), 9)
    points = [(float(said[bins == b].mean()), float(was[bins == b].mean()), int((bins == b).sum())) for b in range(10) if (bins == b).any()]
    at = np.linspace(0.01, max(0.02, min(0.9, float(said.max()))), 60)
    curves = {"predicted": net_benefit(said, was, at), "always": net_benefit(np.ones_like(said), was, at), "never": np.zeros_like(at)}
    low = -0.1 * float(was.mean())  # to act always soon costs more than any picture shows
    series = {kind: [(float(x), float(y)) for x, y in zip(at, curve, strict=True) if y >= low] for kind, curve in curves.items()}
    words = f"Net benefit a row of acting as if {name} from each probability on (Vickers & Elkin 2006)."
    kept = tag("div", svg.reliability(points), tag("p", f"How often it was {name} where it was said to be that probable."))
    chart = tag("div", svg.lines(series, "threshold", "net benefit"), svg.legend(list(series)), tag("p", words))
    return tag("div", kept, chart, class_="charts")


def worst_labels(run: Run) -> Markup | None:
    """Wrong predictions that the model was surest of."""
    wrong = run.columns["prediction"] != run.columns["target"]
    sure = run.columns["scores"].max(1) if "scores" in run.holds else np.zeros(len(wrong))
    order = np.argsort(-sure, kind="stable")
    rows = [row for row in order if wrong[row]][:MISTAKES]
    return _mistakes(run, rows, "confidence", sure) if rows else None


def worst_numbers(run: Run) -> Markup:
    """Predictions farthest from the truth."""
    error = run.columns["prediction"].astype(float) - run.columns["target"].astype(float)
    return _mistakes(run, list(np.argsort(-np.abs(error), kind="stable")[:MISTAKES]), "error", error)


def _mistakes(run: Run, rows: list[int], name: str, values: np.ndarray) -> Markup:
    shown = [name for name in (*run.extra[:3],) if name in run.columns]
    head = ["example", *(["input"] if "input" in run.columns else []), "truth", "prediction", name, *shown]
    lines = []
    for row in rows:
        cells = [
            run.columns["id"][row],
            *([tag("div", run.columns["input"][row], class_="input", dir="auto")] if "input" in run.columns else []),
        ]
        cells += [_short(run.columns[key][row]) for key in ("target", "prediction")]
        lines.append([*cells, number(float(values[row])), *(text(run.columns[key][row]) for key in shown)])
    return table(head, lines, numbers=False)


def _short(value: object) -> str:
    return number(value) if isinstance(value, float) else str(value)


PICTURES = (
    Picture("Learning curve", frozenset(), learning_curve, wide=True),
    Picture("Score by training size", frozenset(), size_curve),
    Picture("Scores by group", frozenset(), by_group),
    Picture("Confusion matrix", frozenset({"labels"}), confusion),
    Picture("In the order of time", frozenset({"targets"}), timeline),
    Picture("Residuals", frozenset({"numbers"}), residuals, wide=True),
    Picture("Calibration", frozenset({"labels", "scores"}), calibration),
    Picture("Decisions", frozenset({"labels", "scores"}), decisions),
    Picture("How surprising each text was", frozenset({"likelihood"}), surprise, wide=True),
    Picture("Where the right one stood", frozenset({"ranking", "targets"}), standing, wide=True),
    Picture("Scores by part of the data", frozenset({"targets"}), by_slice),
    Picture("Heat maps", frozenset({"labels", "scores", "examples"}), mosaic, wide=True),
    Picture("Contact sheet of mistakes", frozenset({"examples"}), sheet, wide=True),
    Picture("Worst mistakes", frozenset({"labels", "examples"}), worst_labels, wide=True),
    Picture("Worst mistakes", frozenset({"answers", "examples"}), answers, wide=True),
    Picture("Worst mistakes", frozenset({"numbers", "examples"}), worst_numbers, wide=True),
    Picture("Worst mistakes", frozenset({"texts", "examples"}), worst_texts, wide=True),
)
