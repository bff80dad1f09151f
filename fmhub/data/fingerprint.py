"""A hash of content: the same for any chunking, offset, integer width or version of Arrow, another for any changed value."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fmhub.errors import DataError


def fingerprint(parts: Mapping[str, pa.Table]) -> str:
    """sha256 (hexadecimal) over splits and columns by name, and rows in order.

    A `path` beside a `sha256` column is where a file lies on this machine, so only the latter counts.
    """
    digest = hashlib.sha256(b"fmhub data 1\n")
    for name, table in sorted(parts.items()):
        digest.update(f"split {name} {len(table)}\n".encode())
        for column in sorted(table.column_names):
            if column != "path" or "sha256" not in table.column_names:
                digest.update(f"column {column}\n".encode())
                _update(digest, pa.concat_arrays(table[column].chunks) if table[column].chunks else pa.array([], table[column].type))
    return digest.hexdigest()


def _update(digest: Any, array: pa.Array) -> None:
    """Feed validity and values in a form that Arrow's layout does not show through."""
    if isinstance(array, pa.ExtensionArray):
        return _update(digest, array.storage)
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _update(digest, array.dictionary_decode())
    if pa.types.is_null(kind):
        digest.update(f"null {len(array)}".encode())
        return None
    digest.update(array.is_valid().to_numpy(zero_copy_only=False).astype(np.uint8).tobytes())
    present = array.drop_null()
    if pa.types.is_boolean(kind):
        _feed(digest, "bool", present.to_numpy(zero_copy_only=False).astype(np.uint8))
    elif pa.types.is_integer(kind):
        _feed(digest, "int", present.cast(pa.int64()).to_numpy())
    elif pa.types.is_floating(kind):
        values = present.cast(pa.float64()).to_numpy().copy()
        values[np.isnan(values)] = np.nan  # one NaN out of many
        _feed(digest, "float", values)
    elif pa.types.is_temporal(kind):
        _feed(digest, f"time {_unit(kind)}", present.cast(pa.int32() if kind.bit_width == 32 else pa.int64()).to_numpy().astype(np.int64))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        _feed(digest, "list", pc.list_value_length(present).to_numpy().astype(np.int64))
        _update(digest, pc.list_flatten(present))
    elif pa.types.is_struct(kind):
        for index in sorted(range(kind.num_fields), key=lambda index: kind.field(index).name):
            digest.update(f"field {kind.field(index).name}\n".encode())
            _update(digest, pc.struct_field(present, [index]))
    else:
        _text(digest, present)
    return None


def _text(digest: Any, present: pa.Array) -> None:
    text = "binary" not in str(present.type)
    try:
        flat = pa.concat_arrays([present.cast(pa.large_binary())])
    except pa.ArrowException:
        raise DataError(
            f"A column of type {present.type} cannot be fingerprinted; use numbers, text, bytes, lists or structs of them."
        ) from None
    _feed(digest, "text" if text else "bytes", pc.binary_length(flat).to_numpy().astype(np.int64))
    offsets = np.frombuffer(flat.buffers()[1], np.int64)[flat.offset : flat.offset + len(flat) + 1] if len(flat) else np.zeros(1, np.int64)
    data = flat.buffers()[2]
    if data is not None:
        digest.update(memoryview(data)[int(offsets[0]) : int(offsets[-1])])


def _unit(kind: pa.DataType) -> str:
    return str(getattr(kind, "unit", "D")) + str(getattr(kind, "tz", None) or "")


def _feed(digest: Any, tag: str, values: np.ndarray) -> None:
    digest.update(f"{tag} {len(values)}\n".encode())
    digest.update(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes())
