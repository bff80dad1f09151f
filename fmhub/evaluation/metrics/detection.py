"""Metrics of boxes, as COCO defines them (Lin et al. 2014, arXiv:1405.0312): equal to pycocotools and faster-coco-eval.

A prediction is a list of {box, label, score}, a target a list of {box, label}; a box is [left, top, right, bottom] in pixels.
A target with `iscrowd` is a place whose things nobody marked one by one: what is found there is neither right nor wrong.
Matching is done once an image; a bootstrap resample of images only sums again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fmhub.errors import DataError
from fmhub.evaluation.metrics.base import Columns, Labels, Metric
from fmhub.evaluation.metrics.columns import column

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Overlaps (intersection over union) from which a detection is a hit."""
RECALLS = np.linspace(0, 1, 101)
MOST = 100
"""Detections of one label in one image that count, best first."""
CELLS = 1 << 22


@dataclass(frozen=True)
class Matched:
    """Detections of one label over all images, best first."""

    rows: np.ndarray
    """(d,) the image of each."""
    hits: np.ndarray
    """(d, thresholds) bool."""
    judged: np.ndarray
    """(d, thresholds) bool: right or wrong, and not in a crowd."""
    truths: np.ndarray
    """(n,) true boxes of each image, float64."""


def overlaps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(a, 4) and (b, 4) boxes -> (a, b) intersection over union, 0 to 1."""
    inner = np.minimum(one[:, None, 2:], other[None, :, 2:]) - np.maximum(one[:, None, :2], other[None, :, :2])
    shared = inner.clip(0).prod(-1)
    area = [(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) for boxes in (one, other)]
    union = area[0][:, None] + area[1][None] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros(shared.shape), where=union > 0))


def within(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(a, 4) and (b, 4) boxes -> (a,) the largest share of each of `one` that lies in one of `other`, 0 to 1."""
    inner = np.minimum(one[:, None, 2:], other[None, :, 2:]) - np.maximum(one[:, None, :2], other[None, :, :2])
    area = (one[:, 2:] - one[:, :2]).prod(-1)[:, None]
    shared = inner.clip(0).prod(-1)
    return np.asarray(np.divide(shared, area, out=np.zeros(shared.shape), where=area > 0).max(1, initial=0.0))


def hits(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """(d, thresholds): each detection, best first, takes the true box that it overlaps most and that no better one took."""
    result = np.zeros((len(found), len(THRESHOLDS)), dtype=bool)
    if not len(true):
        return result
    shared = overlaps(found, true)
    for place, threshold in enumerate(THRESHOLDS):
        free = np.ones(len(true), dtype=bool)
        for row in range(len(found)):
            open_ = np.where(free, shared[row], -1.0)
            best = len(true) - 1 - int(open_[::-1].argmax())  # the last of equals, as COCO's loop has it
            if open_[best] >= threshold:
                result[row, place], free[best] = True, False
    return result


def _matched(columns: Columns) -> list[Matched]:
    """One entry a label that occurs in the targets."""
    given, truth = column(columns, "prediction"), column(columns, "target")
    predictions = [_boxes(value, "prediction", row, scored=True) for row, value in enumerate(given)]
    targets = [_boxes(value, "target", row, scored=False) for row, value in enumerate(truth)]
    return [_of_label(label, predictions, targets) for label in sorted({label for boxes in targets for label in boxes})]


def _of_label(label: str, predictions: Sequence[Mapping[str, np.ndarray]], targets: Sequence[Mapping[str, np.ndarray]]) -> Matched:
    none, nothing = np.zeros((0, 5)), np.zeros((0, len(THRESHOLDS)), bool)
    rows, scores, found, judged = [np.zeros(0, int)], [np.zeros(0)], [nothing], [nothing]
    for row, (predicted, true) in enumerate(zip(predictions, targets, strict=True)):
        boxes = predicted.get(label, none)
        boxes = boxes[np.argsort(-boxes[:, 4], kind="stable")][:MOST]
        rows.append(np.full(len(boxes), row))
        scores.append(boxes[:, 4])
        real = true.get(label, none)
        things, crowds = (real[(real[:, 4] > 0) == kind, :4] for kind in (True, False))
        found.append(hits(boxes[:, :4], things))
        judged.append(found[-1] | (within(boxes[:, :4], crowds)[:, None] < THRESHOLDS))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    counts = np.array([(true.get(label, none)[:, 4] > 0).sum() for true in targets], dtype=np.float64)
    return Matched(np.concatenate(rows)[order], np.concatenate(found)[order], np.concatenate(judged)[order], counts)


def _boxes(value: Any, what: str, row: int, *, scored: bool) -> dict[str, np.ndarray]:
    """{label: (k, 5) left, top, right, bottom, score}; the score of a target is 1, of a crowd 0."""
    by_label: dict[str, list[list[float]]] = {}
    try:
        for one in value:
            box = [float(edge) for edge in one["box"]]
            by_label.setdefault(str(one["label"]), []).append([*box, float(one["score"]) if scored else float(not one.get("iscrowd"))])
        found = {label: np.array(boxes).reshape(-1, 5) for label, boxes in by_label.items()}
    except (TypeError, KeyError, ValueError):
        raise DataError(f"Row {row}: the {what} is not a list of boxes (box, label{', score' * scored}).") from None
    if not all(np.isfinite(boxes).all() for boxes in found.values()):
        raise DataError(f"Row {row}: the {what} has a box or score that is not finite.")
    return found


def _precision(one: Matched, counts: np.ndarray, chosen: Sequence[int]) -> np.ndarray:
    """(b, n) counts of images -> (b,) mean interpolated precision over 101 recalls and the chosen thresholds; NaN without a true box."""
    positives = counts @ one.truths
    weights = counts[:, one.rows]
    total = np.zeros(len(counts))
    for threshold in chosen:
        seen = np.cumsum(weights * one.judged[:, threshold], axis=1)
        true = np.cumsum(weights * one.hits[:, threshold], axis=1)
        precision = np.divide(true, seen, out=np.zeros(true.shape), where=seen > 0)
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        recall = np.divide(true, positives[:, None], out=np.zeros(true.shape), where=positives[:, None] > 0)
        for sample in range(len(counts)):
            place = np.searchsorted(recall[sample], RECALLS, side="left")
            total[sample] += precision[sample, place[place < len(one.rows)]].sum() / len(RECALLS)
    return np.where(positives > 0, total / len(chosen), np.nan)


def _sampler(chosen: Sequence[int]) -> Callable[[Columns, Labels], Callable[[np.ndarray], np.ndarray]]:
    def prepare(columns: Columns, labels: Labels) -> Callable[[np.ndarray], np.ndarray]:
        matched = _matched(columns)
        step = max(1, CELLS // max([1, *(len(one.rows) for one in matched)]))

        def weighted(counts: np.ndarray) -> np.ndarray:
            if not matched:
                return np.full(len(counts), np.nan)
            pieces = [counts[start : start + step] for start in range(0, len(counts), step)]
            values = np.concatenate([np.stack([_precision(one, piece, chosen) for one in matched]) for piece in pieces], axis=1)
            there = ~np.isnan(values)
            many = there.sum(0)
            mean: np.ndarray = np.divide(np.where(there, values, 0).sum(0), many, out=np.full(len(counts), np.nan), where=many > 0)
            return mean

        return weighted

    return prepare


def _metric(name: str, title: str, thresholds: Sequence[int]) -> Metric:
    prepare = _sampler(thresholds)

    def score(columns: Columns, labels: Labels = None) -> float:
        """Mean average precision over labels and thresholds, 0 to 1; NaN where no image has a true box."""
        weighted = prepare(columns, labels)
        return float(weighted(np.ones((1, len(columns["target"]))))[0])

    return Metric(name, score, "max", 0, 1, title=title, resample=prepare)


METRICS = {
    metric.name: metric
    for metric in (
        _metric("map", "mAP at .50:.95", range(10)),
        _metric("ap50", "AP at overlap .50", (0,)),
        _metric("ap75", "AP at overlap .75", (5,)),
    )
}
