"""Pictures that may also be scans: DICOM, NRRD and NIfTI, whole or in squares of 32 mm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmhub.errors import DataError
from fmhub.stems import Image

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from fmhub_medical.readers.scan import Scan

FINE = 1500
"""Tiles up to which a scan is read at every half tile; a larger one tile by tile."""


@dataclass(frozen=True)
class Slices(Image):
    """An example is a picture, or a scan of one slice: a path or the bytes of a picture in column `image`.

    A run that was trained on tiles reads every slice of a scan in such tiles.
    """

    files: tuple[str, ...] = (*Image.files, ".dcm", ".dicom", ".nrrd", ".nii", ".gz")

    def decoded(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """As `Image.decoded`, with scans as pictures. Raises `DataError` for one of several slices."""
        import pyarrow as pa

        column = next((name for name in (*self.fields, "path") if name in table.column_names), None)
        if column is None:
            return super().decoded(table)
        names = table.column("id").to_pylist()
        found = [as_picture(source, f"Row {name}") for source, name in zip(table.column(column).to_pylist(), names, strict=True)]
        return super().decoded(pa.table({"id": table.column("id"), self.fields[0]: found}))

    def shown(self, source: Any) -> bytes:
        """A PNG of a picture or slice for people to look at. Raises `DataError`."""
        return super().shown(as_picture(source, "The picture"))

    def cut(self, table: pa.Table) -> tuple[pa.Table, np.ndarray]:
        """Scans in tiles, and int64 (tiles, 8): of each its row, slice (-1: not a scan, or read whole), left, top, right and bottom,
        and the slice's width and height, all at .8 mm. Raises `DataError` naming the row."""
        import numpy as np
        import pyarrow as pa

        from fmhub.stems import pictures
        from fmhub_medical import tiles

        found, places = [], []
        for row, (source, name) in enumerate(zip(table.column(self.fields[0]).to_pylist(), table.column("id").to_pylist(), strict=True)):
            scan = scan_of(source, f"Row {name}") if self.tile else None
            if scan is None:
                found.append(as_picture(source, f"Row {name}"))
                places.append((row, -1, 0, 0, 1, 1, 1, 1))
                continue
            grey, body = tiles.flat(scan, f"Row {name}")
            windows = [(number, *corner) for number, one in enumerate(body) for corner in tiles.corners(one, tiles.TILE // 2)]
            if len(windows) > FINE:
                windows = [(number, *corner) for number, one in enumerate(body) for corner in tiles.corners(one)]
            if not windows:
                raise DataError(f"Row {name} shows no body: nothing in it is brighter than air.")
            for number, top, left in windows:
                found.append(pictures.raw(tiles.piece(grey[number], top, left)))
                places.append((row, number, left, top, left + tiles.TILE, top + tiles.TILE, grey.shape[2], grey.shape[1]))
        pieces = pa.table({"id": [str(number) for number in range(len(found))], self.fields[0]: found})
        return pieces, np.array(places, np.int64).reshape(-1, 8)


def scan_of(source: Any, name: str) -> Scan | None:
    """The scan at a path; None where it is a picture."""
    from fmhub_medical import readers

    if isinstance(source, Mapping):
        source = source.get("bytes") or source.get("path")
    if not isinstance(source, str) or not source or not readers.is_scan(source):
        return None
    return _read(str(Path(source).expanduser().absolute()), name)


@lru_cache(maxsize=1)
def _read(path: str, name: str) -> Scan:
    """The last one is kept: to predict and then to draw reads it once."""
    from fmhub_medical import readers

    return readers.read(path, name)


def as_picture(source: Any, name: str) -> Any:
    """What is no scan as it is; a scan of one slice as the bytes of a grey picture."""
    from fmhub.stems.pictures import raw

    scan = scan_of(source, name)
    if scan is None:
        return source
    if len(scan.voxels) > 1:
        raise DataError(f"{name} is a volume of {len(scan.voxels)} slices: an example is one slice, or a volume beside its mask.")
    return raw(scan.grey()[0])
