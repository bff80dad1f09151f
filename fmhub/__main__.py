"""`python -m fmhub`, and what `accelerate launch --module fmhub` starts."""

import sys

from fmhub.cli import main

if __name__ == "__main__":
    sys.exit(main())
