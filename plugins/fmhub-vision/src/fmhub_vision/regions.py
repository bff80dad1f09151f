"""Pictures of any size, read in windows: a nucleus that one window cuts stands whole in the next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fmhub.stems import Image

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch

    from fmhub.backbones.load import Backbone
    from fmhub.recipe import Recipe
    from fmhub.task import Encoded


@dataclass(frozen=True)
class Regions(Image):
    """`fmhub.stems.Image` whose pictures, where they are larger than the training tiles, are examples of several windows.

    A head must put together what it finds in them, as `fmhub.heads.Detection` does.
    """

    def encode(self, table: pa.Table, backbone: Backbone, recipe: Recipe) -> Encoded:
        """As `Image` says it, of windows; `places` int64 (windows, 7) as `cut` has them, `begins` (rows + 1,) where each row's begin."""
        import numpy as np
        import pyarrow as pa

        names = table.column("id").to_pylist()
        pieces, places = self.cut(table) if self.tile else (table, np.array([(row, *[0] * 6) for row in range(len(names))], np.int64))
        if len(pieces) == len(names):
            pieces = table  # nothing was cut: errors name paths
        else:
            pieces = pieces.set_column(0, "id", pa.array([names[row] for row in places[:, 0]], pa.string()))
        found = super().encode(pieces, backbone, recipe)
        begins = np.searchsorted(places[:, 0], np.arange(len(names) + 1))
        lengths = found.lengths[0] * np.diff(begins) if len(names) else found.lengths
        return replace(found, lengths=lengths, values={**found.values, "places": places, "begins": begins})

    def batch(self, encoded: Encoded, rows: np.ndarray, *, random: np.random.Generator | None, strength: float) -> dict[str, torch.Tensor]:
        """As `Image` says it, of the rows' windows, and `windows` int64 (windows, 7): of each its row among `rows`, left, top, right and
        bottom, and the picture's width and height."""
        import numpy as np
        import torch

        begins = encoded.values["begins"]
        counts = begins[rows + 1] - begins[rows]
        chosen = np.concatenate([np.arange(begins[row], begins[row + 1]) for row in rows])
        places = encoded.values["places"][chosen]
        places[:, 0] = np.repeat(np.arange(len(rows)), counts)
        return {**super().batch(encoded, chosen, random=random, strength=strength), "windows": torch.from_numpy(places)}
