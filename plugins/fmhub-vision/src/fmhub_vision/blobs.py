"""Bright things on a dark ground without learning: a threshold, and a cut between centres where two touch.

The threshold is a share of Otsu's (1979, doi:10.1109/TSMC.1979.4310076), and each region is cut again at a share of its own
brightness, so that dim things and bright ones both end where they end.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from fmhub.task import Setting


@dataclass(frozen=True)
class Blobs:
    """The best on validation of a grid over smoothing (pixels), the two thresholds (shares) and the distance between two
    centres (pixels; 0: regions are not cut apart)."""

    smooth: tuple[float, ...] = (0.5, 1.0)
    share: tuple[float, ...] = (0.12, 0.2, 0.3, 0.6, 1.0)
    own: tuple[float, ...] = (0.0, 0.3, 0.5)
    apart: tuple[int, ...] = (0, 21)
    name: str = "blobs"

    def fit(self, setting: Setting) -> Fitted:
        """One threshold for all pictures; every box gets the most frequent training label."""
        from fmhub.evaluation.metrics.columns import columns
        from fmhub.evaluation.metrics.detection import METRICS

        labels = Counter(one["label"] for row in setting.train["target"].to_pylist() for one in row)
        train, held = grey(setting.train), grey(setting.validation)
        level, label = otsu(train), labels.most_common(1)[0][0]
        least = _least(setting.train)
        grid = product(self.smooth, self.share, self.own, self.apart)
        made = [Fitted(label, least, level * share, smooth, own, apart) for smooth, share, own, apart in grid]
        truth = setting.validation["target"].to_pylist()

        def score(one: Fitted) -> float:
            return METRICS["map"].score(columns({"prediction": [one.boxes(image) for image in held], "target": truth}), None)

        return max(made, key=score)


@dataclass(frozen=True)
class Fitted:
    """Ready to find boxes in pictures of the size it was fitted on."""

    label: str
    least: float
    """Pixels of the smallest region that counts."""
    level: float
    """Grey value, 0 to 255, above which a pixel is no ground."""
    smooth: float
    own: float
    apart: int

    def predict(self, rows: pa.Table) -> dict[str, Any]:
        """`prediction`: lists of {box, label, score}; a score is how bright the region is, 0 to 1."""
        return {"prediction": [self.boxes(image) for image in grey(rows)]}

    def boxes(self, image: np.ndarray) -> list[dict[str, Any]]:
        """Of one picture (height, width), uint8."""
        import numpy as np
        from scipy import ndimage

        soft = ndimage.gaussian_filter(image.astype(np.float32), self.smooth)
        regions = self._regions(soft > self.level)
        found = []
        for number, place in enumerate(ndimage.find_objects(regions), 1):
            inside = regions[place] == number if place else np.zeros((1, 1), bool)
            if inside.sum() < self.least:
                continue
            bright = float(np.percentile(soft[place][inside], 90))
            kept = inside & (soft[place] > self.own * bright)
            down, across = (np.flatnonzero(kept.any(axis)) for axis in (1, 0))
            top, left = place[0].start, place[1].start
            box = [float(left + across[0]), float(top + down[0]), float(left + across[-1] + 1), float(top + down[-1] + 1)]
            found.append({"box": box, "label": self.label, "score": min(1.0, bright / 255)})
        return sorted(found, key=lambda one: -float(one["score"]))

    def _regions(self, inside: np.ndarray) -> np.ndarray:
        """Connected pixels, each given to its nearest centre: a place deeper inside than all others near it."""
        import numpy as np
        from scipy import ndimage

        if not self.apart:
            return np.asarray(ndimage.label(inside)[0])
        depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(inside), 1)
        centres = ndimage.label(inside & (depth == ndimage.maximum_filter(depth, self.apart)), np.ones((3, 3)))[0]
        nearest = ndimage.distance_transform_edt(centres == 0, return_distances=False, return_indices=True)
        return np.asarray(np.where(inside, centres[tuple(nearest)], 0))


def grey(rows: pa.Table) -> list[np.ndarray]:
    """The rows' pictures (height, width), uint8."""
    import numpy as np

    from fmhub.stems import pictures

    sources = zip(rows["image"].to_pylist(), rows["id"].to_pylist(), strict=True)
    return [np.asarray(pictures.whole(image, f"Row {name}").convert("L")) for image, name in sources]


def otsu(images: list[np.ndarray]) -> float:
    """The grey value that splits all pixels into two classes with the largest variance between them."""
    import numpy as np

    counts = np.sum([np.bincount(image.ravel(), minlength=256) for image in images], axis=0).astype(np.float64)
    below, total = np.cumsum(counts), counts.sum()
    mass = np.cumsum(counts * np.arange(256))
    above = total - below
    gap = mass / np.maximum(below, 1) - (mass[-1] - mass) / np.maximum(above, 1)
    return float((below * above * gap**2).argmax())


def _least(train: pa.Table) -> float:
    """A tenth of the median box."""
    import numpy as np

    boxes = np.array([one["box"] for row in train["target"].to_pylist() for one in row if not one.get("iscrowd")])
    return 0.1 * float(np.median((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])))
