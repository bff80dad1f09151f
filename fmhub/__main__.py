"""The process that `fmhub`, `python -m fmhub` and `accelerate launch --module fmhub` start."""

import sys
from typing import NoReturn

from fmhub.cli import main
from fmhub.process import collect_seldom, leave


def process() -> NoReturn:
    """Run the command that the command line names, and end with its exit code."""
    collect_seldom()
    leave(main(sys.argv[1:]))


if __name__ == "__main__":
    process()
