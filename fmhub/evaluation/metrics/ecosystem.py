"""A metric as an `evaluate.Metric`, for tools that expect one. Import costs seconds: never inside a loop."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

from fmhub.evaluation.metrics.base import Labels, Metric
from fmhub.evaluation.metrics.columns import columns


class LocalMetric(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """`compute(predictions, references)` calls the pure function; nothing is looked up by name on the hub."""

    def __init__(self, metric: Metric, labels: Labels, **options: Any) -> None:
        self.metric, self.labels = metric, labels
        super().__init__(**options)

    def _info(self) -> evaluate.MetricInfo:
        value = datasets.Value("float64" if self.metric.kind == "number" else "string")
        given = datasets.Sequence(datasets.Value("float64")) if "scores" in self.metric.reads else value
        return evaluate.MetricInfo(
            description=self.metric.title or self.metric.name,
            citation="",
            features=datasets.Features({"predictions": given, "references": value}),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        given = "scores" if "scores" in self.metric.reads else "prediction"
        table = columns({given: predictions, "target": references})
        return {self.metric.name: self.metric.score(table, self.labels)}


def wrap(metric: Metric, labels: Labels) -> LocalMetric:
    """See `fmhub.evaluation.metrics.as_evaluate`."""
    return LocalMetric(metric, labels, module_type="metric")
