"""The conformance kit: what a plugin must be to be a good guest, one check a function, each with the figure that it saw.

`fmhub check` runs it, `pytest --fmhub` too; `quick` is the part that `fmhub install` runs before it touches the environment.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """What one check saw. `ok` is None where it is only told; `task` is empty where the whole plugin is meant."""

    check: str
    ok: bool | None
    figure: str
    task: str = ""
    seconds: float = 0.0


Seen = tuple[bool | None, str]
"""What a check function returns: passed, failed or only told, and the figure."""
