"""A run's report: one self-contained HTML page from what lies in the run's folder, and from nothing else."""

from __future__ import annotations

from pathlib import Path

__all__ = ["write"]


def write(run: str | Path) -> Path:
    """Write `report.html` into the folder of a run (id or folder) and return its path.

    Raises `UsageError` for an unknown run or one that is not done, `UntrustedFile` for a folder whose files are not a run's.
    """
    from fmhub.home import write_text
    from fmhub.report.page import page
    from fmhub.report.run import read

    shown = read(run)
    path = shown.folder / "report.html"
    write_text(path, page(shown))
    return path
