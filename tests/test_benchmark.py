"""The benchmarks themselves: one tiny round of each ends with its table."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

from cli import env

SCRIPT = Path(__file__).parent / "benchmarks" / "versus_trainer.py"


def test_a_tiny_round_runs_both_sides_on_the_same_rows(weights):
    sizes = ["--rows", "64", "--test", "64", "--epochs", "1", "--rounds", "1", "--arms"]
    arms = ["trainer", "all layers", "last 2, second seed", "last 2, one seed more"]
    done = subprocess.run([sys.executable, str(SCRIPT), *sizes, *arms], env=env(weights), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line[:26].strip() for line in lines[1:5]] == arms
    assert "1.00x" in lines[1] and "sgemm peak" in lines[5]


def test_a_tiny_round_of_the_loop_beside_a_bare_one(tiny, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    loop = runpy.run_path(str(SCRIPT.with_name("loop.py")))
    ratio = loop["main"]([str(tiny), "--rows", "64", "--pairs", "1"])
    assert ratio > 0 and f"{ratio:.3f} of a bare one's" in capsys.readouterr().out
