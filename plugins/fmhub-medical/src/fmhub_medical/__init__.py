"""Medicine, for research: no task here is a device, and none may decide about a patient."""

from __future__ import annotations

from collections.abc import Iterator

from fmhub import Task, hookimpl
from fmhub_medical import disease, imaging

fmhub_api = (1, 0)


@hookimpl
def fmhub_tasks() -> Iterator[Task]:
    yield from disease.tasks()
    yield from imaging.tasks()
