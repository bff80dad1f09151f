"""The metrics that a stored plan names: fmhub's own, and a plugin's where it is still installed."""

from __future__ import annotations

from typing import Any

from fmhub.errors import UsageError
from fmhub.evaluation import metrics


def declared(plan: dict[str, Any]) -> list[metrics.Metric]:
    """In the plan's order, without those that nobody here knows any more."""
    known = {name: metrics.get(name) for name in plan["metrics"] if name in metrics.names()}
    if set(plan["metrics"]) - set(known):
        from fmhub import hub

        try:
            task, _ = hub.task(f"{plan['task']['plugin']}:{plan['task']['name']}")
            known |= {one.name: one for one in map(metrics.get, task.metrics) if one.name in plan["metrics"]}
        except UsageError:
            pass  # the plugin is gone: its metrics are left out
    return [known[name] for name in plan["metrics"] if name in known]
