"""The tasks' metadata and samples, light import, the readers of fetched sets, the pixel baseline."""

import gzip
import itertools
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from fmhub_vision import cells, emoji, fmhub_api, fmhub_tasks, samples, silhouettes, trees
from fmhub_vision.pixels import PixelLogistic

from fmhub import FetchError, heads, stems
from fmhub.artifacts import fetch
from fmhub.errors import UntrustedFile
from fmhub.stems import pictures
from fmhub.task import Setting

TASKS = {task.name: task for task in fmhub_tasks()}


def test_the_tasks():
    assert list(TASKS) == ["image-classification", "image-silhouettes", "object-detection", "tree-crowns"]
    assert fmhub_api == (1, 0)
    assert all(task.family == "vision" and task.group and task.citation for task in TASKS.values())


def test_import_is_light():
    code = "import sys, fmhub_vision; list(fmhub_vision.fmhub_tasks()); print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"numpy", "pyarrow", "torch", "transformers", "sklearn", "PIL", "scipy"} & set(loaded) == set()


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_sample_has_every_label_and_no_picture_twice(task):
    splits = task.sample.load()
    known = set(task.head.labels or labels_of(splits.tables["train"]))
    assert all(labels_of(table) <= known for table in splits.tables.values())
    assert labels_of(splits.tables["train"]) == known != set()
    images = [image for table in splits.tables.values() for image in table["image"].to_pylist()]
    assert len(set(images)) == len(images)


def labels_of(table: pa.Table) -> set[str]:
    """Of rows with one label, or with boxes that each have one."""
    targets = table["target"].to_pylist()
    return {one["label"] for row in targets for one in row} if isinstance(targets[0], list) else set(targets)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_offline_a_fetched_set_says_so_in_one_line(task, monkeypatch, tmp_path):
    monkeypatch.setenv("FMHUB_OFFLINE", "1")
    monkeypatch.setenv("FMHUB_HOME", str(tmp_path))
    with pytest.raises(FetchError, match="FMHUB_OFFLINE"):
        task.data.load()


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("1F9D1-200D-1F692", "1F692"),
        ("1F468-1F3FD-200D-1F692", "1F692"),
        ("1F6B4-200D-2640-FE0F", "1F6B4"),
        ("1F468", "1F468"),
        ("1F1E6-1F1E8", "1F1E6-1F1E8"),
    ],
)
def test_variants_of_an_emoji_share_a_motif(code, name):
    assert emoji.motif(code) == name


def test_an_array_is_read_from_a_pickle_that_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    array = np.arange(784 * 2, dtype=np.uint8)
    for name, held in (("array", array), ("trap", [Trap(), array]), ("two", [array, array + 1])):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(pickle.dumps(held, protocol=4)))
    assert silhouettes.array_bytes(tmp_path / "array.gz") == array.tobytes()
    assert silhouettes.array_bytes(tmp_path / "trap.gz") == array.tobytes()
    assert not (tmp_path / "ran").exists()
    with pytest.raises(UntrustedFile, match="holds 2 blocks"):
        silhouettes.array_bytes(tmp_path / "two.gz")


def test_near_duplicates_and_mirror_images_are_one_group():
    images = np.zeros((5, 28, 28), np.uint8)
    images[0, 4:14, 2:20] = 255
    images[0, 14:20, 2:6] = 255
    images[1] = images[0, :, ::-1]  # the mirror image
    images[2] = images[0]
    images[2, 4, 2:6] = 0  # four pixels less
    images[3, 4:24, 4:24] = 255
    images[4, 10:14, 10:26] = 255
    assert silhouettes.groups(images) == [0, 0, 0, 3, 4]
    assert silhouettes.groups(images, alike=0.999) == [0, 0, 2, 3, 4]


def test_pixels_tell_the_sample_apart():
    table = samples.shapes(("a", "b"), 60)
    train, rest = table.slice(0, 80), table.slice(80)
    head = heads.Classification(labels=("b", "a"))
    found = PixelLogistic(size=8).fit(Setting(train=train, validation=rest, head=head, seed=0)).predict(rest.drop_columns(["target"]))
    assert np.mean([one == other for one, other in zip(found["prediction"], rest["target"].to_pylist(), strict=True)]) > 0.8
    assert np.allclose(np.sum(found["scores"], axis=1), 1)
    assert [("b", "a")[int(np.argmax(row))] for row in found["scores"]] == found["prediction"]


def test_samples_do_not_change():
    pixels = stems.Image(size=32).decoded(samples.emoji_like())[0]
    assert pixels.shape == (234, 32, 32, 3)
    assert len({row.tobytes() for row in pixels}) == 234


@pytest.mark.real
def test_emoji_are_the_stated_set():
    splits = TASKS["image-classification"].data.load()
    assert {name: len(table) for name, table in splits.tables.items()} == {
        "train": 1262,
        "validation": 141,
        "test": 476,
        "shift:google": 476,
    }
    _nothing_crosses(splits.tables)
    test, shift = (splits.tables[name] for name in ("test", "shift:google"))
    assert [f"google {group}" for group in test["group"].to_pylist()] == shift["group"].to_pylist()


@pytest.mark.real
def test_silhouettes_are_the_stated_set():
    splits = TASKS["image-silhouettes"].data.load()
    assert {name: len(table) for name, table in splits.tables.items()} == {"train": 6803, "validation": 972, "test": 1941}
    labels = Counter(label for table in splits.tables.values() for label in table["target"].to_pylist())
    assert set(labels) == set(silhouettes.LABELS)
    _nothing_crosses(splits.tables)


@pytest.mark.real
def test_nuclei_are_the_stated_set_and_no_part_of_the_dish_is_in_two_splits():
    splits = TASKS["object-detection"].data.load().tables
    assert {name: len(table) for name, table in splits.items()} == {"train": 800, "validation": 30, "test": 15, "shift:stardist": 3}
    sizes = {"train": (cells.TILE, cells.TILE), **{part: places[0][2:] for part, places in cells.REGIONS.items()}}
    columns = {name: _spans(splits[name], 0, sizes[name][0]) for name in ("test", "validation", "train")}
    for left, right in itertools.pairwise(columns.values()):
        assert max(end for _, end in left) + 40 <= min(start for start, _ in right)  # more than a nucleus is wide
    crowds = {name: Counter(one["iscrowd"] for row in table["target"].to_pylist() for one in row) for name, table in splits.items()}
    assert {name: (found[0], found[1]) for name, found in crowds.items()} == {
        "train": (2589, 747), "validation": (227, 30), "test": (142, 24), "shift:stardist": (131, 24),
    }  # fmt: skip
    for part, (width, height) in sizes.items():
        boxes = [one["box"] for row in splits[part]["target"].to_pylist() for one in row]
        assert all(0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height for x0, y0, x1, y1 in boxes)
    frames = [cells.stretched(frame) for frame in cells.stack(fetch(cells.HELA) / "Fluo_Hela_02_img.tif")]
    for part in ("train", "validation", "test"):  # an id tells the truth of where its pixels are from
        shown = {f"{part} {at}": frame for at, frame in enumerate(frames)}
        shown |= {f"{part} {at} changed": cells._other_look(frame, np.random.default_rng(at)) for at, frame in enumerate(frames)}
        _shows_its_place(splits[part], shown, sizes[part], _turn if part == "train" else lambda source: 0)


def _turn(source: str) -> int:
    """Of a training frame: its first block has the look of its own number, plain or changed, and the second the other."""
    _, number, *changed = source.split()
    return 2 * int(number) + (bool(changed) != bool(int(number) % 2))


@pytest.mark.parametrize("turn", range(8))
def test_boxes_turn_with_their_tile(turn):
    grey, mask = np.zeros((40, 50), np.uint8), np.zeros((40, 50), np.int64)
    mask[12:18, 20:23] = 1
    grey[mask == 1] = 200
    (row,) = cells._pieces(grey, mask, np.zeros_like(mask), [(10, 5, 30, 30)], "train 0", turn=turn)
    shown = np.asarray(pictures.whole(row["image"], "train 0"))[..., 0]
    ((x0, y0, x1, y1),) = ([int(edge) for edge in one["box"]] for one in row["target"])
    assert (y1 - y0, x1 - x0) == ((6, 3), (3, 6))[turn % 2]
    assert (shown[y0:y1, x0:x1] == 200).all() and shown.sum() == 18 * 200
    assert np.array_equal(cells._turned(cells._turned(grey, turn), (4 - turn) % 4 if turn < 4 else turn), grey)
    others = [cells._turned(mask[5:35, 10:40], other) for other in range(8) if other != turn]
    assert not any(np.array_equal(cells._turned(mask[5:35, 10:40], turn), other) for other in others)


def test_what_is_bright_and_has_no_mask_is_a_crowd_and_a_sliver_too():
    grey, mask = np.full((60, 80), 10, np.uint8), np.zeros((60, 80), np.int64)
    for number, (top, left, size) in enumerate([(5, 5, 12), (30, 14, 12), (5, 40, 12), (50, 70, 3)], 1):
        grey[top : top + size, left : left + size] = 200
        if number < 3:
            mask[top + 1 : top + size - 1, left + 1 : left + size - 1] = number  # the rim of a mask is no thing of its own
    bare = cells.unmasked(grey, mask)
    assert [box for _, box, _ in cells._boxes(bare)] == [[40, 5, 52, 17]]  # three pixels square are too small
    (row,) = cells._pieces(grey, mask, bare, [(0, 0, 17, 60)], "train 0")
    assert [(one["box"], one["iscrowd"]) for one in row["target"]] == [([6, 6, 16, 16], 0), ([15, 31, 17, 41], 1)]
    (row,) = cells._pieces(grey, mask, bare, [(30, 0, 40, 60)], "train 0")
    assert [(one["box"], one["iscrowd"]) for one in row["target"]] == [([10, 5, 22, 17], 1)]


@pytest.mark.real
def test_no_nucleus_followed_through_the_film_is_in_two_splits():
    """A nucleus goes on in the next frame as the one that covers most of its place."""
    where: list[set[str]] = []
    before, numbers = None, {}
    for frame, mask in enumerate(cells.stack(fetch(cells.HELA) / "Fluo_Hela_02_ERR_SEG.tif")):
        strips = {name: _strip(name) for name, every in cells.EVERY.items() if frame % every == 0}
        strips["train"] = (min(left for left, _ in cells.STARTS), mask.shape[1])
        known, numbers = numbers, {}
        for number in np.unique(mask[mask > 0]).tolist():
            under = [] if before is None else before[mask == number]
            kind, count = np.unique(under, return_counts=True) if len(under) else ([], [])
            best = kind[int(np.argmax(count))] if len(kind) else 0
            if best and 2 * max(count) > len(under) and int(best) in known:
                numbers[number] = known[int(best)]
            else:
                where.append(set())
                numbers[number] = len(where) - 1
            across = np.flatnonzero((mask == number).any(0))
            where[numbers[number]] |= {name for name, (start, end) in strips.items() if ((across >= start) & (across < end)).any()}
        before = mask
    assert sum(bool(parts) for parts in where) > 100
    assert [parts for parts in where if len(parts) > 1] == []


@pytest.mark.real
def test_crowns_are_the_stated_set_and_no_place_is_in_two_splits():
    splits = TASKS["tree-crowns"].data.load().tables
    counts = {name: len(table) for name, table in splits.items()}
    assert counts == {"train": 154, "validation": 33, "test": 30, "shift:florida": 4, "shift:california": 4}
    photos = {name: {one.split()[0] for one in table["id"].to_pylist()} for name, table in splits.items()}
    assert photos["train"] == photos["validation"]
    assert len(set().union(*photos.values())) == len(photos) - 1
    folder = fetch(trees.CROWNS)
    shown = {name: np.asarray(pictures.whole(str(folder / f"{name}.png"), name)) for name in set().union(*photos.values())}
    for table in splits.values():
        _shows_its_place(table, shown, (trees.TILE, trees.TILE))
    train, validation = (_spans(splits[name], 1, trees.TILE) for name in ("train", "validation"))
    assert max(end for _, end in train) + 60 <= min(start for start, _ in validation)


def _strip(part: str) -> tuple[int, int]:
    """Where the regions of a part begin and end across a frame."""
    left, _, width, _ = cells.REGIONS[part][0]
    return left, left + width


def _spans(table: pa.Table, axis: int, tile: int) -> set[tuple[int, int]]:
    """Where the tiles begin and end along an axis, from their ids `NAME LEFT,TOP`."""
    starts = {int(name.rsplit(" ", 1)[1].split(",")[axis]) for name in table["id"].to_pylist()}
    return {(start, start + tile) for start in starts}


def _shows_its_place(
    table: pa.Table, sources: dict[str, np.ndarray], size: tuple[int, int], turn: Callable[[str], int] = lambda source: 0
) -> None:
    """The pixels of every tile of that size are those of its source, turned, at the place that its id says: `tiles.apart` goes by ids."""
    for name, image in zip(table["id"].to_pylist(), table["image"].to_pylist(), strict=True):
        source, corner = name.rsplit(" ", 1)
        left, top = map(int, corner.split(","))
        found = np.asarray(pictures.whole(image, name))
        there = cells._turned(sources[source][top : top + size[1], left : left + size[0]], turn(source))
        assert np.array_equal(found if there.ndim == 3 else found[..., 0], there), name


def _nothing_crosses(tables: dict[str, pa.Table]) -> None:
    held = {name: (set(table["image"].to_pylist()), set(table["group"].to_pylist())) for name, table in tables.items()}
    for one in ("train", "validation"):
        for other in ("test", "shift:google"):
            if other in held:
                assert not held[one][0] & held[other][0]
                assert not held[one][1] & held[other][1]
