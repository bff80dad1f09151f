"""What turns weights of other formats into config.json and model.safetensors, one documented function a converter.

A card names its converter by a name of this list, never by a path of its own. A converter is a pure function of the
raw files: {name: path} -> {name: bytes}, the same bytes on every machine, since the card pins their hashes too.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path

from fmhub.errors import UsageError, nearest

Converter = Callable[[Mapping[str, Path]], dict[str, bytes]]

CONVERTERS = {"dinov2-onnx": "dinov2", "llama-gguf": "llama_gguf", "whisper-ctranslate2": "ctranslate2"}
"""Name in a card -> module of this room whose `convert` it is."""


def converter(name: str) -> Converter:
    """The converter of that name. Raises `UsageError` for one that fmhub does not have."""
    if name not in CONVERTERS:
        raise UsageError(f"Unknown converter {name!r}.{nearest(name, CONVERTERS)} Known: {', '.join(CONVERTERS)}.")
    found: Converter = importlib.import_module(f"{__name__}.{CONVERTERS[name]}").convert
    return found
