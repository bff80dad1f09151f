"""Makes src/fmhub_medical/data/*.nrrd from pyradiomics 3.0.1's sdist: python make_slices.py pyradiomics-3.0.1.tar.gz

The sdist is read, never built: ten members by exact name and hash. Each volume is brought upright, to .8 mm in the plane and to
8 bits between its levels, and what lies outside the body is black; its mask goes with it.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path

import nrrd
import numpy as np
from fmhub_medical import readers, tiles

from fmhub.artifacts.archives import members

HERE = Path(__file__).parents[1] / "src" / "fmhub_medical" / "data"
SDIST = "47c57f441d6cb7973fa3b2ea48d3948df78e3348e1c69e1e2ff19001601fc2f5"
COARSE = 4
"""Steps of grey that are told apart: 22 Hounsfield units in CT, below its noise, at half the size of the file."""
VOLUMES = ("brain1", "brain2", "breast1", "lung1", "lung2")


def main(archive: Path) -> None:
    if hashlib.sha256(archive.read_bytes()).hexdigest() != SDIST:
        raise SystemExit(f"{archive} is not pyradiomics-3.0.1.tar.gz as it was published.")
    prefix = "pyradiomics-3.0.1/data/"
    wanted = {f"{prefix}{name}_{kind}.nrrd": (name, kind) for name in VOLUMES for kind in ("image", "label")}
    with tempfile.TemporaryDirectory() as folder:
        for member, content in members(archive, prefix, ".nrrd"):
            if member in wanted:
                (Path(folder) / member.removeprefix(prefix)).write_bytes(content)
        for name in VOLUMES:
            scan = readers.read(Path(folder) / f"{name}_image.nrrd")
            mask = readers.read(Path(folder) / f"{name}_label.nrrd")
            grey, body = tiles.flat(scan)
            lesion = tiles.resampled(mask.voxels > 0, mask.spacing)
            grey = np.where(tiles.grown(body) | lesion, grey - grey % COARSE, 0).astype(np.uint8)
            down, across = (slice(place.min(), place.max() + 1) for place in np.nonzero((body | lesion).any(0)))
            step = float(scan.spacing[0]) if scan.spacing else 1.0
            for kind, voxels in (("image", grey), ("label", lesion.astype(np.uint8))):
                nrrd.write(
                    str(HERE / f"{name}_{kind}.nrrd"),
                    np.ascontiguousarray(voxels[:, down, across].transpose(2, 1, 0)),
                    {
                        "space": "left-posterior-superior",
                        "space directions": np.diag([tiles.PIXEL, tiles.PIXEL, step]),
                        "encoding": "gzip",
                    },
                    compression_level=9,
                )
            print(name, voxels[:, down, across].shape, [int(part.sum()) for part in lesion if part.any()])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
