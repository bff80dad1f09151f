"""Writing safetensors so that the same tensors are the same bytes, whatever the version of a library."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping

import numpy as np

_TYPES = {"float32": "F32", "float16": "F16"}


def to_bytes(tensors: Mapping[str, np.ndarray]) -> bytes:
    """A safetensors file: header length (u64), header (JSON, padded to 8), then the tensors in the order of their names."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}  # transformers refuses a file without it
    blocks, offset = [], 0
    for name in sorted(tensors):
        block = np.ascontiguousarray(tensors[name]).tobytes()
        shape = list(tensors[name].shape)
        header[name] = {"dtype": _TYPES[tensors[name].dtype.name], "shape": shape, "data_offsets": [offset, offset + len(block)]}
        blocks.append(block)
        offset += len(block)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *blocks])
