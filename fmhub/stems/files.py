"""The bytes of one picture or sound, wherever its row has them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fmhub.errors import DataError


def content(source: Any, name: str, kind: str, largest: int) -> bytes:
    """Of a source given as bytes, as a path, or as the hub's {bytes, path}; `kind` says in errors what it should be.

    Raises `DataError` for what cannot be read, and for more than `largest` bytes.
    """
    if isinstance(source, Mapping):
        source = source.get("bytes") or source.get("path")
    if isinstance(source, bytes):
        data = source
    elif isinstance(source, str) and source:
        try:
            with Path(source).expanduser().open("rb") as file:
                data = file.read(largest + 1)
        except (OSError, ValueError) as error:
            said = name if source in name else f"{name}: {source}"
            raise DataError(f"{said} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    else:
        raise DataError(f"{name} holds {str(source)[:40]!r}: a {kind} is a path or bytes.")
    if len(data) > largest:
        raise DataError(f"{name} is larger than {largest >> 20} MiB.")
    return data
