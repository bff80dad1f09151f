"""Read members of an archive in memory: names validated, sizes bounded, links never followed, nothing extracted."""

from __future__ import annotations

import contextlib
import io
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from fmhub.errors import UntrustedFile

DAMAGED = (
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
"""What reading a damaged archive can raise."""


def valid_member(name: str) -> bool:
    """Whether `name` is a plain relative path: no `..`, no absolute part, no backslash, nothing unprintable."""
    parts = name.split("/")
    return bool(name) and name.isprintable() and not re.search(r"[\\:]", name) and all(part not in ("", ".", "..") for part in parts)


def members(
    archive: Path, prefix: str = "", suffix: str = "", *, largest: int = 1 << 26, total: int = 1 << 32
) -> Iterator[tuple[str, bytes]]:
    """(name, content) of every regular file of `archive` with that prefix and suffix, in the archive's order.

    Zip, wheel, tar (gz, xz, bz2) and deb. `UntrustedFile` for an unsafe name, a file over `largest` or a sum over
    `total` bytes, or a damaged archive.
    """
    read = 0
    with reading(archive):
        for name, stream in walk(archive, lambda name: name.startswith(prefix) and name.endswith(suffix)):
            if not valid_member(name):
                raise UntrustedFile(f"{archive.name} has a member with the unsafe name {name!r}.")
            content = stream.read(largest + 1)
            read += len(content)
            if len(content) > largest or read > total:
                raise UntrustedFile(f"{archive.name}: {name} is larger than allowed.")
            yield name, content


@contextlib.contextmanager
def reading(archive: Path) -> Iterator[None]:
    """Turn what a damaged archive raises into one `UntrustedFile`."""
    try:
        yield
    except DAMAGED as error:
        raise UntrustedFile(f"{archive.name} is damaged: {error}.") from None


def walk(archive: Path, want: Callable[[str], bool]) -> Iterator[tuple[str, IO[bytes]]]:
    """(name, stream) of the regular files that are wanted; a stream is good until the next one is asked for."""
    with archive.open("rb") as file:
        magic = file.read(8)
        file.seek(0)
        if magic == b"!<arch>\n":
            with _data_of_deb(file) as data:
                yield from _walk_tar(data, "r|", want)
        elif magic.startswith(b"PK"):
            yield from _walk_zip(file, want)
        else:
            yield from _walk_tar(file, "r|*", want)


def _walk_zip(file: IO[bytes], want: Callable[[str], bool]) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            regular = (info.external_attr >> 28) in (0, 8)  # the upper half holds Unix's file type; 8 is a regular file
            if not info.is_dir() and regular and want(info.filename):
                with archive.open(info) as stream:
                    yield info.filename, stream


def _walk_tar(file: Any, mode: Any, want: Callable[[str], bool]) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for info in archive:
            name = info.name.removeprefix("./")
            if info.isreg() and want(name) and (stream := archive.extractfile(info)):
                yield name, stream


@contextlib.contextmanager
def _data_of_deb(file: IO[bytes]) -> Iterator[Any]:
    """The uncompressed stream of a .deb's data.tar.{xz,zst,gz}; a .deb is an ar archive with 60-byte headers."""
    file.seek(8)
    while header := file.read(60):
        name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
        if name.startswith("data.tar"):
            packed = io.BytesIO(file.read(size))
            kind = {"": None, ".gz": "gzip", ".zst": "zstd", ".xz": "xz", ".bz2": "bz2"}[name.removeprefix("data.tar")]
            if kind == "xz":
                with lzma.open(packed) as stream:
                    yield stream
            else:
                import pyarrow as pa  # the standard library of Python 3.11 cannot read zstd

                yield pa.CompressedInputStream(packed, kind) if kind else packed
            return
        file.seek(size + size % 2, io.SEEK_CUR)
    raise ValueError("no data.tar in it")
