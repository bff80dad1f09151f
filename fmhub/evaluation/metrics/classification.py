"""Metrics of a predicted label. `labels` fixes their order; F1 takes the second of two as the positive one."""

from __future__ import annotations

import numpy as np

from fmhub.errors import DataError
from fmhub.evaluation.metrics.base import Columns, Labels, Metric
from fmhub.evaluation.metrics.columns import codes


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, and 0 where below is 0."""
    return np.asarray(np.divide(above, below, out=np.zeros(np.broadcast_shapes(above.shape, below.shape)), where=below != 0))


def _one_hot(index: np.ndarray, count: int) -> np.ndarray:
    hot: np.ndarray = np.eye(count)[index]
    return hot


def accuracy(columns: Columns, labels: Labels = None) -> float:
    """Share of rows whose prediction is the target, 0 to 1."""
    target, prediction, _ = codes(columns, labels)
    return float(np.mean(target == prediction))


def _accuracy_rows(columns: Columns, labels: Labels) -> np.ndarray:
    target, prediction, _ = codes(columns, labels)
    return np.stack([target == prediction, np.ones(len(target))], axis=1).astype(np.float64)


def _accuracy_sums(sums: np.ndarray) -> np.ndarray:
    return _ratio(sums[..., 0], sums[..., 1])


def f1_macro(columns: Columns, labels: Labels = None) -> float:
    """Unweighted mean of F1 over the labels that occur in target or prediction, 0 to 1."""
    return float(_f1_macro_sums(_confusion_rows(columns, labels).sum(0)))


def _confusion_rows(columns: Columns, labels: Labels) -> np.ndarray:
    """(n, 3 labels): hits, times true, times predicted, a label."""
    target, prediction, names = codes(columns, labels)
    true, predicted = _one_hot(target, len(names)), _one_hot(prediction, len(names))
    return np.concatenate([true * predicted, true, predicted], axis=1)


def _split(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    count = sums.shape[-1] // 3
    return sums[..., :count], sums[..., count : 2 * count], sums[..., 2 * count :]


def _f1_macro_sums(sums: np.ndarray) -> np.ndarray:
    hits, true, predicted = _split(sums)
    occurs = (true + predicted) > 0
    return _ratio(_ratio(2 * hits, true + predicted).sum(-1), occurs.sum(-1))


def balanced_accuracy(columns: Columns, labels: Labels = None) -> float:
    """Mean recall over the labels that occur in the target, 0 to 1."""
    return float(_balanced_sums(_confusion_rows(columns, labels).sum(0)))


def _balanced_sums(sums: np.ndarray) -> np.ndarray:
    hits, true, _ = _split(sums)
    return _ratio(_ratio(hits, true).sum(-1), (true > 0).sum(-1))


def mcc(columns: Columns, labels: Labels = None) -> float:
    """Matthews' correlation coefficient for any number of labels (Gorodkin 2004), -1 to 1; 0 where one side is constant."""
    return float(_mcc_sums(_confusion_rows(columns, labels).sum(0)))


def _mcc_sums(sums: np.ndarray) -> np.ndarray:
    hits, true, predicted = _split(sums)
    total = true.sum(-1)
    covariance = hits.sum(-1) * total - (true * predicted).sum(-1)
    spread = (total**2 - (true**2).sum(-1)) * (total**2 - (predicted**2).sum(-1))
    return _ratio(covariance, np.sqrt(spread))


def f1(columns: Columns, labels: Labels = None) -> float:
    """F1 of the positive label, the second of two, 0 to 1; 0 where it is neither true nor predicted."""
    return float(_f1_sums(_f1_rows(columns, labels).sum(0)))


def _binary(columns: Columns, labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    target, prediction, names = codes(columns, labels)
    if len(names) > 2:
        raise DataError(f"f1 needs two labels and there are {len(names)}; f1_macro takes any number.")
    return target, prediction


def _f1_rows(columns: Columns, labels: Labels) -> np.ndarray:
    target, prediction = _binary(columns, labels)
    return np.stack([target * prediction, target, prediction], axis=1).astype(np.float64)


def _f1_sums(sums: np.ndarray) -> np.ndarray:
    return _ratio(2 * sums[..., 0], sums[..., 1] + sums[..., 2])


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", accuracy, "max", 0, 1, title="Accuracy", kind="label", statistics=_accuracy_rows, combine=_accuracy_sums),
        Metric(
            "balanced_accuracy", balanced_accuracy, "max", 0, 1, title="Balanced accuracy", kind="label",
            statistics=_confusion_rows, combine=_balanced_sums,
        ),
        Metric("f1", f1, "max", 0, 1, title="F1", kind="label", statistics=_f1_rows, combine=_f1_sums),
        Metric("f1_macro", f1_macro, "max", 0, 1, title="Macro F1", kind="label", statistics=_confusion_rows, combine=_f1_macro_sums),
        Metric("mcc", mcc, "max", -1, 1, title="Matthews correlation", kind="label", statistics=_confusion_rows, combine=_mcc_sums),
    )
}  # fmt: skip
