"""One picture from a file or bytes to RGB pixels: rotated as its camera says, on a plain ground, never trusted.

Only Pillow's own decoders of seven formats are asked; a picture of more pixels than Pillow holds for safe (89 million)
is refused before it is decoded.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fmhub.errors import DataError, FmhubError
from fmhub.stems import files

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
LARGEST = 1 << 28
"""Bytes of the largest file that is opened."""
Shape = Literal["crop", "pad", "stretch"]
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, struct.error, zlib.error)
"""What a damaged picture makes Pillow raise."""


def decode(
    sources: Sequence[Any], names: Sequence[str], size: int, shape: Shape, ground: Sequence[int], out: np.ndarray, sizes: np.ndarray
) -> None:
    """Write every picture into `out` (n, size, size, 3) uint8 and its width and height before into `sizes` (n, 2).

    Several are decoded at a time. Raises `DataError` naming the first bad one.
    """
    import os
    from concurrent.futures import ThreadPoolExecutor

    def one(row: int) -> None:
        image, sizes[row] = read(sources[row], names[row], size, ground)
        out[row] = np.asarray(resized(image, size, shape, ground))

    with _careful(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for _ in pool.map(one, range(len(sources))):
            pass


@contextmanager
def _careful() -> Iterator[None]:
    """Pillow's warnings of odd metadata are nobody's concern; the one of a decompression bomb is an error."""
    try:
        from PIL import Image
    except ImportError:
        raise FmhubError("Reading pictures needs Pillow: pip install 'fmhub[image]'.") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def named(row: str, source: Any) -> str:
    """What an error calls a picture: its row, and its path where the row's id does not say it."""
    return f"Row {row} ({source[-200:]})" if isinstance(source, str) and source and not source.endswith(row) else f"Row {row}"


def content(source: Any, name: str) -> bytes:
    """The bytes of a picture; see `fmhub.stems.files`. Raises `DataError`."""
    return files.content(source, name, "picture", LARGEST)


def read(source: Any, name: str, size: int = 0, ground: Sequence[int] = (255, 255, 255)) -> tuple[Image, tuple[int, int]]:
    """An RGB picture, upright, and its true width and height.

    `size` is the shorter side that will be needed, so that a large JPEG is decoded no larger than twice that.
    Depths above 8 bits are stretched from their 0.1 to their 99.9 percentile; transparent parts show `ground`.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(content(source, name)), formats=FORMATS)
        width, height = image.size
        if size and image.format == "JPEG":
            image.draft(image.mode, (2 * size, 2 * size))
        image.load()
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        return _rgb(ImageOps.exif_transpose(image), ground), (height, width) if turned else (width, height)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"{name} has more than {Image.MAX_IMAGE_PIXELS:,} pixels and was not opened: make it smaller.") from None
    except UnidentifiedImageError:
        raise DataError(f"{name} is not a picture in one of the formats {', '.join(FORMATS)}.") from None
    except MemoryError:
        raise DataError(f"{name} does not fit into memory.") from None
    except _BROKEN as error:
        raise DataError(f"{name} is a damaged picture ({str(error)[:100] or type(error).__name__}).") from None


def whole(source: Any, name: str) -> Image:
    """The RGB picture of one source. Raises `DataError`."""
    with _careful():
        return read(source, name)[0]


def size(source: Any, name: str) -> tuple[int, int]:
    """Width and height of a picture, upright, from its first bytes: nothing is decoded. Raises `DataError`."""
    from PIL import Image

    with _careful():
        try:
            image = Image.open(io.BytesIO(content(source, name)), formats=FORMATS)
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise DataError(f"{name} has more than {Image.MAX_IMAGE_PIXELS:,} pixels and was not opened: make it smaller.") from None
        except _BROKEN as error:
            raise DataError(f"{name} is not a picture ({str(error)[:100] or type(error).__name__}).") from None
        return image.size[::-1] if turned else image.size


def small(source: Any, most: int) -> bytes:
    """A PNG of the picture, its longer side at most `most` pixels. Raises `DataError`."""
    image, out = whole(source, "The picture"), io.BytesIO()
    image.thumbnail((most, most))
    image.save(out, "PNG")
    return out.getvalue()


def _rgb(image: Image, ground: Sequence[int]) -> Image:
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        low, high = np.percentile(values, (0.1, 99.9)) if values.size > 1 else (0.0, 0.0)
        image = Image.fromarray((255 * np.clip((values - low) / max(high - low, 1e-12), 0, 1)).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        plain = Image.new("RGBA", image.size, (*ground, 255))
        image = Image.alpha_composite(plain, image)
    return image.convert("RGB")


def resized(image: Image, size: int, shape: Shape, ground: Sequence[int]) -> Image:
    """`size` x `size` pixels: the middle square (`crop`), the whole on `ground` (`pad`), or the whole out of proportion (`stretch`)."""
    from PIL import Image

    width, height = image.size
    if shape == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side), reducing_gap=3.0)
    if shape == "stretch" or width == height:
        return image.resize((size, size), Image.Resampling.BICUBIC, reducing_gap=3.0)
    scale = size / max(width, height)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = Image.new("RGB", (size, size), tuple(ground))
    canvas.paste(image.resize(inner, Image.Resampling.BICUBIC, reducing_gap=3.0), ((size - inner[0]) // 2, (size - inner[1]) // 2))
    return canvas


def places(length: int, tile: int, overlap: float) -> list[int]:
    """Where tiles begin along a side: evenly spread, the first at 0, the last at the end, sharing at least `overlap` of a tile."""
    if length <= tile:
        return [0]
    count = -(-(length - tile) // max(1, round(tile * (1 - overlap))))
    return [round(place * (length - tile) / count) for place in range(count + 1)]


def windows(width: int, height: int, tile: int, overlap: float) -> list[tuple[int, int, int, int]]:
    """Left, top, right and bottom of the tiles of a picture, row by row."""
    corners = ((left, top) for top in places(height, tile, overlap) for left in places(width, tile, overlap))
    return [(left, top, min(left + tile, width), min(top + tile, height)) for left, top in corners]


def raw(pixels: np.ndarray) -> bytes:
    """Grey (height, width) or RGB (height, width, 3) uint8 as a file that is the same bytes wherever it is made: PGM or PPM."""
    kind = b"P5" if pixels.ndim == 2 else b"P6"
    return kind + f"\n{pixels.shape[1]} {pixels.shape[0]}\n255\n".encode() + pixels.tobytes()


def frames(sizes: np.ndarray, size: int, shape: Shape) -> np.ndarray:
    """(n, 2, 3) float32: where `resized` puts a point of the true picture, as an affine map of (x, y, 1) in pixels."""
    wide, high = sizes[:, 0].astype(np.float64), sizes[:, 1].astype(np.float64)
    if shape == "stretch":
        across, down = size / wide, size / high
    else:
        across = down = size / (np.minimum(wide, high) if shape == "crop" else np.maximum(wide, high))
    zero = np.zeros(len(sizes))
    left, top = (size - wide * across) / 2, (size - high * down) / 2
    return np.stack([across, zero, left, zero, down, top], axis=1).reshape(-1, 2, 3).astype(np.float32)
