"""Pictures that are read in windows, and what becomes of them in a network."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from fmhub_vision.regions import Regions

from fmhub import DataError, Recipe, stems
from fmhub.stems import pictures
from fmhub.task import Known


@pytest.fixture
def backbone(tmp_path):
    return SimpleNamespace(name="tiny", folder=tmp_path, model=SimpleNamespace(config=SimpleNamespace(patch_size=4)))


def table(*sizes, seed=0):
    random = np.random.default_rng(seed)
    grey = [random.integers(0, 256, (high, wide), dtype=np.uint8) for wide, high in sizes]
    return pa.table({"id": [f"p{at}" for at in range(len(sizes))], "image": [pictures.raw(one) for one in grey]})


def test_a_large_picture_is_an_example_of_several_windows(backbone):
    rows = table((32, 32), (80, 32), (30, 32))
    stem = Regions(size=64, tile=32)
    found = stem.encode(rows, backbone, Recipe())
    assert found.values["begins"].tolist() == [0, 1, 5, 6] and found.lengths.tolist() == [256, 1024, 256]
    batch = stem.batch(found, np.array([2, 1]), random=None, strength=0)
    assert batch["pixel_values"].shape == (5, 3, 64, 64) and batch["source"].tolist() == [[30, 32]] + [[32, 32]] * 4
    assert batch["windows"].tolist() == [[0, 0, 0, 30, 32, 30, 32]] + [[1, left, 0, left + 32, 32, 80, 32] for left in (0, 16, 32, 48)]
    pieces, _ = stem.cut(rows)
    plain = stems.Image(size=64)
    alone = plain.batch(plain.encode(pieces, backbone, Recipe()), np.array([5, 1, 2, 3, 4]), random=None, strength=0)
    assert all((batch[name] == alone[name]).all() for name in alone)


def test_without_tiles_it_is_the_plain_stem(backbone):
    rows, plain = table((80, 32), (30, 32)), stems.Image(size=64)
    for stem in (Regions(size=64), Regions(size=64, tile=64)):
        batch = stem.batch(stem.encode(rows, backbone, Recipe()), np.array([1, 0]), random=None, strength=0)
        alone = plain.batch(plain.encode(rows, backbone, Recipe()), np.array([1, 0]), random=None, strength=0)
        assert batch["windows"][:, 0].tolist() == [0, 1] and all((batch[name] == alone[name]).all() for name in alone)
    assert Regions(size=64).fit(Known(train=pa.table({"id": ["a"], "tile": [32]}))) == Regions(size=64, tile=32)


def test_a_damaged_picture_is_named_by_its_row(backbone):
    rows = table((80, 32), (32, 32)).to_pydict()
    rows["image"][1] = rows["image"][1][:100]
    with pytest.raises(DataError, match="Row p1 is a damaged picture"):
        Regions(size=64, tile=32).encode(pa.table(rows), backbone, Recipe())
