"""Pictures: what users' files look like, what is refused in one line, batches, augmentation, folders by label."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fmhub import data, stems
from fmhub.errors import DataError, UsageError
from fmhub.recipe import Recipe
from fmhub.stems import image as room
from fmhub.stems import pictures


def file(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def table(*sources: Any, column: str = "image") -> pa.Table:
    return pa.table({"id": [f"r{number}" for number in range(len(sources))], column: list(sources)})


def halves(left: Any, right: Any, mode: str = "RGB", size: tuple[int, int] = (8, 8)) -> Image.Image:
    """Two colours side by side."""
    image = Image.new(mode, size, left)
    image.paste(right, (size[0] // 2, 0, *size))
    return image


RED, BLUE = (255, 0, 0), (0, 0, 255)


def seen(data_: bytes, size: int = 8, **options: Any) -> np.ndarray:
    return stems.Image(size=size, **options).decoded(table(data_))[0][0]


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF"])
def test_every_lossless_format_gives_the_same_pixels(kind: str) -> None:
    found = seen(file(halves(RED, BLUE), kind))
    assert found[0, 0].tolist() == list(RED)
    assert found[7, 7].tolist() == list(BLUE)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_formats_give_nearly_the_same(kind: str) -> None:
    found = seen(file(halves(RED, BLUE, size=(64, 64)), kind)).astype(int)
    assert np.abs(found[4, 0] - RED).max() < 12
    assert np.abs(found[4, 7] - BLUE).max() < 12


def test_a_camera_that_was_held_upright_is_believed() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the picture must be turned clockwise by a quarter
    found = seen(file(halves(RED, BLUE, size=(64, 64)), "JPEG", exif=exif, quality=95)).astype(int)
    assert np.abs(found[0, 4] - RED).max() < 12  # left became top
    assert np.abs(found[7, 4] - BLUE).max() < 12


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_show_the_ground(mode: str) -> None:
    image = halves((255, 255, 255, 0), (0, 0, 0, 255), "RGBA")
    if mode == "P":
        image = image.quantize(4)
    elif mode == "LA":
        image = image.convert("LA")
    found = seen(file(image), ground=(10, 20, 30))
    assert found[0, 0].tolist() == [10, 20, 30]
    assert found[7, 7].tolist() == [0, 0, 0]


def test_a_palette_with_a_transparent_colour() -> None:
    image = halves(RED, BLUE).quantize(2)
    index = int(image.getpixel((0, 0)))
    assert seen(file(image, transparency=index), ground=(1, 2, 3))[0, 0].tolist() == [1, 2, 3]


def test_cmyk_becomes_rgb() -> None:
    found = seen(file(halves((0, 255, 255, 0), (255, 255, 0, 0), "CMYK", (64, 64)), "JPEG", quality=95)).astype(int)
    assert np.abs(found[4, 0] - RED).max() < 12
    assert np.abs(found[4, 7] - BLUE).max() < 12


@pytest.mark.parametrize(("dtype", "kind"), [("uint16", "PNG"), ("uint16", "TIFF"), ("int32", "TIFF"), ("float32", "TIFF")])
def test_deep_pixels_are_stretched(dtype: str, kind: str) -> None:
    ramp = np.linspace(1000, 1400, 64).reshape(8, 8).astype(dtype)  # 12 bits' worth in a 16-bit file: nearly black as it is
    found = seen(file(Image.fromarray(ramp), kind))[..., 0].astype(int)
    assert found[0, 0] < 5
    assert found[7, 7] > 250
    assert (np.diff(found.ravel()) >= 0).all()


def test_deep_pixels_that_are_constant_or_not_numbers() -> None:
    assert seen(file(Image.fromarray(np.full((8, 8), 7, np.uint16)))).max() == 0
    assert seen(file(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF")).max() == 0


def test_black_and_white_and_one_pixel() -> None:
    assert seen(file(halves(0, 1, "1")))[7, 7].tolist() == [255, 255, 255]
    assert seen(file(Image.new("RGB", (1, 1), RED))).reshape(-1, 3).tolist() == [list(RED)] * 64


def test_shapes() -> None:
    wide = file(halves(RED, BLUE, size=(16, 4)))
    padded, cropped, stretched = (seen(wide, shape=shape) for shape in ("pad", "crop", "stretch"))
    assert padded[0, 0].tolist() == [255, 255, 255]
    assert padded[4, 0].tolist() == list(RED)
    assert (cropped[:, 0] == RED).all()
    assert (stretched[:, :3] == RED).all()
    assert seen(file(Image.new("RGB", (5000, 1), RED)), shape="pad").shape == (8, 8, 3)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(side: int) -> bytes:
    """A PNG that says it has side x side pixels."""
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (file(halves(RED, BLUE, size=(64, 64)), "JPEG")[:-200], "r1 is a damaged picture"),
        (file(Image.effect_noise((64, 64), 50))[:900], "r1 is a damaged picture"),
        (b"", "r1 is not a picture"),
        (b"GIF89a", "r1 is (not|a damaged)"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "r1 is not a picture in one of the formats PNG"),
        (bomb(10_000), "r1 has more than 89,478,485 pixels"),
        (bomb(60_000), "r1 has more than 89,478,485 pixels"),
    ],
)
def test_a_bad_picture_is_refused_by_name(source: bytes, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        stems.Image(size=8).decoded(table(file(halves(RED, BLUE)), source))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "says"), [("/nowhere/a.png", "No such file"), ("", "a path or bytes"), (None, "a path or bytes"), ("/", "directory")]
)
def test_a_bad_path_is_refused_by_name(source: str | None, says: str) -> None:
    with pytest.raises(DataError, match=f"Row r0.*{says}"):
        stems.Image(size=8).decoded(table(source))[0]


def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "LARGEST", 10)
    (tmp_path / "a.png").write_bytes(file(halves(RED, BLUE)))
    with pytest.raises(DataError, match=r"Row r0 \(.*a\.png\) is larger than"):
        stems.Image(size=8).decoded(table(str(tmp_path / "a.png")))[0]


def test_an_error_names_the_row_and_the_file() -> None:
    assert [pictures.named("3", source) for source in ("a/b.png", b"x", "", None)] == ["Row 3 (a/b.png)", "Row 3", "Row 3", "Row 3"]
    assert pictures.named("red/b.png", "/home/album/red/b.png") == "Row red/b.png"


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]), st.integers(0, 400), st.binary(min_size=1, max_size=8))
def test_damage_anywhere_is_read_or_refused(kind: str, at: int, noise: bytes) -> None:
    whole = bytearray(file(halves(RED, BLUE, size=(32, 32)), kind))
    whole[at % len(whole) : at % len(whole) + len(noise)] = noise
    with contextlib.suppress(DataError):
        assert seen(bytes(whole)).shape == (8, 8, 3)


def test_paths_bytes_and_the_hubs_mapping_are_one(tmp_path: Path) -> None:
    raw = file(halves(RED, BLUE))
    (tmp_path / "a.png").write_bytes(raw)
    path = str(tmp_path / "a.png")
    stem = stems.Image(size=8)
    found = [stem.decoded(rows)[0] for rows in (
        table(raw), table(path), table(path, column="path"), table({"bytes": raw, "path": None}), table({"bytes": None, "path": path}),
    )]  # fmt: skip
    assert all((one == found[0]).all() for one in found)
    with pytest.raises(DataError, match="no column 'image' with pictures; there are id, text"):
        stem.decoded(table("x", column="text"))[0]


def test_many_pictures_are_kept_in_a_file_and_read_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = table(file(halves(RED, BLUE)), file(halves(BLUE, RED)))
    stem = stems.Image(size=8)
    held = stem.decoded(rows)[0]
    monkeypatch.setattr(room, "IN_MEMORY", 10)
    assert (stem.decoded(rows)[0] == held).all()
    kept = list((home / "cache" / "pictures").glob("*.u8"))
    assert len(kept) == 1
    monkeypatch.setattr(pictures, "decode", None)
    assert (stem.decoded(rows)[0] == held).all()
    kept[0].write_bytes(b"short")
    with pytest.raises(TypeError):  # a file of another size is made again
        stem.decoded(rows)[0]


def test_the_file_of_pictures_stands_under_the_limit_of_all_caches(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longest unused goes first, whatever its kind; one that would never fit lasts as long as it is mapped."""
    monkeypatch.setattr(room, "IN_MEMORY", 10)
    stem, folder = stems.Image(size=8), home / "cache" / "pictures"
    held, keys = {}, []
    for number, colour in enumerate((RED, BLUE, (1, 2, 3))):
        held[number] = stem.decoded(table(file(halves(colour, RED))))[0]
        (key,) = {path.name for path in folder.iterdir()} - set(keys)
        keys.append(key)
        os.utime(folder / key, (1000 + number, 1000 + number))
    states = home / "cache" / "prefix" / ("0" * 32)
    states.mkdir(parents=True)
    (states / "states").write_bytes(b"x" * 200)
    os.utime(states, (1001.5, 1001.5))
    stem.decoded(table(file(halves(RED, RED))))  # the first again: now the youngest
    size = (folder / keys[0]).stat().st_size
    monkeypatch.setenv("FMHUB_CACHE_LIMIT", str(2 * size))
    one = stem.decoded(table(file(halves(BLUE, BLUE))))[0]
    assert sorted(path.name for path in folder.iterdir() if path.name in keys) == [keys[0]] and len(list(folder.iterdir())) == 2
    assert not states.exists() and (held[1][0, 4, 0] == BLUE).all(), "who has it mapped reads on"
    for age, name in ((2 * 86_400, ".a.u8.x1"), (60, ".b.u8.x2")):  # left by a killed writer; being written
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (time.time() - age,) * 2)
    stem.decoded(table(file(halves((4, 5, 6), RED))))
    assert not (folder / ".a.u8.x1").exists() and (folder / ".b.u8.x2").exists()
    (folder / ".b.u8.x2").unlink()
    before = set(folder.iterdir())
    monkeypatch.setenv("FMHUB_CACHE_LIMIT", "100")
    again = stem.decoded(table(file(halves(BLUE, BLUE))))[0]
    assert (again == one).all() and set(folder.iterdir()) == before, "nothing is thrown out for what is not kept"


def test_a_batch_is_normalised_by_the_backbones_own_constants(shaped: Any) -> None:
    backbone = shaped("dinov2")
    stem = stems.Image(size=8)
    rows = table(file(halves(RED, BLUE)), file(halves(BLUE, RED)), file(halves(RED, RED)))
    encoded = stem.encode(rows, backbone, Recipe())
    assert encoded.lengths.tolist() == [4, 4, 4]
    batch = stem.batch(encoded, np.array([1, 0]), random=None, strength=1.0)["pixel_values"]
    assert batch.shape == (2, 3, 8, 8)
    mean, deviation = room.IMAGENET
    np.testing.assert_allclose(
        batch[1, :, 0, 0].numpy(), [(1 - mean[0]) / deviation[0], -mean[1] / deviation[1], -mean[2] / deviation[2]], rtol=1e-5
    )
    (backbone.folder / "preprocessor_config.json").write_text('{"image_mean": [0, 0, 0], "image_std": [0.5, 0.5, 0.5]}')
    batch = stem.batch(stem.encode(rows, backbone, Recipe()), np.array([1]), random=None, strength=0.0)["pixel_values"]
    assert batch[0, :, 0, 0].tolist() == [0, 0, 2]


@pytest.mark.parametrize("kind", ["dinov2", "vit"])
def test_positions_are_interpolated_for_other_sizes(shaped: Any, kind: str) -> None:
    import torch

    from fmhub.backbones.encoder import Encoder
    from fmhub.task import Reads

    backbone = shaped(kind)  # made for 16 pixels
    for size in (8, 16, 24):
        stem = stems.Image(size=size)
        encoded = stem.encode(table(file(halves(RED, BLUE))), backbone, Recipe())
        with torch.inference_mode():
            found = Encoder(backbone)(stem.batch(encoded, np.array([0]), random=None, strength=0.0), Reads("all"))
        assert found.x.shape == (1, 1 + (size // 4) ** 2, 32)


def test_a_size_that_is_no_multiple_of_the_patch(shaped: Any) -> None:
    with pytest.raises(UsageError, match="size 10: it needs a multiple of 4, such as 8"):
        stems.Image(size=10).encode(table(b""), shaped("dinov2"), Recipe())
    with pytest.raises(UsageError, match="it needs a patch size"):
        stems.Image(size=8).encode(table(b""), shaped("bert"), Recipe())


@given(st.integers(0, 2**31), st.sampled_from([0.1, 1.0]), st.booleans(), st.booleans())
@settings(max_examples=20, deadline=None)
def test_augmentation_is_decided_by_its_generator(seed: int, strength: float, move: bool, mirror: bool) -> None:
    import torch

    from fmhub.stems.augment import augment

    pixels = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    first, second = (augment(pixels, np.random.default_rng(seed), strength, move=move, mirror=mirror)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == pixels.shape
    assert first.min() >= 0
    assert first.max() <= 1
    assert not torch.equal(first, pixels)


def test_augmentation_that_may_not_move_keeps_every_pixel_in_place() -> None:
    import torch

    from fmhub.stems.augment import augment

    pixels = torch.full((64, 3, 16, 16), 0.2)
    pixels[:, :, :, 8:] = 0.6
    kept, moved = augment(pixels, np.random.default_rng(0), 1.0, move=False)
    assert torch.equal(moved, torch.eye(2, 3).expand(64, 2, 3))
    assert (kept[:, :, :, :8] == kept[:, :, :1, :1]).all()
    assert (kept[:, :, :, 8:] > kept[:, :, :, :8]).all()
    mirrored = (augment(pixels, np.random.default_rng(0), 1e-9)[0][:, 0, 8, 2] > 0.4).float().mean()
    assert 0.25 < float(mirrored) < 0.75
    assert not (augment(pixels, np.random.default_rng(0), 1e-9, mirror=False)[0][:, 0, 8, 2] > 0.4).any()


def test_the_stem_batches_without_change_where_nothing_is_random(shaped: Any) -> None:
    import torch

    stem = stems.Image(size=8)
    encoded = stem.encode(table(file(halves(RED, BLUE))), shaped("dinov2"), Recipe())
    plain, none, some = (
        stem.batch(encoded, np.array([0]), random=random, strength=strength)["pixel_values"]
        for random, strength in ((None, 1.0), (np.random.default_rng(0), 0.0), (np.random.default_rng(0), 1.0))
    )
    assert torch.equal(plain, none)
    assert not torch.equal(plain, some)


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """album/{blue,red}/0.png ... 19.PNG, each different, and a note that is no picture."""
    for label, colour in (("red", RED), ("blue", BLUE)):
        (tmp_path / "album" / label).mkdir(parents=True)
        for number in range(20):
            image = Image.new("RGB", (8, 8), colour)
            image.putpixel((number % 8, number // 8), (0, 255, 0))
            image.save(tmp_path / "album" / label / f"{number}.{'PNG' if number % 2 else 'png'}")
    (tmp_path / "album" / "red" / "notes.txt").write_text("not a picture")
    return tmp_path / "album"


def opened(folder: Path) -> data.Data:
    stem = stems.Image()
    return data.open(str(folder), fields=stem.fields, suffixes=stem.files)


def test_a_folder_of_pictures_by_label(album: Path) -> None:
    splits = opened(album).load()
    assert sum(len(part) for part in splits.tables.values()) == 40
    assert set(splits.tables["test"]["target"].to_pylist()) == {"red", "blue"}
    assert stems.Image(size=8).decoded(splits.tables["test"])[0].shape[1:] == (8, 8, 3)


def test_copies_of_one_picture_stay_on_one_side(album: Path) -> None:
    for number in range(20):
        for copy in range(3):
            (album / "red" / f"{number}-{copy}.png").write_bytes(
                (album / "red" / f"{number}.{'PNG' if number % 2 else 'png'}").read_bytes()
            )
    splits = opened(album).load()
    hashes = {name: set(part["sha256"].to_pylist()) for name, part in splits.tables.items()}
    assert not hashes["train"] & hashes["test"]
    assert not hashes["train"] & hashes["validation"]
    assert not hashes["validation"] & hashes["test"]


def test_a_link_out_of_the_folder_is_refused(album: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(file(halves(RED, BLUE)))
    (album / "red" / "link.png").symlink_to(secret)
    with pytest.raises(DataError, match=r"link\.png is a link out of"):
        opened(album).load()


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "red").mkdir()
    with pytest.raises(DataError, match=r"has no files \.png \.jpg .* in folders named by label"):
        opened(tmp_path).load()


def test_the_stem_is_light_and_the_backbones_own() -> None:
    code = "import sys; from fmhub import stems; stems.own('image'); print([m for m in ('numpy', 'PIL', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    assert stems.own("", ["config.json", "preprocessor_config.json"]) == stems.Image()
    assert stems.own("", ["tokenizer.json", "preprocessor_config.json"]) == stems.Text()


@pytest.mark.parametrize("shape", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_the_frame_says_where_a_point_went(shaped: Any, shape: Any, strength: float) -> None:
    """A white spot of a black picture is found where the frame of the batch puts it."""
    import torch

    image = Image.new("RGB", (160, 120))
    image.paste((255, 255, 255), (72, 40, 84, 52))
    stem = stems.Image(size=96, shape=shape, ground=(0, 0, 0))
    encoded = stem.encode(table(*[file(image)] * 12), shaped("dinov2"), Recipe())
    batch = stem.batch(encoded, np.arange(12), random=np.random.default_rng(3), strength=strength)
    assert batch["source"].tolist() == [[160, 120]] * 12
    where = batch["frame"] @ torch.tensor([78.0, 46.0, 1.0])
    brightness = batch["pixel_values"].sum(1).clamp(min=0) ** 4
    axis = torch.arange(96) + 0.5
    for row in range(12):
        found = torch.stack([(brightness[row].sum(0) * axis).sum(), (brightness[row].sum(1) * axis).sum()]) / brightness[row].sum()
        if strength == 0 or bool(((where[row] > 12) & (where[row] < 84)).all()):
            assert torch.dist(found, where[row]) < 1.5


def test_the_true_size_is_the_upright_one_even_of_a_large_jpeg(shaped: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    _, sizes = stems.Image(size=8).decoded(
        table(file(Image.new("RGB", (640, 480)), "JPEG", exif=exif), file(Image.new("RGB", (900, 500)), "JPEG"))
    )
    assert sizes.tolist() == [[480, 640], [900, 500]]
