"""NIfTI, by nibabel: its header says how many bytes are read, also of a compressed file."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import numpy as np

from fmhub.errors import DataError
from fmhub_medical.readers.scan import Scan, bounded, checked, upright

TO_LPS = np.array([-1.0, -1.0, 1.0])
"""NIfTI counts to the right and to the front."""


def read(path: Path, name: str) -> Scan:
    """Raises `DataError`."""
    import nibabel

    try:
        logging.getLogger("nibabel.global").setLevel(logging.ERROR)  # what is wrong is said here, once
        head = _head(path)
        second = head[4:7] == b"n+2"
        image = nibabel.nifti2.load(path) if second else nibabel.nifti1.load(path)
        sizes = [int(side) for side in image.shape]
        while len(sizes) > 3 and sizes[-1] == 1:
            sizes.pop()
        if len(sizes) == 2:
            sizes.append(1)
        if len(sizes) != 3:
            raise DataError(f"{name} has {len(sizes)} dimensions: take one volume out of it.")
        bounded(sizes, name)
        # nibabel gives 1 mm where the file says nothing, so that is read here
        kind = np.dtype("f8" if second else "f4").newbyteorder(image.header.endianness)
        stored = np.frombuffer(head, kind, 4, 104 if second else 76)[1:]
        voxels = np.asarray(image.dataobj, dtype=np.float32).reshape(sizes)
        axes = np.asarray(image.affine, dtype=np.float64)[:3, :3].T * TO_LPS
    except DataError:
        raise
    except Exception as error:  # a damaged file makes nibabel raise nearly anything
        raise DataError(f"{name} is a damaged NIfTI file ({' '.join(str(error).split())[:100] or type(error).__name__}).") from None
    if not (stored > 0).all() or not np.isfinite(axes).all() or not (np.linalg.norm(axes, axis=1) > 0).all():
        return checked(Scan(voxels.transpose(2, 1, 0), None), name)
    turned, spacing = upright(voxels.transpose(2, 1, 0), axes[::-1])
    return checked(Scan(turned, spacing), name)


def _head(path: Path) -> bytes:
    """The first bytes of the file, unpacked where it is compressed."""
    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
        return file.read(540)
