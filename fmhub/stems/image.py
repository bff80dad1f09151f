"""Pictures through the backbone's own patches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from fmhub import cache
from fmhub.errors import DataError, UsageError
from fmhub.home import read_json
from fmhub.task import Encoded

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch

    from fmhub.backbones.load import Backbone
    from fmhub.recipe import Recipe
    from fmhub.task import Known

IN_MEMORY = 1 << 27
"""Bytes of decoded pictures that are held in memory; more are kept in a file that later runs read too."""
WHOLE = 1.5
"""A picture whose longer side is at most this many tiles is not cut."""
OVERLAP = 0.4
"""Share of a tile that its neighbour sees too: what is no larger stands whole in one of them."""
MOST_TILES = 4096
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of each colour where a backbone does not say its own."""


@dataclass(frozen=True)
class Image:
    """One picture: a path, or the bytes of a file, in column `image` (or `path`, as folders of files have it).

    It is decoded once to `size` x `size` pixels and normalised by the backbone's constants; positions are interpolated
    by the backbone. Augmentation crops, turns, mirrors (where `mirror`), and changes colours.
    """

    size: int = 112
    shape: Literal["crop", "pad", "stretch"] = "pad"
    mirror: bool = True
    move: bool = True
    """False: augmentation leaves every pixel where it is, for targets that have a place in the picture."""
    ground: Sequence[int] = (255, 255, 255)
    """Colour (red, green, blue, 0 to 255) under transparent parts and beside padded pictures."""
    tile: int = 0
    """Side, in pixels, of the squares that larger pictures are cut into before they are read; 0: never. Training rows that
    were cut so say it in their column `tile`."""
    fields: tuple[str, ...] = ("image",)
    unit: str = "patches"
    files: tuple[str, ...] = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
    """Suffixes of the files in a user's folder that are examples."""

    def fit(self, known: Known) -> Image:
        """What training tells is how large its tiles were; the constants are the backbone's."""
        tiles = known.train.column("tile").to_pylist() if "tile" in known.train.column_names else ()
        return replace(self, tile=max(tiles, default=self.tile))

    def shown(self, source: Any) -> bytes:
        """A PNG of a picture for people to look at, no larger than what is read of it. Raises `DataError`."""
        from fmhub.stems import pictures

        return pictures.small(source, max(self.size, 96))

    def cut(self, table: pa.Table) -> tuple[pa.Table, np.ndarray]:
        """The rows' pictures in overlapping tiles, and int64 (tiles, 7): of each its row, left, top, right and bottom, and the
        picture's width and height. Raises `DataError` for a picture of too many tiles."""
        import numpy as np
        import pyarrow as pa

        from fmhub.stems import pictures

        found, places = [], []
        for row, (source, name) in enumerate(zip(table.column(self.fields[0]).to_pylist(), table.column("id").to_pylist(), strict=True)):
            said = pictures.named(name, source)
            width, height = pictures.size(source, said)
            if not self.tile or max(width, height) <= WHOLE * self.tile:
                found.append(pictures.content(source, said))
                places.append((row, 0, 0, width, height, width, height))
                continue
            windows = pictures.windows(width, height, self.tile, OVERLAP)
            if len(windows) > MOST_TILES:
                raise DataError(f"{said} has {width} x {height} pixels, {len(windows)} tiles of {self.tile}: cut it, or make it smaller.")
            pixels = np.asarray(pictures.whole(source, said))
            for left, top, right, bottom in windows:
                found.append(pictures.raw(pixels[top:bottom, left:right]))
                places.append((row, left, top, right, bottom, width, height))
        pieces = pa.table({"id": [str(number) for number in range(len(found))], self.fields[0]: found})
        return pieces, np.array(places, np.int64).reshape(-1, 7)

    def encode(self, table: pa.Table, backbone: Backbone, recipe: Recipe) -> Encoded:
        """`pixels`: uint8 (rows, size, size, 3); a length is the number of patches. Raises `DataError` naming the row."""
        import numpy as np

        from fmhub.stems import pictures

        patch = getattr(backbone.model.config, "patch_size", None)
        if not isinstance(patch, int) or self.size % patch:
            fit = f"a multiple of {patch}, such as {max(1, round(self.size / patch)) * patch}" if isinstance(patch, int) else "a patch size"
            raise UsageError(f"Backbone {backbone.name!r} cannot read pictures of size {self.size}: it needs {fit}.")
        mean, deviation = _constants(backbone)
        lengths = np.full(len(table), (self.size // patch) ** 2, np.int64)
        pixels, sizes = self.decoded(table)
        frame = pictures.frames(sizes, self.size, self.shape)
        return Encoded(lengths, {"pixels": pixels, "frame": frame, "source": sizes, "mean": mean, "deviation": deviation})

    def decoded(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """uint8 (rows, size, size, 3) of a table's pictures and int32 (rows, 2) their true widths and heights.

        In memory, or mapped from a file of the cache that is named after the pictures' content.
        """
        import numpy as np

        from fmhub.stems import pictures

        column = next((name for name in (*self.fields, "path") if name in table.column_names), None)
        if column is None:
            raise DataError(f"There is no column {self.fields[0]!r} with pictures; there are {', '.join(table.column_names)}.")
        sources = table.column(column).to_pylist()
        names = [pictures.named(*pair) for pair in zip(table.column("id").to_pylist(), sources, strict=True)]
        shape = (len(sources), self.size, self.size, 3)
        if np.prod(shape) <= IN_MEMORY:
            found, sizes = np.empty(shape, np.uint8), np.empty((len(sources), 2), np.int32)
            pictures.decode(sources, names, self.size, self.shape, self.ground, found, sizes)
            return found, sizes
        digest = hashlib.sha256(json.dumps([2, self.size, self.shape, list(self.ground)]).encode())
        for source, name in zip(sources, names, strict=True):
            digest.update(hashlib.sha256(pictures.content(source, name)).digest())
        end = int(np.prod(shape))

        def read(file: Any, mode: Any = "r") -> tuple[np.ndarray, np.ndarray]:
            return np.memmap(file, np.uint8, mode, 0, shape), np.memmap(file, "<i4", mode, end, (len(sources), 2))

        def write(file: Any) -> None:
            pictures.decode(sources, names, self.size, self.shape, self.ground, *read(file, "r+"))

        return cache.mapped(cache.root("pictures") / f"{digest.hexdigest()[:32]}.u8", end + 8 * len(sources), read, write)

    def batch(self, encoded: Encoded, rows: np.ndarray, *, random: np.random.Generator | None, strength: float) -> dict[str, torch.Tensor]:
        """`pixel_values` (rows, 3, size, size) float32, normalised; `source` (rows, 2) true width and height.

        `frame` (rows, 2, 3) says where augmentation and resizing put a point (x, y, 1) of the true picture, in pixels.
        """
        import torch

        from fmhub.stems.augment import augment

        pixels = torch.from_numpy(encoded.values["pixels"][rows]).permute(0, 3, 1, 2).float() / 255
        frame = torch.from_numpy(encoded.values["frame"][rows])
        if random is not None and strength > 0:
            pixels, moved = augment(pixels, random, strength, move=self.move, mirror=self.mirror)
            frame = torch.cat([moved[:, :, :2] @ frame[:, :, :2], moved[:, :, :2] @ frame[:, :, 2:] + moved[:, :, 2:]], dim=2)
        mean, deviation = (torch.tensor(encoded.values[name])[:, None, None] for name in ("mean", "deviation"))
        normalised = ((pixels - mean) / deviation).contiguous()
        return {"pixel_values": normalised, "frame": frame, "source": torch.from_numpy(encoded.values["source"][rows])}

    def build(self, backbone: Backbone, recipe: Recipe, known: Known | None) -> None:
        """Nothing to train: the backbone embeds patches itself."""


def _constants(backbone: Backbone) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and deviation of preprocessor_config.json, else ImageNet's."""
    path = backbone.folder / "preprocessor_config.json"
    stored: dict[str, Any] = read_json(path, limit=1 << 20) if path.is_file() else {}
    found = [stored.get(name) for name in ("image_mean", "image_std")]
    for values, default in zip(found, IMAGENET, strict=True):
        if not (isinstance(values, list) and len(values) == len(default) and all(isinstance(value, float | int) for value in values)):
            return IMAGENET
    return found[0], found[1]  # type: ignore[return-value]
