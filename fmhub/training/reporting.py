"""What a run tells while it works: `log.jsonl` always, observers' hooks, trackers, and people on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fmhub import hub
from fmhub.training.trackers import Tracker

LINE_SECONDS = 10.0
"""Between two lines where stderr is no terminal."""


class Reporter:
    """Tells of one run. `quiet` keeps stderr empty; hooks and the log go on."""

    def __init__(self, *, quiet: bool = False, track: str | None = None) -> None:
        """`track` names a tracker that is told, too."""
        self.quiet, self.track = quiet, track
        self._tracker: Tracker | None = None
        self.run: dict[str, Any] = {}
        self.log_path = Path()
        self._bar: Any = None
        self._task: Any = None
        self._said = 0.0

    def started(self, run: Mapping[str, Any]) -> None:
        self.run = dict(run)
        self.log_path = Path(run["folder"]) / "log.jsonl"
        if self.track is not None:
            self._tracker = Tracker(self.track, self.run)
        hub.hook("fmhub_run_started", run=self.run)

    def say(self, line: str) -> None:
        """One line for people."""
        if self.quiet:
            return
        if self._bar is None:
            print(line, file=sys.stderr, flush=True)
        else:
            self._bar.console.print(line, markup=False)

    def logged(self, title: str, step: int, total: int, values: dict[str, float], rate: float) -> None:
        """A line in log.jsonl, the hook, and how far it is."""
        with self.log_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"member": title, "step": step, **values}) + "\n")
        hub.hook("fmhub_logged", run=self.run, step=step, values=values)
        if self._tracker is not None:
            self._tracker.log(title, step, values)
        if not self.quiet:
            self._show(title, step, total, values, rate)

    def _show(self, title: str, step: int, total: int, values: dict[str, float], rate: float) -> None:
        if sys.stderr.isatty():
            self._draw(title, step, total, values, rate)
        elif "validation" in values or time.monotonic() - self._said > LINE_SECONDS:
            self._said = time.monotonic()
            left = (total - step) / rate if rate else 0.0
            words = " ".join(f"{name} {value:.4g}" for name, value in values.items() if name != "lr")
            print(f"{title}: step {step}/{total} {words} ({rate:.1f} steps/s, {left:.0f} s left)", file=sys.stderr, flush=True)

    def _draw(self, title: str, step: int, total: int, values: dict[str, float], rate: float) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(title, total=total, rate="")
        words = " ".join(f"{name} {values[name]:.3f}" for name in ("loss", "validation") if name in values)
        self._bar.update(self._task, description=title, completed=step, total=total, rate=f"{rate:.1f} steps/s {words}")

    def evaluated(self, split: str, scores: Mapping[str, Any]) -> None:
        hub.hook("fmhub_evaluated", run=self.run, split=split, scores=scores)
        if self._tracker is not None:
            self._tracker.scores(split, scores)

    def finished(self, record: Mapping[str, Any]) -> None:
        self.close()
        hub.hook("fmhub_run_finished", run=self.run, record=record)

    def close(self) -> None:
        """Take the bar away and let the tracker go; safe to call twice."""
        if self._tracker is not None:
            self._tracker.close()
            self._tracker = None
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class Silent(Reporter):
    """Of a process that is not the first: it tells nobody anything."""

    def started(self, run: Mapping[str, Any]) -> None:
        pass

    def say(self, line: str) -> None:
        pass

    def logged(self, title: str, step: int, total: int, values: dict[str, float], rate: float) -> None:
        pass

    def evaluated(self, split: str, scores: Mapping[str, Any]) -> None:
        pass

    def finished(self, record: Mapping[str, Any]) -> None:
        pass
