"""`python -m fmhub`, and what `accelerate launch --module fmhub` starts."""

from fmhub.cli import main

if __name__ == "__main__":
    main()
