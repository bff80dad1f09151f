"""Readers of the field's files: DICOM (a file or a folder with one series), NRRD, NIfTI. Each gives a `Scan`, and trusts nothing.

Sizes are checked in the header before a voxel is decoded, nothing is unpickled, and no file names another that is then opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fmhub.errors import DataError

if TYPE_CHECKING:
    from fmhub_medical.readers.scan import Scan

KINDS = {".dcm": "dicom", ".dicom": "dicom", ".nrrd": "nrrd", ".nii": "nifti", ".nii.gz": "nifti"}
SUFFIXES = tuple(KINDS)
MAGIC = ((128, b"DICM", "dicom"), (0, b"NRRD", "nrrd"), (344, b"n+1\0", "nifti"), (4, b"n+2\0", "nifti"), (0, b"\x1f\x8b", "nifti"))
"""Where in a file which bytes say what it is; a compressed one can only be NIfTI."""


def is_scan(path: str | Path) -> bool:
    """Whether a file is of a kind that is read here, by name or first bytes; a folder is where it holds DICOM."""
    return bool(kind_of(Path(path).expanduser()))


def kind_of(path: Path) -> str:
    """`dicom`, `nrrd`, `nifti`, or nothing."""
    name = path.name.lower()
    if path.is_dir():
        return "dicom" if any(kind_of(one) == "dicom" for one in sorted(path.iterdir())[:20] if one.is_file()) else ""
    try:
        with path.open("rb") as file:
            head = file.read(352)
    except OSError:
        head = b""
    found = next((kind for place, magic, kind in MAGIC if head[place : place + len(magic)] == magic), "")
    named = next((kind for suffix, kind in KINDS.items() if name.endswith(suffix)), "")
    return found or named


def read(path: str | Path, name: str = "") -> Scan:
    """A scan of any kind. Raises `DataError` of one line that begins with `name` (by default the file's)."""
    from fmhub_medical.readers import dicom, nifti, nrrd

    path = Path(path).expanduser()
    name = name or path.name
    if not path.exists():
        raise DataError(f"{name}: there is no file or folder {path}.")
    readers = {"dicom": dicom.read, "nrrd": nrrd.read, "nifti": nifti.read}
    if (kind := kind_of(path)) not in readers:
        raise DataError(f"{name} is neither DICOM nor NRRD nor NIfTI.")
    return readers[kind](path, name)
