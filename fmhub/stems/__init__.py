"""Stems, one file a kind: what turns an example into the backbone's input. Light specs; torch is imported by their methods."""

from __future__ import annotations

from fmhub.errors import UsageError
from fmhub.stems.text import Text
from fmhub.task import StemSpec

__all__ = ["Text", "own"]

_OWN: dict[str, StemSpec] = {"text": Text()}


def own(modality: str) -> StemSpec:
    """The stem that a backbone of this modality brings itself. Raises `UsageError` where there is none."""
    if modality not in _OWN:
        raise UsageError(f"A backbone of modality {modality!r} has no stem of its own: name one in the task (`stem=...`).")
    return _OWN[modality]
