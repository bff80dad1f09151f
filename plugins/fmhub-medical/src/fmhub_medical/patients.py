"""Folders of slices by label, where DICOM itself says whose each is: one patient's slices never cross a split."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

UNSAID = ("", "anonymous", "anonymized", "anonymised", "none", "unknown")
"""Patient ids that name nobody."""


def holds_dicom(folder: Path) -> bool:
    """Whether a file in a folder of a folder is DICOM."""
    from fmhub_medical.readers import kind_of

    if not folder.is_dir():
        return False
    below = (one for label in sorted(folder.iterdir()) if label.is_dir() for one in sorted(label.rglob("*")) if one.is_file())
    return any(kind_of(one) == "dicom" for one in below)


def read(reference: str, test: str | None, suffixes: tuple[str, ...]) -> pa.Table | dict[str, pa.Table]:
    """What `fmhub.data` reads of `LABEL/*.dcm`, and `group`: a hash of the patient's id, null where a file says none."""
    from fmhub.data.read import folder

    def one(path: str) -> pa.Table | dict[str, pa.Table]:
        found = folder(Path(path), pattern="*", binary=True, suffixes=suffixes)
        return {name: _grouped(table) for name, table in found.items()} if isinstance(found, dict) else _grouped(found)

    return one(reference) if test is None else {"train": one(reference), "test": one(test)}  # type: ignore[dict-item]


def _grouped(table: pa.Table) -> pa.Table:
    import pyarrow as pa

    return table.append_column("group", pa.array([patient(Path(path)) for path in table["path"].to_pylist()], pa.string()))


def patient(path: Path) -> str | None:
    """Twelve digits that are the same for the same patient id: hidden at a glance, not from one who tries all ids."""
    import pydicom

    from fmhub_medical.readers import kind_of

    if kind_of(path) != "dicom":
        return None
    try:
        said = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["PatientID"]).get("PatientID")
    except Exception:  # a damaged file is named where its pixels are read
        return None
    name = str(said or "").strip()
    return None if name.lower() in UNSAID else hashlib.sha256(name.encode()).hexdigest()[:12]
