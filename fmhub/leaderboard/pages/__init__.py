"""The board's pages: HTML made here, no script, one stylesheet; readable on a phone and in dark mode."""

from fmhub.leaderboard.pages.entry import entry
from fmhub.leaderboard.pages.frame import CSS, entry_file, report_file, task_file
from fmhub.leaderboard.pages.index import index
from fmhub.leaderboard.pages.task import task

__all__ = ["CSS", "entry", "entry_file", "index", "report_file", "task", "task_file"]
