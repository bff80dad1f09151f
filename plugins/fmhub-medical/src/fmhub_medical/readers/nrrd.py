"""NRRD: the header by pynrrd, the voxels here, so that a small file cannot unpack into a large one."""

from __future__ import annotations

import bz2
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from fmhub.errors import DataError
from fmhub_medical.readers.scan import Scan, bounded, checked, upright

TO_LPS = {
    "left-posterior-superior": (1, 1, 1), "right-anterior-superior": (-1, -1, 1), "left-anterior-superior": (1, -1, 1),
    "lps": (1, 1, 1), "ras": (-1, -1, 1), "las": (1, -1, 1),
}  # fmt: skip


def read(path: Path, name: str) -> Scan:
    """Raises `DataError`."""
    import nrrd

    try:
        with path.open("rb") as file:
            header: dict[str, Any] = dict(nrrd.read_header(file))
            if "data file" in header or "datafile" in header:
                raise DataError(f"{name} keeps its voxels in another file: save it as one .nrrd.")
            sizes = [int(side) for side in header["sizes"]]
            if len(sizes) not in (2, 3):
                raise DataError(f"{name} has {len(sizes)} dimensions: a scan has 2 or 3.")
            bounded(sizes, name)
            voxels = _voxels(file.read(), header, sizes, name)
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError, IndexError, StopIteration, zlib.error, nrrd.NRRDError) as error:
        raise DataError(f"{name} is a damaged NRRD file ({str(error)[:100] or type(error).__name__}).") from None
    voxels = voxels.astype(np.float32)
    directions = _directions(header, len(sizes), name)
    if len(sizes) == 2:  # a picture has no place in the patient
        return checked(Scan(voxels.T[None], None if directions is None else (1.0, *_steps(directions)[::-1])), name)  # type: ignore[arg-type]
    if directions is None:
        return checked(Scan(voxels.T, None), name)
    turned, spacing = upright(voxels.transpose(2, 1, 0), directions[::-1])
    return checked(Scan(turned, spacing), name)


def _voxels(packed: bytes, header: dict[str, Any], sizes: list[int], name: str) -> np.ndarray:
    """(x, y, z), as the file counts them."""
    from nrrd.reader import _determine_datatype

    kind = np.dtype(_determine_datatype(header))
    wanted = int(np.prod(sizes, dtype=np.int64)) * kind.itemsize
    encoding = str(header.get("encoding", "")).lower()
    if int(header.get("line skip", header.get("lineskip", 0))) or int(header.get("byte skip", header.get("byteskip", 0))):
        raise DataError(f"{name} skips a part of itself: save it again as a plain .nrrd.")
    if encoding == "raw":
        found = packed[: wanted + 1]
    elif encoding in ("gzip", "gz"):
        unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
        found = unpacker.decompress(packed, wanted + 1)
        if len(found) == wanted and not unpacker.eof:  # its checksum is missing
            found = found[:-1]
    elif encoding in ("bzip2", "bz2"):
        found = bz2.BZ2Decompressor().decompress(packed, wanted + 1)
    else:
        raise DataError(f"{name} is encoded as {encoding or 'nothing'!r}; raw, gzip and bzip2 are read.")
    if len(found) != wanted:
        more = "more" if len(found) > wanted else f"{len(found):,}"
        raise DataError(f"{name} is cut off or not what its header says: {more} bytes where {wanted:,} belong.")
    return np.frombuffer(found, kind).reshape(sizes, order="F")


def _directions(header: dict[str, Any], dimensions: int, name: str) -> np.ndarray | None:
    """(dimensions, 3) or (2, 2) millimetres along each axis; None where the file does not say."""
    if header.get("space directions") is not None:
        found = np.array([[np.nan if part is None else float(part) for part in row] for row in header["space directions"]])
        if found.shape[0] != dimensions or not np.isfinite(found).all():
            raise DataError(f"{name} has space directions that are no {dimensions} vectors.")
        signs = TO_LPS.get(str(header.get("space", "")).lower(), (1, 1, 1))
        return found * np.array(signs)[: found.shape[1]]
    if header.get("spacings") is not None:
        steps = np.array([float(step) for step in header["spacings"]])
        return np.diag(steps) if np.isfinite(steps).all() else None
    return None


def _steps(directions: np.ndarray) -> tuple[float, ...]:
    return tuple(float(step) for step in np.linalg.norm(directions, axis=1))
