"""Rows whose files say whose they are: no slice of a patient, or where none is named of a study, is in another split than the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fmhub.data import Data

if TYPE_CHECKING:
    import pyarrow as pa

    from fmhub.task import Splits

UNSAID = ("", "anonymous", "anonymized", "anonymised", "none", "unknown")
"""Patient ids that name nobody."""
STUDY = ("StudyInstanceUID", "SeriesInstanceUID")
"""What tells a file's patient from others where the patient is not named: the first of them that it has."""
Said = tuple[str, str] | None
"""Patient and study of a file, hashed, empty where it names none; None where it is no DICOM."""


def holds_dicom(folder: Path) -> bool:
    """Whether a file in a folder of a folder is DICOM."""
    from fmhub_medical.readers import kind_of

    if not folder.is_dir():
        return False
    below = (one for label in sorted(folder.iterdir()) if label.is_dir() for one in sorted(label.rglob("*")) if one.is_file())
    return any(kind_of(one) == "dicom" for one in below)


@dataclass(frozen=True, kw_only=True)
class Whose(Data):
    """Files in folders by label, or paths in a table. Where no column is the group, DICOM says it: patient, else study, as a hash."""

    def load(self) -> Splits:
        """As `Data.load`, with notes on files that do not say whose they are."""
        plain, notes = Data(**vars(self)), list[str]()
        found = replace(plain, kind="rows", function=partial(_grouped, plain, notes)).load()
        return replace(found, notes=(*notes, *found.notes))


def _grouped(spec: Data, notes: list[str]) -> dict[str, pa.Table]:
    """The raw tables, with `group` where none has one and a file is DICOM (null where a file says nothing)."""
    import pyarrow as pa

    from fmhub.data.read import read

    tables = read(spec)
    if "group" in dict(spec.columns) or any("group" in table.column_names for table in tables.values()):
        return tables
    said = {part: [_said(path) for path in _paths(table, (*spec.paths, "path"))] for part, table in tables.items()}
    dicom = [one for some in said.values() for one in some if one]
    if not dicom:
        return tables
    owners = {study: patient for patient, study in dicom if patient and study}  # another file of a study may name its patient
    notes += _notes([patient or owners.get(study, "") for patient, study in dicom], [study for _, study in dicom])
    groups = {part: [(one[0] or owners.get(one[1]) or one[1] or None) if one else None for one in some] for part, some in said.items()}
    return {part: table.append_column("group", pa.array(groups[part], pa.string())) for part, table in tables.items()}


def _notes(patients: Sequence[str], studies: Sequence[str]) -> list[str]:
    """What to tell of files that name no patient."""
    studied = sum(bool(study) for patient, study in zip(patients, studies, strict=True) if not patient)
    silent, of = patients.count("") - studied, f"of {len(patients)} DICOM files name"
    told = {
        f"{studied} {of} no patient: those of one study are kept together, but two studies of a patient may be in two parts": studied,
        f"{silent} {of} neither patient nor study: nothing keeps those of one patient together": silent,
    }
    return [note for note, count in told.items() if count]


def _paths(table: pa.Table, columns: Sequence[str]) -> list[Path | None]:
    """The file of every row, by the first of these columns that the table has."""
    column = next((name for name in columns if name in table.column_names), None)
    values = table[column].to_pylist() if column else [None] * len(table)
    return [Path(value).expanduser() if isinstance(value, str) and value else None for value in values]


def _said(path: Path | None) -> Said:
    from fmhub_medical.readers import dicom, kind_of

    try:
        if path is None or not path.is_file() or kind_of(path) != "dicom":
            return None
        found = dicom.elements(path, path.name, ("PatientID", *STUDY))
        patient, *studies = (str(found.get(name) or "").strip() for name in ("PatientID", *STUDY))
    except Exception:  # what is damaged, or a name that no file can have, is named where its pixels are read
        return None
    study = next(filter(None, studies), "")
    return _hashed(patient if patient.lower() not in UNSAID else ""), _hashed(study)


def _hashed(name: str) -> str:
    """Twelve digits that are the same for the same id: hidden at a glance, not from one who tries all ids."""
    return hashlib.sha256(name.encode()).hexdigest()[:12] if name else ""
