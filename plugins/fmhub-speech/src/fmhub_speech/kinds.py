"""What kind of thing a short English prompt says, told by where Asterisk keeps it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fmhub_speech import asterisk

if TYPE_CHECKING:
    import pyarrow as pa

KINDS = (
    ("codeword", r"phonetic_"),
    ("date", r"digits_(day|mon)-|digits_(today|tomorrow|yesterday)$"),
    ("letter", r"letters_([a-z]|zed)$"),
    ("number", r"digits_(\d+|hundred|thousand|million|billion)$"),
    ("ordinal", r"digits_h-"),
    ("phrase", r"(conf|confbridge|vm)-"),
)
"""Kind -> how names of its files begin: words of the spelling alphabet, days and months, letters, numbers, telephone phrases."""
LABELS = tuple(name for name, _ in KINDS)
LONGEST = 2.0
"""Seconds of the longest utterance that is taken."""


def kind(name: str, said: str) -> str:
    """The kind of the prompt of that file name; empty for none. A phrase has more than one word."""
    found = next((label for label, pattern in KINDS if re.match(pattern, name)), "")
    return "" if found == "phrase" and len(said.split()) < 2 else found


def utterances() -> pa.Table:
    """id, audio, target (the kind), said, group (the same words, or nearly)."""
    import pyarrow as pa

    table = asterisk.read("en")
    kinds = [kind(*row) for row in zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True)]
    kept = [bool(label) and seconds <= LONGEST for label, seconds in zip(kinds, table["seconds"].to_pylist(), strict=True)]
    columns = {"id": table["id"], "audio": table["audio"], "target": pa.array(kinds), "said": table["text"], "group": table["group"]}
    return pa.table(columns).filter(pa.array(kept))


def sample() -> pa.Table:
    """Sixteen utterances of each of three kinds."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = utterances()
    return pa.concat_tables([table.filter(pc.equal(table["target"], label)).slice(0, 16) for label in ("letter", "number", "phrase")])
