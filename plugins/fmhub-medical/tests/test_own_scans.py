"""medical-imaging on the user's own data, and what `predict` gives of a scan; bad input in one line."""

from __future__ import annotations

import io
import zipfile
from functools import partial
from pathlib import Path

import nrrd
import numpy as np
import pyarrow as pa
import pydicom
import pytest
from fmhub_medical import imaging, lesions, medmnist, samples, tiles
from fmhub_medical.head import NOT_A_DEVICE, Findings, Outcome
from fmhub_medical.stem import Slices, as_picture
from PIL import Image

from fmhub import DataError, Recipe, UsageError, data, heads
from fmhub.errors import UntrustedFile
from fmhub.task import Known
from fmhub.training.plan import describe, spec_from

(TASK,) = imaging.tasks()


# ---- the user's own data


def npz(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


def pictures(count, *shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *(shape or (28, 28))), dtype=np.uint8)


def parts(labels, shape=(28, 28), **more):
    made = {}
    for seed, part in enumerate(("train", "val", "test")):
        made[f"{part}_images"], made[f"{part}_labels"] = pictures(len(labels), *shape, seed=seed), np.array(labels)
    return {**made, **more}


@pytest.mark.parametrize(
    ("labels", "shape", "target"),
    [
        ([[0], [1], [1], [0]], (28, 28), ["0", "1", "1", "0"]),  # binary
        ([[0], [8], [10], [2]], (28, 28, 3), ["0", "8", "10", "2"]),  # several
        ([[0, 1, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1]], (28, 28), [["finding 1", "finding 2"], [], ["finding 0"], ["finding 2"]]),
    ],
)
def test_medmnist_of_every_kind_is_read(tmp_path, labels, shape, target):
    path = npz(tmp_path / "set.npz", **parts(labels, shape))
    spec = TASK.data.opened(f"medmnist:{path}", {}, None, TASK.stem)
    found = spec.load()
    assert {name: len(table) for name, table in found.tables.items()} == {"train": 4, "validation": 4, "test": 4}
    assert found.tables["train"]["target"].to_pylist() == target
    shown = np.asarray(Image.open(io.BytesIO(found.tables["test"]["image"][0].as_py())))
    assert np.array_equal(shown, pictures(4, *shape, seed=2)[0])


def test_a_head_takes_labels_levels_in_their_order_or_several_at_once():
    levels = pa.table({"id": list("abc"), "target": ["10", "2", "0"]})
    fitted = Findings().fit(Known(train=levels), Recipe())
    assert type(fitted) is Findings and fitted.labels == ("0", "2", "10")
    several = pa.table({"id": list("ab"), "target": pa.array([["finding 10", "finding 2"], []], pa.list_(pa.string()))})
    fitted = Findings().fit(Known(train=several), Recipe())
    assert isinstance(fitted, heads.MultiLabel) and fitted.notes == Findings().notes == (f"{NOT_A_DEVICE}.",)
    assert set(fitted.labels) == {"finding 2", "finding 10"}


def test_medmnist_that_cannot_be_read_is_refused_in_one_line(tmp_path):
    good = parts([[0], [1], [1], [0]])
    cases = {
        "no MedMNIST": ({"x": np.zeros(3)}, "MedMNIST has train_images"),
        "3-D": ({**good, "train_images": pictures(4, 28, 28, 28)}, "two-dimensional"),
        "floats": ({**good, "test_labels": np.zeros((4, 1))}, "not whole numbers"),
        "counts": ({**good, "val_labels": np.zeros((3, 1), int)}, "4 images and 3 labels"),
        "columns": ({**good, "train_labels": np.full((4, 3), 2)}, "other values than 0 and 1"),
        "unlabelled": ({name: array for name, array in good.items() if name != "test_labels"}, "no test_labels"),
        "objects": ({**good, "train_labels": np.array([{}, {}, {}, {}], dtype=object)}, "Python objects"),
    }
    for name, (arrays, words) in cases.items():
        with pytest.raises(DataError, match=words) as error:
            medmnist.read(str(npz(tmp_path / f"{name}.npz", **arrays)))
        assert "\n" not in str(error.value)
    path = npz(tmp_path / "good.npz", **good)
    (tmp_path / "cut.npz").write_bytes(path.read_bytes()[:2000])
    (tmp_path / "text.npz").write_text("no archive")
    for name in ("cut", "text"):
        with pytest.raises(DataError, match="damaged"):
            medmnist.read(str(tmp_path / f"{name}.npz"))
    with pytest.raises(DataError, match="no file"):
        medmnist.read(str(tmp_path / "absent.npz"))
    with pytest.raises(UsageError, match="do not go with medmnist"):
        TASK.data.opened(f"medmnist:{path}", {}, "other", TASK.stem)


def test_an_npz_bomb_is_counted_by_its_headers(tmp_path):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w") as archive:
        out = io.BytesIO()
        np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": (1 << 20, 1 << 10, 1 << 10)})
        archive.writestr("train_images.npy", out.getvalue())
    with pytest.raises(DataError, match=r"unpacks into 1,048,576 MiB"):
        medmnist.read(str(path))


def test_a_patient_that_crosses_splits_is_refused(tmp_path):
    groups = {"train_groups": np.array(list("abcd")), "val_groups": np.array(list("efgh")), "test_groups": np.array(list("ijkd"))}
    path = npz(tmp_path / "set.npz", **parts([[0], [1], [1], [0]], **groups))
    with pytest.raises(DataError, match="Group 'd' is both in train and in test"):
        TASK.data.opened(f"medmnist:{path}", {}, None, TASK.stem).load()
    table = "image,label,patient,split\n" + "".join(
        f"{row}.png,{'ab'[row % 2]},p{0 if row == 9 else row},{'test' if row > 7 else 'train'}\n" for row in range(12)
    )
    (tmp_path / "mine.csv").write_text(table)
    with pytest.raises(DataError, match=r"'p0' is both in \w+ and in test"):
        TASK.data.opened(str(tmp_path / "mine.csv"), {"label": "label", "group": "patient"}, None, TASK.stem).load()


def volume(folder, patient, lesion=True, seed=0):
    """A made-up patient of two slices with a mask, 64 mm wide."""
    random = np.random.default_rng(seed)
    voxels, mask = random.normal(300, 20, (80, 80, 2)), np.zeros((80, 80, 2), np.uint8)
    voxels[:4], voxels[-4:] = 0, 0
    if lesion:
        mask[20:32, 44:56, 1] = 1
        voxels[mask > 0] += 300
    for kind, values in (("image", voxels.astype(np.int16)), ("label", mask)):
        nrrd.write(
            str(folder / f"{patient}_{kind}.nrrd"), values, {"space": "left-posterior-superior", "space directions": np.diag([0.8, 0.8, 3])}
        )


def test_a_folder_of_volumes_and_masks_is_split_by_patient(tmp_path):
    for number in range(8):
        volume(tmp_path, f"patient{number}", seed=number)
    found = TASK.data.opened(str(tmp_path), {}, None, TASK.stem).load()
    groups = [set(table["group"].to_pylist()) for table in found.tables.values()]
    assert sum(map(len, groups)) == 8 == len(set.union(*groups))
    assert {*found.tables["train"]["target"].to_pylist()} == {*lesions.LABELS}
    nrrd.write(str(tmp_path / "patient0_label.nrrd"), np.zeros((2, 2, 2), np.uint8), {"space directions": np.eye(3)})
    with pytest.raises(DataError, match=r"patient0_image\.nrrd has 2 x 80 x 80 voxels and its mask 2 x 2 x 2"):
        TASK.data.opened(str(tmp_path), {}, None, TASK.stem).load()


def test_slices_by_label_may_be_dicom(tmp_path):
    source = Path(pydicom.__file__).parent / "data" / "test_files"
    if not (source / "CT_small.dcm").is_file():
        pytest.skip("this pydicom brings no test files")
    for label, name in (("ct", "CT_small.dcm"), ("mr", "MR_small.dcm")):
        (tmp_path / label).mkdir()
        for number in range(10):
            made = pydicom.dcmread(source / name)
            made.InstanceNumber, made.PatientID = number, f"patient {number % 5}"
            made.save_as(tmp_path / label / f"{number}.dcm")
    found = TASK.data.opened(str(tmp_path), {}, None, TASK.stem).load()
    groups = [set(table["group"].to_pylist()) for table in found.tables.values()]
    assert sum(map(len, groups)) == 5 == len(set.union(*groups))  # a patient has slices of both labels, all in one part
    assert not any("patient" in group for group in set.union(*groups))
    pixels, sizes = TASK.stem.fit(found.known()).decoded(found.tables["train"])
    assert {tuple(size) for size in sizes.tolist()} == {(128, 128), (64, 64)} and pixels.std() > 10


def test_a_patient_of_dicom_in_both_folders_is_refused(tmp_path):
    source = Path(pydicom.__file__).parent / "data" / "test_files" / "MR_small.dcm"
    if not source.is_file():
        pytest.skip("this pydicom brings no test files")
    for part, first in (("mine", 0), ("held", 3)):
        for number in range(first, first + 4):
            made = pydicom.dcmread(source)
            made.InstanceNumber, made.PatientID = number, f"patient {number}"
            (tmp_path / part / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
            made.save_as(tmp_path / part / "ab"[number % 2] / f"{part} {number}.dcm")
    with pytest.raises(DataError, match=r"Group '[0-9a-f]{12}' is both in train and in test"):
        TASK.data.opened(str(tmp_path / "mine"), {}, str(tmp_path / "held"), TASK.stem).load()


def slices(folder, label, study="", patient="", count=2, names="", **more):
    """DICOM slices with these ids; their paths."""
    made = []
    for number in range(count):
        one = pydicom.Dataset()
        one.file_meta = pydicom.dataset.FileMetaDataset()
        one.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
        one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = pydicom.uid.generate_uid()
        one.PatientID, one.StudyInstanceUID, one.InstanceNumber = patient, study, number
        for name, value in more.items():
            setattr(one, name, value)
        one.Rows = one.Columns = 4
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation, one.SamplesPerPixel = 8, 8, 7, 0, 1
        one.PhotometricInterpretation, one.PixelData = "MONOCHROME2", np.random.default_rng().bytes(16)
        (folder / label).mkdir(parents=True, exist_ok=True)
        made.append(folder / label / f"{names or study or patient} {number}.dcm")
        one.save_as(made[-1], enforce_file_format=True)
    return made


def whose(reference, columns=None, test=None):
    """{part: groups} and notes of the opened data."""
    found = TASK.data.opened(str(reference), columns or {}, test, TASK.stem).load()
    return {name: set(table["group"].to_pylist()) for name, table in found.tables.items()}, found


@pytest.mark.parametrize("tag", ["StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("patient", ["", "Anonymous"])
def test_slices_of_nobody_are_split_by_study(tmp_path, tag, patient):
    for number in range(6):
        slices(tmp_path, "ab"[number % 2], patient=patient, count=4, names=f"v{number}", **{tag: f"1.2.{number}"})
    groups, found = whose(tmp_path)
    assert sum(map(len, groups.values())) == 6 == len(set.union(*groups.values())) and None not in set.union(*groups.values())
    assert [note for note in found.notes if note.startswith("24 of 24 DICOM files name no patient")]


def test_a_study_of_which_one_file_names_the_patient_is_his_and_files_without_ids_are_told(tmp_path):
    for number in range(6):
        slices(tmp_path, "ab"[number % 2], f"1.2.{number}", f"p{number // 2}", names=f"named {number}")
        slices(tmp_path, "ab"[number % 2], f"1.2.{number}", names=f"blank {number}")
    slices(tmp_path, "a", names="silent")
    groups, found = whose(tmp_path)
    assert len(set.union(*groups.values()) - {None}) == 3 == sum(len(some - {None}) for some in groups.values())
    assert found.notes == ("2 of 26 DICOM files name neither patient nor study: nothing keeps those of one patient together",)


def test_a_table_of_dicom_is_split_by_patient_where_it_names_no_group(tmp_path):
    rows = ["image,label,hospital"]
    for number in range(8):
        rows += [f"{path.relative_to(tmp_path)},{'ab'[number % 2]},h{number}" for path in slices(tmp_path, "all", patient=f"p{number}")]
    (tmp_path / "mine.csv").write_text("\n".join(rows))
    groups, found = whose(tmp_path / "mine.csv")
    assert sum(map(len, groups.values())) == 8 == len(set.union(*groups.values())) and found.notes == ()
    assert not any("p" in group for group in set.union(*groups.values()))
    assert {*set.union(*whose(tmp_path / "mine.csv", {"group": "hospital"})[0].values())} == {f"h{number}" for number in range(8)}
    parts = [rows[0] + ",split", *(f"{row},{'train' if at % 4 else 'test'}" for at, row in enumerate(rows[1:]))]
    (tmp_path / "parts.csv").write_text("\n".join(parts))
    with pytest.raises(DataError, match=r"parts\.csv: Group '[0-9a-f]{12}' is both in train and in test"):
        whose(tmp_path / "parts.csv")


def test_scans_of_one_patient_stay_together(tmp_path):
    for number in range(5):
        for scan in range(2):
            volume(tmp_path, f"patient{number}{'-.'[number % 2]}scan{scan}", seed=2 * number + scan)
    groups, _ = whose(tmp_path)
    assert sum(map(len, groups.values())) == 5 and set.union(*groups.values()) == {f"patient{number}" for number in range(5)}
    for number in range(3):
        (tmp_path / "one").mkdir(exist_ok=True)
        volume(tmp_path / "one", f"sub-{number}", seed=number)
    with pytest.raises(DataError, match=r"its 3 volumes are of sub alone .* folder of its own") as error:
        whose(tmp_path / "one")
    assert "\n" not in str(error.value)


def test_a_volume_is_no_single_picture(tmp_path):
    volume(tmp_path, "p")
    with pytest.raises(DataError, match="a volume of 2 slices"):
        as_picture(str(tmp_path / "p_image.nrrd"), "Row 0")


def test_a_class_that_only_the_test_part_has_is_refused(tmp_path):
    made = parts([[0], [1], [1], [0]])
    path = npz(tmp_path / "set.npz", **{**made, "test_labels": np.array([[0], [1], [2], [0]])})
    found = TASK.data.opened(f"medmnist:{path}", {}, None, TASK.stem).load()
    head = Findings().fit(found.known(), Recipe())
    with pytest.raises(DataError, match=r"Row test-2: label '2' is not one that was trained on\.") as error:
        head.targets(found.tables["test"])
    assert "\n" not in str(error.value)


def test_folders_that_cannot_be_used_are_refused_in_one_line(tmp_path):
    away, linked = tmp_path / "away", tmp_path / "linked"
    for folder in (away, linked, tmp_path / "mine" / "a", tmp_path / "empty"):
        folder.mkdir(parents=True)
    volume(away, "p")
    for name in ("p_image.nrrd", "p_label.nrrd"):
        (linked / name).symlink_to(away / name)
    (away / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(50))
    (tmp_path / "mine" / "a" / "link.jpg").symlink_to(away / "cut.jpg")
    for name, words in (
        ("empty", "has no files"), ("linked", "has no files"), ("mine", "is a link out of"), ("absent", "no file or folder"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=words) as error:
            TASK.data.opened(str(tmp_path / name), {}, None, TASK.stem).load()
        assert "\n" not in str(error.value)
    with pytest.raises(DataError, match=r"Row 7.*(cut|damaged|truncated|not a picture)") as error:
        TASK.stem.decoded(pa.table({"id": ["7"], "path": [str(away / "cut.jpg")]}))
    assert "\n" not in str(error.value)


# ---- what predict gives


def test_a_scan_is_cut_and_its_tiles_are_joined_into_findings_and_a_heat_map(tmp_path):
    volume(tmp_path, "p")
    stem, path = Slices(size=56, tile=tiles.TILE), str(tmp_path / "p_image.nrrd")
    pieces, windows = stem.cut(pa.table({"id": ["0"], "image": [path]}))
    assert len(pieces) == len(windows) == 2 * 9 and set(windows[:, 1]) == {0, 1}  # every half tile of 80 x 80 pixels
    assert (windows[:, 6:] == 80).all()
    there = (windows[:, 1] == 1) & (windows[:, 2] == 0) & (windows[:, 3] == 40)
    said = [[0.1, 0.9] if one else [0.8, 0.2] for one in there]
    head = Findings(labels=lesions.LABELS)
    joined = head.joined({"prediction": [lesions.LABELS[score[1] > 0.5] for score in said], "scores": said}, windows, 1)
    row = {name: values[0] for name, values in joined.items()}
    assert row["prediction"] == "lesion" and row["scores"] == [0.1, 0.9]
    assert row["findings"] == [{"slice": 1, "box": [0.0, 32.0, 32.0, 64.0], "score": 0.9}]
    assert "slice 1 at 0,32 mm (0.90)" in row["readable"] and NOT_A_DEVICE in row["readable"]
    rows = np.array(row["heat"]["1"]["rows"])
    assert rows.shape == (4, 4) and rows[3, 0] == pytest.approx(0.9) and rows[0, 3] == pytest.approx(0.2)
    picture = np.asarray(Image.open(io.BytesIO(head.painted(row, path))).convert("RGB")).astype(int)
    left = picture[130:158, 168 + 6 : 168 + 34]  # the lower left of the second panel, where it is red
    right = picture[20:60, 168 + 110 : 168 + 150]
    assert (left[..., 0] - left[..., 1]).mean() > 60 and abs(right[..., 0] - right[..., 1]).max() == 0


def test_a_picture_that_is_no_scan_keeps_its_own_answer_and_is_painted_with_it():
    source = samples.discs(1)["image"][0].as_py()
    pieces, windows = Slices(size=56, tile=tiles.TILE).cut(pa.table({"id": ["0"], "image": [source]}))
    joined = Findings(labels=lesions.LABELS).joined({"prediction": ["none"], "scores": [[0.7, 0.3]]}, windows, 1)
    assert len(pieces) == 1 and joined["prediction"] == ["none"] == joined["readable"] and joined["heat"] == [None]
    assert Image.open(io.BytesIO(Findings(labels=lesions.LABELS).painted({"prediction": "none", "heat": None}, source))).width >= 320


def test_bad_scans_given_to_predict_are_refused_in_one_line(tmp_path):
    stem = Slices(size=56, tile=tiles.TILE)
    nrrd.write(str(tmp_path / "black.nrrd"), np.zeros((50, 50, 2), np.int16), {"space directions": np.eye(3)})
    (tmp_path / "cut.dcm").write_bytes(bytes(128) + b"DICM" + b"\x02\x00")
    for name, words in (("black.nrrd", "shows no body"), ("cut.dcm", "damaged|without pixel data")):
        with pytest.raises(DataError, match=words) as error:
            stem.cut(pa.table({"id": ["0"], "image": [str(tmp_path / name)]}))
        assert str(error.value).startswith("Row 0") and "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["binary", "several"])
def test_a_medmnist_file_is_run_and_predicted(tmp_path, kind):
    """The whole path from --data medmnist:FILE to predict, on a random backbone."""
    import transformers

    from fmhub import api

    shape = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 56, "patch_size": 14, "mlp_ratio": 2}
    config = transformers.AutoConfig.for_model("dinov2", **shape)
    config.save_pretrained(tmp_path / "dinov2")
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path / "dinov2")
    labels = [[row % 2] for row in range(60)] if kind == "binary" else [[row % 2, (row // 2) % 2, 0] for row in range(60)]
    path = npz(tmp_path / "set.npz", **parts(labels))
    options = {"data": f"medmnist:{path}", "backbone": str(tmp_path / "dinov2"), "set": {"epochs": "1", "lora.layers": "head"}}
    record = api.run("medical-imaging", **options)
    assert record["primary"] == "auc" and 0 <= record["scores"]["test"]["auc"]["value"] <= 1
    assert [row["name"] for row in record["baselines"]] == ["majority", "pixel-logistic", "frozen-logistic"]
    Image.fromarray(pictures(1)[0]).save(tmp_path / "one.png")
    (found,) = api.load(record["id"]).predict([str(tmp_path / "one.png")])
    assert set(found["scores"]) == ({"0", "1"} if kind == "binary" else {"finding 0", "finding 1"})


def test_a_head_of_several_labels_is_made_again_from_its_record():
    made = Findings().fit(Known(train=pa.table({"target": [["a"], ["b", "a"]]})), Recipe())
    assert type(made).__name__ == "Several"
    assert spec_from(describe(made), Findings()) == made
    with pytest.raises(UntrustedFile, match="no installed plugin declares"):
        spec_from(describe(made), Outcome())


def test_samples_are_the_same_every_time():
    one, other = (data.rows(partial(samples.discs), fields=("image",)).load().fingerprint for _ in range(2))
    assert one == other
