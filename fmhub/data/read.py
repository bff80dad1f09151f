"""Read files into raw Arrow tables, one a split (or one under an empty name), with errors that name file and line."""

from __future__ import annotations

import contextlib
import gzip
import importlib.resources
import json
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from fmhub import artifacts
from fmhub.data.tables import ALIASES, TEXT_ROLES
from fmhub.errors import DataError, FetchError, nearest
from fmhub.home import offline

if TYPE_CHECKING:
    from fmhub.data import Data

LARGEST = 1 << 31
"""Bytes of the largest text file that is read (2 GiB, Arrow's limit for one block)."""


def read(spec: Data) -> dict[str, pa.Table]:
    """The raw tables of `spec`, by split."""
    if spec.kind == "rows":
        return _rows(spec)
    if spec.kind == "hf":
        return hf(spec.files[0][1], **dict(spec.options))
    readers: dict[str, Callable[..., Any]] = {"csv": csv, "jsonl": jsonl, "parquet": parquet, "folder": folder}
    options = dict(spec.options)
    if spec.kind == "csv":
        options["columns"] = dict(spec.columns)
    tables: dict[str, pa.Table] = {}
    for split, name in spec.files:
        with _located(spec, name) as path:
            if not path.exists():
                near = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
                raise DataError(f"There is no file or folder {name}.{nearest(path.name, near)}")
            try:
                found = readers[spec.kind](path, **options)
                if isinstance(found, pa.Table):
                    found = beside(found, path.absolute().parent, spec.paths)
            except OSError as error:
                raise DataError(f"{name} cannot be read: {error.strerror or error}.") from None
        if split and isinstance(found, dict):
            raise DataError(f"{name} holds splits of its own; it cannot be the {split} part.")
        tables.update(found if isinstance(found, dict) else {split: found})
    return tables


@contextlib.contextmanager
def _located(spec: Data, name: str) -> Iterator[Path]:
    if spec.artifact is not None:
        yield artifacts.fetch(spec.artifact) / name
    elif spec.package is None:
        yield Path(name).expanduser()
    else:
        try:
            resource = importlib.resources.files(spec.package).joinpath(name)
        except (ImportError, TypeError) as error:
            raise DataError(f"{name}: package {spec.package!r} has no data files ({error}).") from None
        with importlib.resources.as_file(resource) as path:
            yield path


def beside(table: pa.Table, folder: Path, columns: tuple[str, ...]) -> pa.Table:
    """`table` with the names in `columns` of files that lie in `folder` as whole paths; other names stay as they are."""
    for name in columns:
        kind = table.schema.field(name).type if name in table.column_names else pa.null()
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            found = [str(folder / value) if value and _is_file(folder / value) else value for value in table[name].to_pylist()]
            table = table.set_column(table.column_names.index(name), name, pa.array(found, pa.string()))
    return table


def _is_file(path: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):  # a name may be too long, or no name at all
        return path.is_file()
    return False


def _rows(spec: Data) -> dict[str, pa.Table]:
    assert spec.function is not None
    found = spec.function()
    tables = {"": found} if isinstance(found, pa.Table) else found
    if not isinstance(tables, dict) or not all(isinstance(name, str) and isinstance(table, pa.Table) for name, table in tables.items()):
        name = getattr(spec.function, "__name__", "function")
        raise DataError(f"{name}() returned {type(found).__name__}: it must return a pyarrow Table, or a dict of split to Table.")
    return tables


def content(path: Path) -> bytes:
    """The bytes of a file, gunzipped if its name ends in .gz, without a byte-order mark, as UTF-8; never more than `LARGEST`."""
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
            data = file.read(LARGEST)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path.name} is a damaged .gz file ({error}).") from None
    if len(data) == LARGEST:
        raise DataError(f"{path.name} is larger than {LARGEST >> 30} GiB: save it as parquet.")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        data = _decoded(data, "utf-16", path).encode()
    data = data.removeprefix(b"\xef\xbb\xbf")
    _decoded(data, "utf-8", path)
    if not data.strip():
        raise DataError(f"{path.name} is empty.")
    return data


def _decoded(data: bytes, encoding: str, path: Path) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path.name}: line {line} is not {encoding.upper()} (byte {data[error.start]:#04x}). Save the file as UTF-8."
        ) from None


def csv(path: Path, *, columns: dict[str, str], delimiter: str | None = None, quote: bool = True) -> pa.Table:
    """Text with a header line. Ids, groups and splits stay text; so do dates and booleans outside `time`."""
    data = content(path)
    header = data.split(b"\n", 1)[0].decode()
    delimiter = delimiter or max("\t,;|", key=lambda mark: (header.count(mark), mark == ","))
    roles = {role: columns.get(role, role) for role in (*TEXT_ROLES, "time")}
    text = {roles[role]: pa.string() for role in TEXT_ROLES}
    for _ in range(2):
        table = _arrow_csv(path, data, delimiter, quote, text)
        unwanted = [
            name for name, kind in zip(table.column_names, table.schema.types, strict=True)
            if (pa.types.is_boolean(kind) or pa.types.is_null(kind) or (pa.types.is_temporal(kind) and name != roles["time"]))
        ]  # fmt: skip
        if not unwanted:
            break
        text.update(dict.fromkeys(unwanted, pa.string()))
    return table.rename_columns([name.strip() for name in table.column_names])


def _arrow_csv(path: Path, data: bytes, delimiter: str, quote: bool, text: dict[str, pa.DataType]) -> pa.Table:
    try:
        return pyarrow.csv.read_csv(
            pa.BufferReader(data),
            # One block: types are inferred from the whole file, and a row may be of any length.
            pyarrow.csv.ReadOptions(use_threads=False, block_size=len(data) + 1),
            pyarrow.csv.ParseOptions(delimiter=delimiter, quote_char='"' if quote else False, newlines_in_values=quote),
            pyarrow.csv.ConvertOptions(column_types=text),
        )
    except pa.ArrowInvalid as error:
        raise DataError(f"{path.name}: {str(error).splitlines()[0].removeprefix('CSV parse error: ')[:200]}") from None


def jsonl(path: Path) -> pa.Table:
    """One object a line, or one array of objects."""
    data = content(path)
    try:
        if data.lstrip().startswith(b"["):
            return pa.Table.from_pylist(json.loads(data))
        return pyarrow.json.read_json(pa.BufferReader(data), pyarrow.json.ReadOptions(use_threads=False, block_size=len(data) + 1))
    except (pa.ArrowException, ValueError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path.name}: not one JSON object a line ({str(error).splitlines()[0].removeprefix('JSON parse error: ')[:150]})."
        ) from None


def parquet(path: Path) -> pa.Table:
    """A parquet file, without what pandas adds to its schema."""
    try:
        return pyarrow.parquet.read_table(path, partitioning=None).replace_schema_metadata(None)
    except pa.ArrowException as error:
        raise DataError(f"{path.name} is not a parquet file ({str(error).splitlines()[0][:150]}).") from None


def folder(
    path: Path, *, pattern: str = "*.txt", field: str = "text", binary: bool = False, suffixes: tuple[str, ...] = ()
) -> dict[str, pa.Table] | pa.Table:
    """LABEL/files, or SPLIT/LABEL/files, in the order of their names; `suffixes`, in lower case, say which."""
    if not path.is_dir():
        raise DataError(f"{path} is not a folder.")
    below = _folders(path)
    known = {"train", "validation", "test", *ALIASES}
    if below and all(name in known or name.startswith("shift-") for name in below):
        return {name.replace("shift-", "shift:"): _labelled(below[name], path, pattern, field, binary, suffixes) for name in below}
    return _labelled(path, path, pattern, field, binary, suffixes)


def _folders(path: Path) -> dict[str, Path]:
    return {entry.name: entry for entry in sorted(path.iterdir()) if entry.is_dir() and not entry.name.startswith(".")}


def _labelled(path: Path, root: Path, pattern: str, field: str, binary: bool, suffixes: tuple[str, ...]) -> pa.Table:
    found = [(label, file) for label, below in _folders(path).items() for file in sorted(below.rglob(pattern)) if file.is_file()]
    if suffixes:
        found = [(label, file) for label, file in found if file.suffix.lower() in suffixes]
    if not found:
        raise DataError(f"{path} has no files {' '.join(suffixes) or pattern} in folders named by label.")
    if outside := [file for _, file in found if not file.resolve().is_relative_to(root.resolve())]:
        raise DataError(f"{outside[0]} is a link out of {root}: copy the file, or leave the link out.")
    names = pa.array([file.relative_to(root).as_posix() for _, file in found])
    target = pa.array([label for label, _ in found])
    if binary:
        hashes = pa.array([artifacts.sha256(file) for _, file in found])
        return pa.table({"id": names, "path": pa.array([str(file.absolute()) for _, file in found]), "sha256": hashes, "target": target})
    texts = [content(file).decode() if file.stat().st_size else "" for _, file in found]
    return pa.table({"id": names, field: pa.array(texts), "target": target})


def hf(name: str, config: str | None = None, revision: str | None = None) -> dict[str, pa.Table]:
    """A set through the `datasets` library; classes become their names. Offline only a local folder is opened."""
    local = Path(name).expanduser().is_dir()
    if not local and (name.startswith((".", "/", "~"))):
        raise DataError(f"There is no folder {name}.")
    if offline():
        if not local:
            raise FetchError(f"hf:{name} needs the hub and FMHUB_OFFLINE or HF_HUB_OFFLINE is set. Run without it, or give a local folder.")
        os.environ["HF_HUB_OFFLINE"] = "1"  # read by the library when it is imported
    import datasets

    try:
        found = datasets.load_dataset(str(Path(name).expanduser()) if local else name, config, revision=revision)
    except Exception as error:  # the library raises its own, the hub's, the client's and plain ones
        lines = str(error).splitlines() or [type(error).__name__]
        raise (DataError if local else FetchError)(f"hf:{name}: {lines[0][:200]}") from None
    return {split: _named(part) for split, part in found.items()}


def _named(part: Any) -> pa.Table:
    """The rows of one part as Arrow, with class numbers replaced by their names."""
    table = part.with_format("arrow")[:].replace_schema_metadata(None)
    for column, feature in part.features.items():
        if names := getattr(feature, "names", None):
            values = [None if value is None or value < 0 else names[value] for value in table[column].to_pylist()]
            table = table.set_column(table.column_names.index(column), column, pa.array(values, pa.string()))
    return table
