"""The benchmark itself: one tiny round of it ends with a table."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from cli import env

SCRIPT = Path(__file__).parent / "benchmarks" / "versus_trainer.py"


def test_a_tiny_round_runs_both_sides_on_the_same_rows(weights):
    sizes = ["--rows", "64", "--test", "64", "--epochs", "1", "--rounds", "1", "--arms", "trainer", "all layers", "last 2"]
    done = subprocess.run([sys.executable, str(SCRIPT), *sizes], env=env(weights), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line[:10].strip() for line in lines[1:4]] == ["trainer", "all layers", "last 2"]
    assert "1.00x" in lines[1] and "sgemm peak" in lines[4]
