"""`--engine ray`: seeds and tasks on a cluster of this machine; the lost are tried again, the failed harm nobody."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from cli import fmhub, fmhub_json

PLUGIN = """
import os, signal
from pathlib import Path
from fmhub import Recipe, Task, data, heads, hookimpl

HERE = Path(__file__).parent

@hookimpl
def fmhub_tasks():
    recipe = Recipe(epochs=2, batch=8, lr=0.01, dropout=0.0, evaluations=4, patience=0)
    for name, file in (("good", "good.csv"), ("bad", "absent.csv")):
        source = data.csv(str(HERE / file), text="text", label="label", split=data.Random())
        head, backbone = heads.Classification(), str(HERE / "tiny")
        yield Task(name=name, title=name, data=source, backbone=backbone, head=head, metrics=["accuracy"], recipe=recipe)

@hookimpl
def fmhub_logged(run, step, values):
    if (HERE / "kill").exists() and step >= 5:
        (HERE / "kill").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def plugin(tmp_path: Path, tiny: Path) -> Path:
    """The folder of a plugin with a task that works, one that fails, and a hook that kills its process while `kill` is there."""
    folder = tmp_path / "plugin"
    (folder / "fmhub_twice-1.dist-info").mkdir(parents=True)
    (folder / "fmhub_twice.py").write_text(PLUGIN)
    (folder / "fmhub_twice-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: fmhub-twice\nVersion: 1\n")
    (folder / "fmhub_twice-1.dist-info" / "entry_points.txt").write_text("[fmhub]\ntwice = fmhub_twice\n")
    lines = [
        f"{'good' if i % 2 else 'bad'} day {'film book news red blue'.split()[i % 5]} {i},{'up' if i % 2 else 'down'}" for i in range(100)
    ]
    (folder / "good.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    (folder / "tiny").symlink_to(tiny)
    return folder


@pytest.mark.slow
def test_a_cluster_gives_what_one_process_gives_though_a_worker_dies_and_a_task_fails(plugin, tmp_path):
    (plugin / "kill").touch()
    done = fmhub("run", "good", "bad", "--seeds", 2, "--engine", "ray", "--json", home=tmp_path / "ray", path=(plugin,), code=1)
    (record,) = json.loads(done.stdout)
    assert not (plugin / "kill").exists()  # a worker was killed, and its training went on in another one
    assert done.stderr.strip().splitlines()[-1].startswith("Error: fmhub-twice:bad: ") and "absent.csv" in done.stderr
    assert record["task"]["name"] == "good" and record["seeds"] == 2

    home = tmp_path / "ray"
    assert [row["id"] for row in fmhub_json("runs", "--json", home=home, path=(plugin,))] == [record["id"]]
    tables = fmhub_json("leaderboard", "--json", home=home, path=(plugin,))  # the shipped references of other tasks, too
    (table,) = [table for table in tables if table["task"].startswith("fmhub-twice:")]
    assert [entry["run"] for entry in table["entries"] if entry["kind"] != "baseline"] == [record["id"]]

    alone = fmhub_json("run", "good", "--seeds", 2, "--json", "--quiet", home=tmp_path / "alone", path=(plugin,))
    assert alone["scores"] == record["scores"] and alone["saved"] == record["saved"]
    ours, theirs = (
        pq.read_table(tmp_path / name / "runs" / one["id"] / "predictions.parquet") for name, one in (("ray", record), ("alone", alone))
    )
    assert ours.equals(theirs)
    rows = [json.loads(line) for line in (home / "runs" / record["id"] / "log.jsonl").read_text().splitlines()]
    assert {row["member"] for row in rows} == {"seed-0", "seed-1"}


def test_without_ray_the_extra_is_named(tiny, reviews, home, monkeypatch):
    from fmhub import api
    from fmhub.errors import UsageError

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError) as error:
        api.spread(["text-classification"], backbone=str(tiny), data=str(reviews), columns={"text": "review", "label": "stars"})
    assert str(error.value) == "--engine ray needs the package ray, which is not installed: pip install 'fmhub[ray]'"
    assert not (home / "runs").exists()


@pytest.mark.parametrize("more", [("--processes", "2"), ("--track", "tensorboard"), ("--output", "there"), ("--resume", "x")])
def test_what_belongs_to_one_machine_is_refused(more, capsys):
    from fmhub.cli import main

    assert main(["run", "text-classification", "--engine", "ray", *more]) == 2
    assert "--engine ray takes none of --processes, --resume, --output and --track." in capsys.readouterr().err


def test_a_task_of_this_process_only_is_refused(tiny, reviews, monkeypatch):
    from fmhub import api, hub
    from fmhub.errors import UsageError

    monkeypatch.setattr(hub, "is_local", lambda name: True)
    with pytest.raises(UsageError, match="registered in this process only"):
        api.spread(["text-classification"], backbone=str(tiny), data=str(reviews), columns={"text": "review", "label": "stars"})


def test_every_seed_fold_and_size_is_a_member():
    from types import SimpleNamespace

    from fmhub.training.cluster import _count
    from fmhub.training.plan import Options

    for options, count in ((Options(), 1), (Options(seeds=3), 3), (Options(seeds=2, folds=5), 10), (Options(seeds=2, curve=(10, 20)), 6)):
        assert _count(SimpleNamespace(options=options, folds=options.folds)) == count
