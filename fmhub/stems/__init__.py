"""Stems, one file a kind: what turns an example into the backbone's input. Light specs; torch is imported by their methods."""

from __future__ import annotations

from collections.abc import Sequence

from fmhub.errors import UsageError
from fmhub.stems.answers import Answers
from fmhub.stems.audio import Audio
from fmhub.stems.choices import Choices
from fmhub.stems.excerpt import Excerpt
from fmhub.stems.image import Image
from fmhub.stems.passage import Passage
from fmhub.stems.prose import Prose
from fmhub.stems.sequence import Events
from fmhub.stems.series import Series
from fmhub.stems.table import Rows, Table
from fmhub.stems.text import Text
from fmhub.task import StemSpec

__all__ = ["Answers", "Audio", "Choices", "Events", "Excerpt", "Image", "Passage", "Prose", "Rows", "Series", "Table", "Text", "own"]

_OWN: dict[str, tuple[StemSpec, str]] = {
    "text": (Text(), "tokenizer.json"),
    "image": (Image(), "preprocessor_config.json"),
    "audio": (Audio(), ""),
}
"""By modality: the stem, and the file that tells it where a backbone's card does not name its modality (none: nothing does)."""


def own(modality: str, files: Sequence[str] = ()) -> StemSpec:
    """The stem that a backbone of this modality, or with these files, brings itself. Raises `UsageError` where there is none."""
    if modality in _OWN:
        return _OWN[modality][0]
    for stem, file in _OWN.values():
        if not modality and file in files:
            return stem
    raise UsageError(f"A backbone of modality {modality!r} has no stem of its own: name one in the task (`stem=...`).")
