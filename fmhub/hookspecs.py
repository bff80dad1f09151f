"""The hooks of pluggy project `fmhub`. A plugin implements any of them with `@fmhub.hookimpl`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from fmhub.task import Task

hookspec = pluggy.HookspecMarker("fmhub")
hookimpl = pluggy.HookimplMarker("fmhub")


@hookspec
def fmhub_tasks() -> Iterable[Task]:
    """The plugin's tasks. Must be cheap: it is called for `fmhub tasks`."""
    raise AssertionError("a hookspec is never called")


@hookspec
def fmhub_backbones() -> Iterable[Any]:
    """The plugin's backbone cards (`fmhub.backbones.Card`)."""
    raise AssertionError("a hookspec is never called")


@hookspec
def fmhub_run_started(run: Mapping[str, Any]) -> None:
    """A run begins; `run` is its plan as plain data, with `id` and `folder`."""


@hookspec
def fmhub_logged(run: Mapping[str, Any], step: int, values: Mapping[str, float]) -> None:
    """A line was added to the run's `log.jsonl`."""


@hookspec
def fmhub_evaluated(run: Mapping[str, Any], split: str, scores: Mapping[str, Any]) -> None:
    """A split was scored; `scores` is {metric: {value, low, high, n}}."""


@hookspec
def fmhub_run_finished(run: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    """A run is complete; `record` is what stands in `run.json`."""
