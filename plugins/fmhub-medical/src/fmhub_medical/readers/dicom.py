"""DICOM, by pydicom: one file, or a folder that holds the slices of one series."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from fmhub.errors import DataError
from fmhub_medical.readers.scan import Scan, bounded, checked, upright

LARGEST = 1 << 29
"""Bytes of the largest file that is opened, and of what a deflated one may unpack into."""
DEFLATED = "1.2.840.10008.1.2.1.99"
NO_CODEC = ("plugins are missing", "missing dependencies", "not supported", "does not support")
"""What pydicom says where nothing can decode a compression."""
FILES = 4096
UNEVEN = 0.1
"""Share of the usual distance by which two neighbouring slices may lie closer or farther apart."""


def read(path: Path, name: str) -> Scan:
    """Raises `DataError`."""
    if path.is_dir():
        return _series(path, name)
    data = _dataset(path, name)
    voxels, inverted = _pixels(data, name)
    window, kind = _window(data), str(data.get("Modality", ""))
    directions = _directions(data, len(voxels))
    if directions is None:
        return checked(Scan(voxels, _spacing(data, len(voxels)), window, kind, inverted), name)
    turned, spacing = upright(voxels, directions)
    return checked(Scan(turned, spacing, window, kind, inverted), name)


def elements(path: Path, name: str, wanted: Sequence[str]) -> Any:
    """These elements of a file, and none of its pixels. Raises `DataError`."""
    return _dataset(path, name, stop_before_pixels=True, specific_tags=list(wanted))


def _dataset(path: Path, name: str, **options: Any) -> Any:
    """The file's elements; nothing of the pixels is decoded."""
    import pydicom

    try:
        content = path.read_bytes() if path.stat().st_size <= LARGEST else None
        if content is None:
            raise DataError(f"{name} is larger than {LARGEST >> 20} MiB.")
        _no_bomb(content, name)
        data = pydicom.dcmread(BytesIO(content), **options)
        len(data)
        return data
    except DataError:
        raise
    except pydicom.errors.InvalidDicomError:
        raise DataError(f"{name} is no DICOM file.") from None
    except Exception as error:  # a damaged file makes pydicom raise nearly anything
        raise DataError(f"{name} is a damaged DICOM file ({' '.join(str(error).split())[:100] or type(error).__name__}).") from None


def _no_bomb(content: bytes, name: str) -> None:
    """A deflated file is unpacked by pydicom whatever its size: here it is counted first, from where pydicom begins."""
    from pydicom.filereader import read_dataset

    if content[128:132] != b"DICM" or DEFLATED.encode() not in content:
        return
    file = BytesIO(content)
    file.seek(132)
    meta = read_dataset(file, False, True, stop_when=lambda tag, *_: tag.group != 2)  # a length that the file gives may lie
    if meta.get("TransferSyntaxUID") != DEFLATED:
        return
    packed = content[file.tell() :]
    if packed.startswith(b"\0\0"):  # group 0, which pydicom would step over
        raise DataError(f"{name} is a damaged DICOM file (a command where its data begin).")
    if len(zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, LARGEST + 1)) > LARGEST:
        raise DataError(f"{name} unpacks into more than {LARGEST >> 20} MiB and was not opened.")


def _pixels(data: Any, name: str) -> tuple[np.ndarray, bool]:
    """(frames, rows, columns) float32 after rescale slope and intercept, colours as grey, and whether low values are white."""
    from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array

    if "PixelData" not in data and "FloatPixelData" not in data and "DoubleFloatPixelData" not in data:
        raise DataError(f"{name} is DICOM without pixel data ({data.get('Modality', 'no modality')}): it holds no picture.")
    try:
        frames = int(data.get("NumberOfFrames", 1) or 1)
        shape = [frames, int(data.Rows), int(data.Columns)]
        bounded(shape, name)
        stored = len(data.get("PixelData", b""))
        expected = int(np.prod(shape)) * int(data.get("SamplesPerPixel", 1)) * int(data.get("BitsAllocated", 16)) // 8
        if stored > 2 * expected + (1 << 20):
            raise DataError(f"{name} holds {stored:,} bytes of pixels where {expected:,} belong.")
        found = pixel_array(data)
        palette = str(data.get("PhotometricInterpretation", "")) == "PALETTE COLOR"
        found = apply_color_lut(found, data)[..., :3] if palette else apply_modality_lut(found, data)
        voxels = np.asarray(found, dtype=np.float32)
    except DataError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())
        if isinstance(error, NotImplementedError) or any(words in said for words in NO_CODEC):
            syntax = getattr(getattr(data, "file_meta", None), "TransferSyntaxUID", "unknown")
            raise DataError(f"{name} is compressed as {getattr(syntax, 'name', syntax)}, and its codec is not installed.") from None
        raise DataError(f"{name} has damaged pixel data ({said[:100] or type(error).__name__}).") from None
    if voxels.size == 3 * int(np.prod(shape)):  # colours
        voxels = voxels @ np.array([0.299, 0.587, 0.114], np.float32)
    return voxels.reshape(shape), str(data.get("PhotometricInterpretation", "")) == "MONOCHROME1"


def _window(data: Any) -> tuple[float, float] | None:
    """Black and white of the first window that the file asks for (centre and width as PS3.3 C.11.2.1.2 counts them)."""
    try:
        centre, width = (np.atleast_1d(np.asarray(data[key].value, dtype=np.float64))[0] for key in ("WindowCenter", "WindowWidth"))
    except (KeyError, TypeError, ValueError, IndexError):
        return None
    if not (np.isfinite(centre) and np.isfinite(width) and width >= 1):
        return None
    half = max(float(width) - 1, 1e-3) / 2
    return float(centre) - 0.5 - half, float(centre) - 0.5 + half


def _numbers(data: Any, key: str, count: int) -> np.ndarray | None:
    """That many finite numbers of an element, or None."""
    try:
        found = np.asarray(data[key].value, dtype=np.float64)
    except (KeyError, TypeError, ValueError):
        return None
    return found if found.shape == (count,) and np.isfinite(found).all() else None


def _spacing(data: Any, frames: int) -> tuple[float, float, float] | None:
    """Millimetres between frames, rows and columns."""
    inner = _numbers(data, "PixelSpacing", 2)
    inner = _numbers(data, "ImagerPixelSpacing", 2) if inner is None else inner
    between = data.get("SpacingBetweenSlices") or data.get("SliceThickness") or (1.0 if frames == 1 else None)
    if inner is None or between is None:
        return None
    return float(between), float(inner[0]), float(inner[1])


def _directions(data: Any, frames: int) -> np.ndarray | None:
    """(3, 3) millimetres to left, back and head along frames, rows and columns; None where the file does not say."""
    spacing, turn = _spacing(data, frames), _numbers(data, "ImageOrientationPatient", 6)
    if spacing is None or turn is None:
        return None
    across, down = turn[:3], turn[3:]
    if not np.allclose([across @ across, down @ down, across @ down], [1, 1, 0], atol=0.01):
        return None
    return np.stack([np.cross(across, down) * spacing[0], down * spacing[1], across * spacing[2]])


def _series(folder: Path, name: str) -> Scan:
    """The slices of a folder, in the order in which they lie in the patient."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.is_symlink()]
    if len(files) > FILES:
        raise DataError(f"{name} has {len(files):,} files; at most {FILES:,} slices are read.")
    found = [(path, _dataset(path, f"{name}/{path.name}")) for path in files if path.read_bytes()[:132][128:] == b"DICM"]
    found = [(path, data) for path, data in found if "PixelData" in data]
    if not found:
        raise DataError(f"{name} holds no DICOM slice with pixel data.")
    if len(found) == 1:
        return read(found[0][0], name)
    if len(kinds := {(str(data.get("SeriesInstanceUID", "")), data.Rows, data.Columns) for _, data in found}) > 1:
        raise DataError(f"{name} holds {len(kinds)} series (or sizes) of slices: put each into a folder of its own.")
    directions = _directions(found[0][1], 1)
    places = [_numbers(data, "ImagePositionPatient", 3) for _, data in found]
    if directions is None or any(place is None for place in places):
        raise DataError(f"{name} does not say where its slices lie (spacing, orientation, position): a volume cannot be used without.")
    normal = directions[0] / np.linalg.norm(directions[0])
    along = np.array([float(place @ normal) for place in places if place is not None])
    order = np.argsort(along, kind="stable")
    steps = np.diff(along[order])
    usual = float(np.median(steps))
    if usual <= 0 or np.abs(steps - usual).max() > UNEVEN * usual:
        raise DataError(f"{name} lacks slices or has some twice: they lie {steps.min():.3g} to {steps.max():.3g} mm apart.")
    bounded([len(found), int(found[0][1].Rows), int(found[0][1].Columns)], name)
    slices = [_pixels(found[place][1], f"{name}/{found[place][0].name}") for place in order]
    directions[0] = normal * usual
    turned, spacing = upright(np.concatenate([voxels for voxels, _ in slices]), directions)
    first = found[0][1]
    return checked(Scan(turned, spacing, _window(first), str(first.get("Modality", "")), slices[0][1]), name)
