"""medical-imaging: its volumes and tiles, and that no volume crosses a split."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from fmhub_medical import imaging, lesions, readers, tiles
from fmhub_medical.head import NOT_A_DEVICE
from fmhub_medical.readers.scan import Scan

from fmhub import DataError
from fmhub.task import Known, Splits
from fmhub.testing import data_checks
from fmhub.training.folds import load_rows
from fmhub.training.plan import Options, make

(TASK,) = imaging.tasks()


def test_the_task_says_that_it_is_no_device():
    assert NOT_A_DEVICE in TASK.summary and TASK.family == "medicine" and TASK.group == "volume (patient)"
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    assert "esearch use only" in readme and "not a medical device" in readme


# ---- the five volumes


@pytest.fixture(scope="module")
def folds():
    return load_rows(make("medical-imaging", Options())).parts


def test_every_volume_is_tested_once_by_what_learnt_from_no_slice_of_it(folds):
    groups = [{name: set(table["group"].to_pylist()) for name, table in part.items()} for part in folds]
    assert sorted(name for part in groups for name in part["test"]) == sorted(lesions.VOLUMES) and len(groups) == 5
    for part in groups:
        assert len(part["test"]) == len(part["validation"]) == 1 and len(part["train"]) == 3
        assert not (part["test"] & part["train"] or part["test"] & part["validation"] or part["validation"] & part["train"])
        assert {"brain1", "brain2"} & part["train"] and {"lung1", "lung2"} & part["train"]
    for table in (table for part in folds for table in part.values()):
        assert all(row.startswith(group) for row, group in zip(table["whole"].to_pylist(), table["group"].to_pylist(), strict=True))


def test_the_volumes_have_the_lesions_that_their_masks_mark(folds):
    folder = Path(lesions.__file__).parent / "data"
    slices = {name: int(readers.read(folder / f"{name}_label.nrrd").voxels.any((1, 2)).sum()) for name in lesions.VOLUMES}
    assert slices == {"brain1": 7, "brain2": 3, "breast1": 3, "lung1": 3, "lung2": 11}
    for table in (part["test"] for part in folds):
        name = table["group"][0].as_py()
        shown = {row.rpartition(" lesion")[0] for row in table["lesion"].to_pylist() if row}
        assert len(shown) == slices[name], "every slice with a lesion has a tile that shows it"
        assert len(set(table["whole"].to_pylist())) == slices[name] + lesions.OTHERS


def test_the_stem_reads_tiles_and_knows_their_size(folds):
    test = folds[0]["test"]
    fitted = TASK.stem.fit(Known(train=folds[0]["train"]))
    pixels, sizes = fitted.decoded(test.slice(0, 20))
    assert fitted.tile == 40 == tiles.TILE and pixels.shape == (20, 56, 56, 3) and (sizes == 40).all()


def test_a_tile_shows_a_lesion_where_a_quarter_of_it_does_and_touching_ones_are_left_out():
    grey, mask = np.full((1, 80, 80), 99, np.uint8), np.zeros((1, 80, 80), bool)
    mask[0, 0:20, 35:55] = True  # 400 pixels: 100 in the left tile, 300 in the right one, all in the one between them
    found = {row["corner"]: row for row in lesions.rows("v", grey, grey > 0, mask)}
    lesion = {corner for corner, row in found.items() if row["target"] == "lesion"}
    assert lesion == {"0,0", "20,0", "40,0"} and {*found} == lesion | {"0,40", "40,40"}
    assert {found[corner]["lesion"] for corner in lesion} == {"v slice 0 lesion 1"} and found["0,40"]["lesion"] is None
    mask[0, :, 35:38] = False  # now 40 of 340 in the left one: neither
    assert {row["corner"] for row in lesions.rows("v", grey, grey > 0, mask)} == {"20,0", "40,0", "0,40", "40,40"}


def test_all_slices_with_a_lesion_are_read_and_some_others_evenly():
    grey, mask = np.full((40, 80, 80), 99, np.uint8), np.zeros((40, 80, 80), bool)
    mask[[3, 4, 5, 20], 50:60, 50:60] = True
    taken = sorted({int(row["whole"].split()[-1]) for row in lesions.rows("v", grey, grey > 0, mask)})
    assert {3, 4, 5, 20} <= {*taken} and len(taken) == 4 + lesions.OTHERS and taken[0] == 0 and taken[-1] == 39
    assert len({row["whole"] for row in lesions.rows("v", grey[:2], grey[:2] > 0, mask[:2])}) == 2


def test_a_slice_is_the_same_size_at_any_spacing():
    voxels = np.zeros((1, 100, 50), np.float32)
    voxels[0, 20:80, 10:40] = 500
    grey, body = tiles.flat(Scan(voxels, (1.0, 0.8, 1.6)))
    assert grey.shape == body.shape == (1, 100, 100) and body[0, 50, 50] and not body[0, 5, 5]
    with pytest.raises(DataError, match="does not say how large its pixels are"):
        tiles.flat(Scan(voxels, None))
    with pytest.raises(DataError, match="spacing cannot be right"):
        tiles.flat(Scan(voxels, (1.0, 900.0, 900.0)))


def test_a_volume_in_two_parts_is_found_by_the_conformance_check(folds):
    def seen(tables):
        whole = Splits(tables=tables, fingerprint="", rule="KFold")
        return data_checks.splits_disjoint(SimpleNamespace(whole=whole, stem=TASK.stem, declared=TASK))

    parts = dict(folds[0])
    assert seen(parts)[0]
    name, few = parts["test"]["group"][0].as_py(), parts["test"].slice(0, 30)
    ok, words = seen({**parts, "train": pa.concat_tables([parts["train"], few]), "test": parts["test"].slice(30)})
    assert not ok and "1 groups are in more than one split" in words and name in words


@pytest.mark.slow
def test_a_whole_run_on_a_random_backbone_tests_every_volume_and_draws_heat_maps(tmp_path):
    """From fmhub run to report and predict; what a random backbone scores says nothing."""
    import nrrd
    import pyarrow.parquet as pq
    import transformers

    from fmhub import api
    from fmhub.report import write

    shape = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 56, "patch_size": 14, "mlp_ratio": 2}
    config = transformers.AutoConfig.for_model("dinov2", **shape)
    config.save_pretrained(tmp_path / "dinov2")
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path / "dinov2")
    record = api.run("medical-imaging", backbone=str(tmp_path / "dinov2"), set={"epochs": "1"}, output=tmp_path / "run")
    assert record["folds"]["count"] == 5 and record["scores"]["test"]["auc"]["n"] == 2341
    assert set(record["groups"]["volume"]["values"]) == set(lesions.VOLUMES)
    table = pq.read_table(tmp_path / "run" / "predictions.parquet").to_pandas().query("split == 'test'")
    assert table.groupby("fold")["group"].nunique().eq(1).all() and set(table["group"]) == set(lesions.VOLUMES)
    page = write(tmp_path / "run").read_text()
    assert "Heat maps" in page and "Research use only, not a medical device." in page
    voxels = np.random.default_rng(0).normal(300, 20, (80, 80, 2))
    voxels[:4] = voxels[-4:] = 0
    nrrd.write(str(tmp_path / "scan.nrrd"), voxels.astype(np.int16), {"space directions": np.diag([0.8, 0.8, 3])})
    (found,) = api.load(tmp_path / "run").predict([str(tmp_path / "scan.nrrd")])
    assert NOT_A_DEVICE in found["readable"] and set(found["heat"]) == {"0", "1"}
