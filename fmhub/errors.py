"""Every error that fmhub raises on purpose, and the exit code it ends the CLI with.

    FmhubError              1  it failed, and the message says why
    ├── UsageError          2  the command, a name or an option is wrong
    ├── DataError           1  a user's file or row cannot be used
    ├── FetchError          1  no source gave the file, or one gave a wrong one
    ├── UntrustedFile       1  a file's bytes are not what they must be
    └── Stopped             1  the user pressed Ctrl-C; the run stays resumable

A message is one or two lines: what is wrong, where, what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FmhubError(Exception):
    """Something failed in a way that the message explains; the CLI prints it and exits with `exit_code`."""

    exit_code = 1


class UsageError(FmhubError):
    """The user asked for something that does not exist or cannot be combined."""

    exit_code = 2


class DataError(FmhubError):
    """Rows, columns or values that cannot be used; the message names the file and the row or column."""


class FetchError(FmhubError):
    """No source delivered a file; the message lists what each one answered."""


class UntrustedFile(FmhubError):
    """A file whose hash, format, names, shapes or values are not the promised ones."""


class Stopped(FmhubError):
    """Ctrl-C during a run."""


def nearest(word: str, known: Iterable[str], *, n: int = 3) -> str:
    """` Did you mean a, b?` for the names closest to `word`, or an empty string when none is close.

    >>> nearest("sentimnt", ["sentiment", "spam"])
    ' Did you mean sentiment?'
    """
    names = difflib.get_close_matches(word, list(dict.fromkeys(known)), n=n, cutoff=0.6)
    return f" Did you mean {', '.join(names)}?" if names else ""
