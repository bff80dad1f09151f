"""Telephone prompts of Asterisk 1.6.1, one professional voice a language, with their scripts: bundled, see data/ORIGIN.md."""

from __future__ import annotations

import importlib.resources
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

VOICES = {"en": "Allison Smith", "es": "Allison Smith", "fr": "June Wallack", "it": "Carlo Flora", "ru": "provided by Maxim Topal"}
LICENCES = {"en": "CC-BY-SA-3.0", "es": "CC-BY-SA-3.0", "fr": "CC-BY-SA-3.0", "it": "CC-BY-3.0", "ru": "CC-BY-3.0"}
SHORT = 5.0
"""Seconds up to which a prompt counts as short in column `length`."""


def read(language: str) -> pa.Table:
    """The bundled columns: id (the file's name), seconds, text, group (the same words, or nearly), audio (the file's bytes)."""
    import pyarrow.parquet as pq

    with (importlib.resources.files(__package__) / "data" / f"{language}.parquet").open("rb") as file:
        return pq.read_table(file)


def prompts(language: str) -> pa.Table:
    """id, audio, target (what is said), group, length (short or long)."""
    import pyarrow as pa

    table = read(language)
    length = ["short" if seconds <= SHORT else "long" for seconds in table["seconds"].to_pylist()]
    columns = {"id": table["id"], "audio": table["audio"], "target": table["text"], "group": table["group"], "length": pa.array(length)}
    return pa.table(columns)


def sample(language: str, count: int = 32, words: int = 3) -> pa.Table:
    """The `count` prompts of fewest bytes that say at least `words` words: of single words, an error rate says little."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = prompts(language)
    table = table.filter(pa.array([len(re.findall(r"\w+", text)) >= words for text in table["target"].to_pylist()]))
    return table.take(pc.array_sort_indices(pc.binary_length(table["audio"]))[:count])
