"""Runs the checks of a plugin in order and says what each saw."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmhub.errors import FmhubError, UsageError, nearest
from fmhub.home import write_text
from fmhub.testing import Outcome, Seen
from fmhub.testing.quick import MOST, light

if TYPE_CHECKING:
    from fmhub.testing.subject import Subject


def quick(name: str) -> list[Outcome]:
    """The quick checks, in a process of their own."""
    seen = _seen(name)
    if not seen.get("problem") and seen["seconds"] > MOST:  # the first time, byte code was compiled
        seen = min(seen, _seen(name), _seen(name), key=lambda one: one["seconds"])
    if seen.get("problem"):
        return [Outcome("loads", False, seen["problem"])]
    loaded = Outcome("loads", True, ", ".join(seen["tasks"]) or "no tasks")
    return [loaded, light(seen), *(Outcome(**one) for one in seen["outcomes"])]


def _seen(name: str) -> dict[str, Any]:
    command = [sys.executable, "-P", "-m", "fmhub.testing.quick", name]
    environment = {key: value for key, value in os.environ.items() if key != "FMHUB_DISABLE_PLUGINS"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=120)
    try:
        found: dict[str, Any] = json.loads(done.stdout)[name]
    except ValueError:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        return {"problem": f"it ended the process that loaded it: {last}"}
    return found


def checks() -> Sequence[Callable[[Subject], Seen]]:
    """Every check of a task; the cheap ones first."""
    from fmhub.testing import data_checks as data
    from fmhub.testing import metric_checks as metric
    from fmhub.testing import training_checks as training

    return (
        data.splits_disjoint, data.answer_hidden, training.sockets_closed, data.same_in_another_process, training.overfits_one_batch,
        training.same_seed_same_bits, training.resume_is_no_difference, training.adapter_round_trips, training.blind_to_targets,
        training.beats_the_floor, training.shuffled_labels_at_the_floor, metric.perfect_scores_the_bound, metric.order_of_rows_is_nothing,
        metric.metrics_read_predictions, training.runs_in_a_minute,
    )  # fmt: skip


def check(name: str, *, tasks: Sequence[str] = (), backbone: str | None = None, only_quick: bool = False) -> Iterator[Outcome]:
    """Every outcome of the installed plugin `name`, as it is seen. Raises `UsageError` for an unknown plugin or task."""
    from fmhub import hub

    found = hub.installed()
    if name not in found:
        raise UsageError(f"No plugin {name!r} is installed.{nearest(name, found)} `fmhub plugins` lists them; a folder works, too.")
    first = quick(name)
    yield from first
    if only_quick or any(outcome.ok is False for outcome in first if outcome.check == "loads"):
        return
    plugin = hub.plugin(name)
    known = [task.name for task in plugin.tasks]
    if unknown := [task for task in tasks if task not in known]:
        raise UsageError(f"Plugin {name} has no task {unknown[0]!r}.{nearest(unknown[0], known)}")
    for task in plugin.tasks:
        if not tasks or task.name in tasks:
            with opened(plugin, task, backbone) as it:
                yield from (judged(one, it) for one in checks())


@contextmanager
def opened(plugin: Any, task: Any, backbone: str | None) -> Iterator[Subject]:
    """The subject of a task."""
    from fmhub.testing.subject import subject

    with subject(plugin, task, backbone) as it:
        yield it


def title(one: Callable[..., Any]) -> str:
    """A check's name, as people read it."""
    return one.__name__.replace("_", " ")


def judged(one: Callable[[Subject], Seen], it: Subject) -> Outcome:
    """The outcome of one check; what it raises is a failure that says so."""
    began = time.monotonic()
    try:
        ok, figure = one(it)
    except FmhubError as error:
        ok, figure = False, str(error)
    except Exception as error:
        ok, figure = False, f"{type(error).__name__}: {error}"
    return Outcome(title(one), ok, " ".join(figure.split())[:400], it.declared.name, round(time.monotonic() - began, 2))


def badge(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write the result as a small SVG picture for a README."""
    passed, failed = (sum(outcome.ok is wanted for outcome in outcomes) for wanted in (True, False))
    words, colour = (f"{failed} failed", "#b00020") if failed else (f"{passed} passed", "#2e7d32")
    left, right = 84, 24 + 7 * len(words)
    write_text(path, _BADGE.format(left=left, right=right, all=left + right, words=words, colour=colour, middle=left + right // 2))


_BADGE = """<svg xmlns="http://www.w3.org/2000/svg" width="{all}" height="20" role="img" aria-label="fmhub check: {words}">
<title>fmhub check: {words}</title>
<rect width="{left}" height="20" fill="#424242"/><rect x="{left}" width="{right}" height="20" fill="{colour}"/>
<g fill="#fff" font-family="sans-serif" font-size="11" text-anchor="middle">
<text x="42" y="14">fmhub check</text><text x="{middle}" y="14">{words}</text></g>
</svg>
"""
