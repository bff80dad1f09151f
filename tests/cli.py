"""Run `fmhub` as a user does: a process of its own, a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SERVE = [
    sys.executable,
    "-c",
    "import sys; from fmhub.leaderboard import shipped; shipped.kept = dict; from fmhub.cli import main; sys.exit(main(sys.argv[1:]))",
    "leaderboard",
    "serve",
]
"""`fmhub leaderboard serve` of a board that begins empty, without the reference runs that every board begins with."""


def fmhub(
    *arguments: object, home: Path, code: int | None = 0, path: tuple[Path, ...] = (), stdin: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """`fmhub ARGUMENTS`; `path` are folders of more plugins. Asserts the exit code, and that no traceback is shown."""
    done = subprocess.run(
        [sys.executable, "-m", "fmhub", *map(str, arguments)],
        env=env(home, path, **environment),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert code is None or done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done


def fmhub_json(*arguments: object, **named: Any) -> Any:
    """What the command printed, parsed: stdout must hold JSON and nothing else."""
    return json.loads(fmhub(*arguments, **named).stdout)


def env(home: Path, path: tuple[Path, ...] = (), **more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("FMHUB_", "HF_", "PYTEST"))}
    paths = [*map(str, path), kept.pop("PYTHONPATH", "")]
    return {**kept, "FMHUB_HOME": str(home), "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1", **more}
