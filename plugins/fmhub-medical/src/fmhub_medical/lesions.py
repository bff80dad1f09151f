"""Pieces of CT and MR slices that show a lesion or do not: five volumes that come with the package, or the user's own with masks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmhub.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

LABELS = ("none", "lesion")
VOLUMES = ("brain1", "brain2", "breast1", "lung1", "lung2")
SHOWN = 0.25
"""A tile shows a lesion where it has this share of what the slice has of it, or where this share of the tile is lesion. One that
has less of it is neither: it is left out."""
OTHERS = 5
"""Slices without a lesion that are taken of a volume, evenly over it: neighbours are much alike."""
IMAGE, MASK = ("_image", "_img"), ("_label", "_mask", "_seg")
"""How the names of a volume and of its mask end, before the suffix."""


def slices() -> pa.Table:
    """Tiles of 40 x 40 pixels (32 mm) of the five volumes; a group is a volume."""
    import importlib.resources

    with importlib.resources.as_file(importlib.resources.files("fmhub_medical") / "data") as place:
        parts = {name: [_stored(Path(place) / f"{name}_{kind}.nrrd") for kind in ("image", "label")] for name in VOLUMES}
    return table([row for name, (grey, mask) in parts.items() for row in rows(name, grey, grey > 0, mask > 0)])


def _stored(path: Path) -> np.ndarray:
    """(slices, rows, columns) uint8 of a file that is at .8 mm and in grey already."""
    import numpy as np

    from fmhub_medical import readers

    return readers.read(path).voxels.astype(np.uint8)


def rows(name: str, grey: np.ndarray, body: np.ndarray, mask: np.ndarray) -> Iterator[dict[str, Any]]:
    """{id, image, target, group, volume, whole, corner, lesion} of one volume's tiles.

    Of all slices with a lesion and `OTHERS` without one: tiles side by side, and at every half tile those that show a lesion.
    """
    import numpy as np
    from scipy import ndimage

    from fmhub.stems.pictures import raw
    from fmhub_medical import tiles

    for number in _taken(mask):
        marked, count = ndimage.label(mask[number], structure=np.ones((3, 3)))
        areas = np.bincount(marked.ravel(), minlength=count + 1)
        inside = body[number] | mask[number]
        beside = set(tiles.corners(inside))
        for top, left in sorted(beside.union(tiles.corners(inside, tiles.TILE // 2) if count else ())):
            part = np.bincount(tiles.piece(marked, top, left).ravel(), minlength=count + 1)
            seen = sorted((at for at in range(1, count + 1) if part[at] >= SHOWN * min(areas[at], tiles.TILE**2)), key=lambda at: -part[at])
            if not seen and (part[1:].any() or (top, left) not in beside):
                continue
            whole = f"{name} slice {number}"
            yield {
                "id": f"{whole} {left},{top}", "image": raw(tiles.piece(grey[number], top, left)), "target": LABELS[bool(seen)],
                "group": name, "volume": name, "whole": whole, "corner": f"{left},{top}",
                "lesion": f"{whole} lesion {seen[0]}" if seen else None,
            }  # fmt: skip


def _taken(mask: np.ndarray) -> list[int]:
    """The slices that are read, in their order."""
    import numpy as np

    shown = mask.any((1, 2))
    others = np.flatnonzero(~shown)
    evenly = others[np.linspace(0, len(others) - 1, min(OTHERS, len(others))).round().astype(int)] if len(others) else others
    return sorted({*np.flatnonzero(shown).tolist(), *evenly.tolist()})


def table(found: Sequence[dict[str, Any]]) -> pa.Table:
    """The rows as a table; `tile` tells the stem how large a square is in a scan that `predict` is given."""
    import pyarrow as pa

    from fmhub_medical.tiles import TILE

    names = ("id", "image", "target", "group", "volume", "whole", "corner", "lesion")
    types = {name: pa.binary() if name == "image" else pa.string() for name in names}
    columns = {name: pa.array([row[name] for row in found], types[name]) for name in names}
    return pa.table({**columns, "tile": pa.array([TILE] * len(found), pa.int64())})


def own(reference: str, test: str | None = None) -> pa.Table | dict[str, pa.Table]:
    """Tiles of the volumes of a folder, each beside its mask; `test` is a second folder of other patients.

    A group is what a file's name begins with up to the first `-` or `.`, or its folder where it has one: the patient.
    Raises `DataError` where the names say too few patients to be split.
    """
    _enough(Path(reference), 3 if test is None else 2)
    if test is None:
        return table(list(_folder(Path(reference))))
    return {"train": table(list(_folder(Path(reference)))), "test": table(list(_folder(Path(test))))}


def _enough(folder: Path, least: int) -> None:
    """Refuse fewer patients than parts, where it is the names that say so."""
    from fmhub.data.tables import some

    pairs = _pairs(folder)
    patients = sorted({patient for patient, _, _ in pairs})
    if len(patients) < min(least, len(pairs)):
        raise DataError(
            f"{folder}: by their names its {len(pairs)} volumes are of {some(patients)} alone (a patient is what stands before the first "
            f"- or .); {least} patients are needed. Or put each patient's volumes into a folder of its own."
        )


def holds_masks(folder: Path) -> bool:
    """Whether a folder has a volume with its mask."""
    return folder.is_dir() and bool(_pairs(folder))


def _pairs(folder: Path) -> list[tuple[str, Path, Path]]:
    """(patient, volume, mask) of `NAME_image.nrrd` and `NAME_label.nrrd` (or _img, _mask, _seg; .nii, .nii.gz), also in folders below."""
    from fmhub_medical.readers import SUFFIXES

    files = {path: path.name.lower() for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()}
    stems = {path: name.removesuffix(end) for path, name in files.items() for end in SUFFIXES if name.endswith(end)}
    found = []
    for path, stem in stems.items():
        ending = next((end for end in IMAGE if stem.endswith(end)), None)
        if ending is None:
            continue
        names = {stem.removesuffix(ending) + end for end in MASK}
        masks = [other for other, name in stems.items() if other.parent == path.parent and name in names]
        if masks:
            below = path.relative_to(folder).parts
            name = stem.removesuffix(ending)
            found.append((below[0] if len(below) > 1 else re.split("[-.]", name)[0] or name, path, masks[0]))
    return found


def _folder(folder: Path) -> Iterator[dict[str, Any]]:
    from fmhub_medical import readers, tiles

    for patient, image, label in _pairs(folder):
        name = image.relative_to(folder).as_posix()
        scan, mask = readers.read(image, name), readers.read(label, label.relative_to(folder).as_posix())
        if scan.voxels.shape != mask.voxels.shape:
            sizes = [" x ".join(map(str, one.voxels.shape)) for one in (scan, mask)]
            raise DataError(f"{name} has {sizes[0]} voxels and its mask {sizes[1]}: they must be the same.")
        grey, body = tiles.flat(scan, name)
        lesion = tiles.resampled(mask.voxels > 0, scan.spacing)
        for row in rows(name, grey, body, lesion):
            yield {**row, "group": patient}
