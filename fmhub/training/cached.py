"""Whether a kept prefix cache is what was written; light, so that `fmhub doctor` can ask without torch."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from fmhub.home import home, strict_json

PARTS = ("states", "index")


def root() -> Path:
    """The home's prefix caches, a folder each."""
    return home() / "cache" / "prefix"


def meta_of(folder: Path) -> dict[str, Any]:
    """meta.json of a cache whose files have the hashes that stand in it. Raises `OSError`, `ValueError`, `KeyError` or `TypeError`."""
    meta: dict[str, Any] = strict_json((folder / "meta.json").read_bytes())
    for name in PARTS:
        with (folder / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != meta[name]:
                raise ValueError(f"{name} is not what was written")
    return meta
