"""The frozen ends of normalised scores: what tasks declare is what the committed reference runs of that version scored."""

from __future__ import annotations

import pytest

from fmhub import hub
from fmhub.home import registry
from fmhub.leaderboard import references, shipped
from fmhub.runs import folder as run_folder

TASKS = {f"{plugin.name}:{task.name}": task for task, plugin in hub.tasks()}
KEPT = {f"{path.parent.name}:{path.stem}" for path in (registry() / "leaderboard").glob("*/*.json") if "@" not in path.stem}


@pytest.mark.parametrize("name", sorted(name for name, task in TASKS.items() if task.references))
def test_a_declared_reference_is_the_score_of_the_committed_run(name):
    task, record = TASKS[name], references.record(name)
    assert record is not None and record["task"]["version"] == str(task.version)
    for one in task.references:
        assert one.reference == pytest.approx(record["scores"]["test"][one.metric]["value"], abs=5e-4, rel=5e-4)


@pytest.mark.parametrize("name", sorted(KEPT))
def test_a_committed_run_is_a_tasks_reference_with_its_predictions(name):
    task, record = TASKS[name], references.record(name)
    plugin, _, bare = name.partition(":")
    place = shipped.kept()[f"{plugin}/{bare}"]
    assert run_folder.read_record(place) == record and (place / "predictions.parquet").is_file()
    assert [row["name"] for row in record["baselines"]] == [one.name for one in task.baselines]
    assert bool(task.references) == (task.expects == "skill")
