"""MedMNIST's `.npz` files: two-dimensional sets with one label a picture (two, several, or levels) or several labels at once."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from fmhub.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

LARGEST = 1 << 32
"""Bytes of all arrays of a file, unpacked."""
PARTS = {"train": "train", "val": "validation", "test": "test"}
FINDING = "finding {}"
"""Names of labels that are columns: the file has none."""


def read(reference: str) -> dict[str, pa.Table]:
    """Tables of `image` and `target` by part; with `PART_groups` arrays in the file also `group`. Raises `DataError`.

    A label is the number in the file, as text, so that levels keep their order; where labels are columns (0 or 1) the target
    is the list of those that are 1.
    """
    path = Path(reference).expanduser()
    arrays = _arrays(path)
    made = {}
    for short, part in PARTS.items():
        if f"{short}_images" not in arrays:
            continue
        if f"{short}_labels" not in arrays:
            raise DataError(f"{path.name} has {short}_images and no {short}_labels.")
        made[part] = _table(path.name, short, arrays)
    if not {"train", "test"} <= made.keys():
        raise DataError(
            f"{path.name} holds {', '.join(sorted(arrays)) or 'nothing'}: MedMNIST has train_images, train_labels, test_images and so on."
        )
    return made


def _table(name: str, short: str, arrays: dict[str, np.ndarray]) -> pa.Table:
    import numpy as np
    import pyarrow as pa

    from fmhub.stems.pictures import raw

    images, labels = arrays[f"{short}_images"], arrays[f"{short}_labels"]
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3):
        shape = " x ".join(map(str, images.shape[1:]))
        raise DataError(
            f"{name}: {short}_images hold {shape} of {images.dtype}; two-dimensional ones are read, height x width (x 3) of uint8."
        )
    if len(images) != len(labels) or not len(images):
        raise DataError(f"{name}: {short} has {len(images):,} images and {len(labels):,} labels.")
    columns = {"id": [f"{short}-{row}" for row in range(len(images))], "image": [raw(np.ascontiguousarray(one)) for one in images]}
    made = pa.table({**columns, "target": _targets(labels, f"{name}: {short}_labels")})
    if f"{short}_groups" in arrays:
        groups = arrays[f"{short}_groups"].reshape(len(arrays[f"{short}_groups"]), -1)
        if groups.shape != (len(images), 1):
            raise DataError(f"{name}: {short}_groups does not name one group an image.")
        made = made.append_column("group", pa.array([str(value) for value in groups[:, 0]]))
    return made


def _targets(labels: np.ndarray, where: str) -> pa.Array:
    import numpy as np
    import pyarrow as pa

    labels = labels.reshape(len(labels), -1)
    if labels.dtype.kind not in "iub":
        raise DataError(f"{where} are {labels.dtype}, not whole numbers.")
    if labels.shape[1] == 1:
        return pa.array([str(int(value)) for value in labels[:, 0]])
    if not np.isin(labels, (0, 1)).all():
        raise DataError(f"{where} have {labels.shape[1]} columns with other values than 0 and 1.")
    named = [[FINDING.format(column) for column in np.flatnonzero(row)] for row in labels]
    return pa.array(named, pa.list_(pa.string()))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Images, labels and groups by name. Each header is read, and what it promises counted, before its array is."""
    import zipfile
    import zlib

    import numpy as np

    try:
        with zipfile.ZipFile(path) as archive:
            entries = {info.filename.removesuffix(".npy"): info for info in archive.infolist() if info.filename.endswith(".npy")}
            wanted = [f"{short}_{what}" for short in PARTS for what in ("images", "labels", "groups")]
            entries = {name: entries[name] for name in wanted if name in entries}
            total = 0
            for name, info in entries.items():
                with archive.open(info) as file:
                    total += _promised(file, f"{path.name}: {name}")
            if total > LARGEST:
                raise DataError(f"{path.name} unpacks into {total >> 20:,} MiB; at most {LARGEST >> 20:,} are read.")
            found = {}
            for name, info in entries.items():
                with archive.open(info) as file:
                    found[name] = np.lib.format.read_array(file, allow_pickle=False)
            return found
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.") from None
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, MemoryError) as error:
        raise DataError(f"{path.name} is a damaged .npz file ({' '.join(str(error).split())[:100] or type(error).__name__}).") from None


def _promised(file: IO[bytes], where: str) -> int:
    """Bytes of an array by its header. Raises `DataError` for objects, which only pickle could read."""
    import numpy as np

    reader: Any = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)[0]
    shape, _, kind = reader.get(version, reader[2])(file)
    if kind.hasobject:
        raise DataError(f"{where} holds Python objects, which are never read.")
    count = kind.itemsize
    for side in shape:
        count *= int(side)
    return count
