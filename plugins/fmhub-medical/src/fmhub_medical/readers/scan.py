"""A scan as every reader gives it: slices from the feet up, seen as radiologists see them, with the size of a voxel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fmhub.errors import DataError

MOST = 1 << 28
"""Voxels of the largest scan that is opened: 268 million, or 1 GiB."""
AIR = -500.0
"""Hounsfield units: what reaches below this is CT, since no other kind of scan stores air so."""
HOUNSFIELD = (-1000.0, 400.0)
"""What is shown of CT from black to white: lung, soft tissue and the edge of bone."""
SIGNS = (1.0, 1.0, -1.0)
"""In which direction of left, posterior and superior a picture's rows and columns grow: to the patient's left, back and feet."""


@dataclass(frozen=True)
class Scan:
    """Voxels in the unit of the file after its rescale slope and intercept (Hounsfield for CT)."""

    voxels: np.ndarray
    """(slices, rows, columns) float32."""
    spacing: tuple[float, float, float] | None
    """Millimetres between slices, rows and columns; None where a single picture does not say it."""
    window: tuple[float, float] | None = None
    """Black and white as the file asks to be shown."""
    modality: str = ""
    inverted: bool = False
    """Whether the file asks for low values to be white."""

    @property
    def levels(self) -> tuple[float, float]:
        """Black and white: the same for all CT, else what the file asks for, else its .5 and 99.5 percentile above the background."""
        if self.modality == "CT" or (not self.modality and float(self.voxels.min()) < AIR):
            return HOUNSFIELD
        if self.window is not None:
            return self.window
        lit = self.voxels[self.voxels > self.voxels.min()]
        if not lit.size:
            return float(self.voxels.min()), float(self.voxels.min()) + 1
        low, high = np.percentile(lit, (0.5, 99.5))
        return float(low if low < high else self.voxels.min()), float(high)

    def grey(self, levels: tuple[float, float] | None = None) -> np.ndarray:
        """uint8 (slices, rows, columns) between these levels, or its own."""
        low, high = levels or self.levels
        shown = (np.clip((self.voxels - low) / (high - low), 0, 1) * 255).round().astype(np.uint8)
        return 255 - shown if self.inverted else shown


def checked(scan: Scan, name: str) -> Scan:
    """The scan, once it is plain that it can be used. Raises `DataError`."""
    if not scan.voxels.size:
        raise DataError(f"{name} has no voxel.")
    if not np.isfinite(scan.voxels).all():
        count = int((~np.isfinite(scan.voxels)).sum())
        raise DataError(f"{name} has {count:,} voxels that are not finite (NaN or infinity): mend it first.")
    if scan.spacing is None and len(scan.voxels) > 1:
        raise DataError(f"{name} does not say how far apart its voxels are (spacing): a volume cannot be used without.")
    if scan.spacing is not None and not all(np.isfinite(step) and 0 < step < 1000 for step in scan.spacing):
        raise DataError(f"{name} says {' x '.join(f'{step:g}' for step in scan.spacing)} mm as spacing, which cannot be.")
    return scan


def bounded(shape: Sequence[int], name: str) -> None:
    """`DataError` for a header that promises no voxel or more than `MOST`."""
    count = 1
    for side in shape:
        count *= int(side)
    if min(shape, default=0) < 1 or count > MOST:
        raise DataError(f"{name} says it holds {' x '.join(map(str, shape))} voxels; from 1 to {MOST:,} are opened.")


def upright(voxels: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Axial slices from the feet up, rows to the back, columns to the patient's left, and millimetres along each.

    `directions` (3, 3): millimetres to the left, back and head of one step along each axis of `voxels`. A scan of one slice
    keeps its plane: it is only mirrored, so that rows run to the back or the feet and columns to the left or the back.
    Oblique axes count as the one that they are nearest to.
    """
    steps = np.linalg.norm(directions, axis=1)
    nearest = _nearest(directions / np.maximum(steps, 1e-12)[:, None])
    if voxels.shape[0] == 1:
        order = (0, 1, 2) if nearest[1] > nearest[2] else (0, 2, 1)
        wanted = [1.0, *(SIGNS[nearest[axis]] for axis in order[1:])]
    else:
        order = tuple(int(axis) for axis in np.argsort(nearest)[::-1])
        wanted = [1.0, 1.0, 1.0]
    turned = voxels.transpose(order)
    for place, axis in enumerate(order):
        if directions[axis, nearest[axis]] * wanted[place] < 0:
            turned = np.flip(turned, place)
    spacing = tuple(float(steps[axis]) for axis in order)
    return np.ascontiguousarray(turned), spacing  # type: ignore[return-value]


def _nearest(units: np.ndarray) -> list[int]:
    """To each axis another one of left, posterior, superior, those that lie closest first."""
    left = np.abs(units)
    found = [-1, -1, -1]
    for _ in range(3):
        axis, world = np.unravel_index(int(left.argmax()), left.shape)
        found[int(axis)] = int(world)
        left[axis, :] = -1
        left[:, world] = -1
    return found


def restacked(scan: Scan, voxels: np.ndarray) -> Scan:
    """The same scan with other voxels of the same shape (a mask)."""
    return replace(scan, voxels=voxels)
