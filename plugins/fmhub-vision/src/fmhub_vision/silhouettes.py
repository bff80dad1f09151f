"""Silhouettes of ten kinds of animals, 28 x 28 pixels, from arrays inside pickles that are never unpickled."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import TYPE_CHECKING

from fmhub.artifacts import Artifact, File, Wheel
from fmhub.errors import UntrustedFile

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

LABELS = ("bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra")
ARTIFACT = Artifact(
    name="animal-mnist",
    files=(
        File("animal_data_version_3.gz", "68a30346781a0984f839463a4615d2decb899d1ce65091bb92586311754a34ce", 2_620_084),
        File("animal_label_version_3.gz", "dec8dba7c469830989fbab46825021a08a38470753a512f27ada847eced97b57"),
    ),
    sources=(Wheel("animal-mnist==0.4", path="animal_mnist/data/Animal_MNIST/"),),
)
ALIKE = 0.9
"""Silhouettes whose white areas overlap more than this (intersection over union, mirrored or not) are one group."""


def pictures() -> pa.Table:
    """Different silhouettes: id, image (the bytes of a PNG), target, group of near-duplicates."""
    import numpy as np
    import pyarrow as pa

    from fmhub.artifacts import fetch

    folder = fetch(ARTIFACT)
    images = np.frombuffer(array_bytes(folder / "animal_data_version_3.gz"), np.uint8).reshape(-1, 28, 28)
    labels = np.frombuffer(array_bytes(folder / "animal_label_version_3.gz"), "<i8")
    _, first = np.unique(images.reshape(len(images), -1), axis=0, return_index=True)
    first.sort()
    tied = groups(images[first])
    rows = [
        {"id": str(row), "image": _png(images[row]), "target": LABELS[labels[row]], "group": str(first[group])}
        for row, group in zip(first.tolist(), tied, strict=True)
    ]
    return pa.Table.from_pylist(rows)


def array_bytes(path: Path) -> bytes:
    """The one block of bytes of a gzipped pickle of one array. Its opcodes are listed, nothing of it is run."""
    import pickletools

    with gzip.open(path) as file:
        data = file.read(1 << 26)
    blocks = [argument for code, argument, _ in pickletools.genops(data) if code.name == "BINBYTES"]
    if len(blocks) != 1:
        raise UntrustedFile(f"{path.name} holds {len(blocks)} blocks of bytes: it is not the pickle of one array.")
    return bytes(blocks[0] or b"")


def groups(images: np.ndarray, alike: float = ALIKE) -> list[int]:
    """For every image (n, height, width) the number of the first one that it is tied to by a chain of near-duplicates."""
    import numpy as np
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    white = (images > 127).reshape(len(images), -1).astype(np.float32)
    mirrored = (images[:, :, ::-1] > 127).reshape(len(images), -1).astype(np.float32)
    area = white.sum(1)
    pairs = []
    for start in range(0, len(white), 1024):
        block = white[start : start + 1024]
        for other in (white, mirrored):
            shared = block @ other.T
            left, right = np.nonzero(shared > alike * (area[start : start + 1024, None] + area[None] - shared))
            pairs.append(np.stack([left + start, right]))
    left, right = np.concatenate(pairs, axis=1)
    _, component = connected_components(coo_matrix((np.ones(len(left)), (left, right)), shape=(len(white),) * 2), directed=False)
    _, first, inverse = np.unique(component, return_index=True, return_inverse=True)
    return [int(row) for row in first[inverse]]


def _png(image: np.ndarray) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()
