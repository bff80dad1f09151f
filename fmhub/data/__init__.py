"""Data: where rows come from and how they are split, declared as light frozen specs; `load()` reads them.

    data.csv("sms.csv", package=__name__, text="message", label="label", split=data.Random(group="thread"))

Keyword columns map a role to a column of the file: `label` (a class) or `target` (any truth), `id`, `group` (never
crosses a split), `time`, `split`; every other name is a field of the example. Columns not named keep their own names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmhub.artifacts import Artifact, Debian, File, Hub, Local, Npm, Wheel
from fmhub.data.hidden import Hidden
from fmhub.data.histories import Histories
from fmhub.data.rules import Given, KFold, Random, Rule, Temporal
from fmhub.errors import DataError, UsageError, nearest
from fmhub.task import Splits, StemSpec

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Artifact", "Data", "Debian", "File", "Given", "Hidden", "Histories", "Hub", "KFold", "Local", "Npm", "Random", "Required",
    "Rule", "Splits", "Temporal", "Wheel", "csv", "folder", "hf", "jsonl", "open", "parquet", "rows",
]  # fmt: skip

Files = str | Mapping[str, str]
"""One path, or {split: path}."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Rows of some kind and the rule that splits them; made by the functions below."""

    kind: str
    files: tuple[tuple[str, str], ...] = ()
    """(split, path); the split is empty where one file holds all rows."""
    split: Rule | None = None
    """None: the parts that the data declares, else `Random()`."""
    columns: tuple[tuple[str, str], ...] = ()
    """(role, column of the file)."""
    fields: tuple[str, ...] = ()
    """What makes two examples identical; by default the mapped fields, or else all columns without a role."""
    package: str | None = None
    artifact: Artifact | None = None
    """Files that are fetched by hash at first use; paths are then inside its folder."""
    options: tuple[tuple[str, Any], ...] = ()
    paths: tuple[str, ...] = ()
    """Columns that name files, which may lie beside the one that lists them."""
    function: Callable[[], Any] | None = None
    version: str = "1"

    def load(self) -> Splits:
        """Arrow tables by split, with string `id`, the fields, `target`, and where they exist `group` and `time`.

        Raises `DataError` naming the file and the row or column that cannot be used, `FetchError` where a set is not to be had.
        """
        from fmhub.data.build import load

        return load(self)

    def opened(self, reference: str, columns: Mapping[str, str], test: str | None, stem: StemSpec | None) -> Data:
        """The user's own file or folder, whatever this one's kind; see `open`."""
        return _opened(reference, columns, test, stem)


def csv(
    path: Files, package: str | None = None, *, artifact: Artifact | None = None, split: Rule | None = None,
    delimiter: str | None = None, quote: bool = True, **columns: str,
) -> Data:  # fmt: skip
    """Comma-, tab-, semicolon- or bar-separated text with a header line, UTF-8, plain or .gz; `quote=False` takes quotes as text."""
    options = (("delimiter", delimiter), ("quote", quote))
    return _spec("csv", path, package, artifact, split, columns, options)


def jsonl(path: Files, package: str | None = None, *, artifact: Artifact | None = None, split: Rule | None = None, **columns: str) -> Data:
    """One JSON object a line, plain or .gz."""
    return _spec("jsonl", path, package, artifact, split, columns)


def parquet(
    path: Files, package: str | None = None, *, artifact: Artifact | None = None, split: Rule | None = None, **columns: str
) -> Data:
    """Apache Parquet."""
    return _spec("parquet", path, package, artifact, split, columns)


def folder(
    path: Files, package: str | None = None, *, artifact: Artifact | None = None, split: Rule | None = None,
    pattern: str = "*.txt", field: str = "text", binary: bool = False,
) -> Data:  # fmt: skip
    """`path/LABEL/*.txt` or `path/{train,test}/LABEL/*.txt`: the file's text in `field`, the folder's name as label.

    With `binary` a file is not read but named: columns `path` and `sha256`.
    """
    options = (("pattern", pattern), ("field", field), ("binary", binary))
    return _spec("folder", path, package, artifact, split, {}, options)


def hf(name: str, config: str | None = None, *, split: Rule | None = None, revision: str | None = None, **columns: str) -> Data:
    """A set of the Hugging Face hub, or a local folder in its layout (which opens no socket); classes become their names."""
    return _spec("hf", name, None, None, split, columns, (("config", config), ("revision", revision)))


def rows(
    function: Callable[[], pa.Table | Mapping[str, pa.Table]], *, split: Rule | None = None, version: str = "1",
    fields: tuple[str, ...] = (), **columns: str,
) -> Data:  # fmt: skip
    """What `function()` returns: one Arrow table, or {split: table}. Raise `version` when its rows change."""
    return Data(kind="rows", function=function, version=version, split=split, fields=tuple(fields), columns=tuple(columns.items()))


def open(
    reference: str, columns: Mapping[str, str] | None = None, test: str | None = None, *, fields: tuple[str, ...] = (),
    suffixes: tuple[str, ...] = (),
) -> Data:  # fmt: skip
    """The user's own data, by suffix: .csv .tsv .jsonl .parquet (and .gz), a folder, or `hf:NAME[:CONFIG]`.

    `test` is a second file held out; `fields` are what the task's stem reads, and `suffixes` those of the files that are
    its examples, where a file is one (else a folder holds texts).
    """
    columns = dict(columns or {})
    if reference.startswith("hf:"):
        if test:
            raise UsageError("--test goes with a file or folder; a set of the hub brings its own test part.")
        name, _, config = reference.removeprefix("hf:").partition(":")
        return Data(kind="hf", files=(("", name),), columns=tuple(columns.items()), fields=fields, options=(("config", config or None),))
    files = (("train", reference), ("test", test)) if test else (("", reference),)
    kinds = {_kind(path) for _, path in files}
    if len(kinds) > 1:
        raise UsageError(f"--data {reference} and --test {test} are of different kinds.")
    kind = kinds.pop()
    options = (("binary", True), ("pattern", "*"), ("suffixes", suffixes)) if kind == "folder" and suffixes else ()
    paths = tuple(columns.get(field, field) for field in fields) if suffixes else ()
    return Data(kind=kind, files=files, columns=tuple(columns.items()), fields=fields, options=options, paths=paths)


@dataclass(frozen=True)
class Required:
    """Stands where a task has no data of its own."""

    what: str = "FILE.csv|.tsv|.jsonl|.parquet|FOLDER|hf:NAME"

    def opened(self, reference: str, columns: Mapping[str, str], test: str | None, stem: StemSpec | None) -> Data:
        """The user's own file or folder; see `open`."""
        return _opened(reference, columns, test, stem)

    def load(self) -> Splits:
        """Always a `UsageError`."""
        raise UsageError(f"This task has no data of its own: give it with --data {self.what}, and name its columns with --columns.")


def _opened(reference: str, columns: Mapping[str, str], test: str | None, stem: StemSpec | None) -> Data:
    roles = {"target" if role == "label" else role: column for role, column in columns.items()}
    return open(reference, roles, test, fields=getattr(stem, "fields", ()), suffixes=getattr(stem, "files", ()))


_SUFFIXES = {
    ".csv": "csv", ".tsv": "csv", ".tab": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet",
    ".pq": "parquet",
}  # fmt: skip


def _kind(name: str) -> str:
    path = Path(name).expanduser()
    if path.is_dir():
        return "folder"
    if not path.exists():
        known = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"There is no file or folder {name}.{nearest(path.name, known)}")
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if suffix not in _SUFFIXES:
        raise UsageError(f"--data {name}: the suffix says no kind. Known: {', '.join(_SUFFIXES)}, with or without .gz, a folder, hf:NAME.")
    return _SUFFIXES[suffix]


def _spec(
    kind: str, path: Files, package: str | None, artifact: Artifact | None, split: Rule | None,
    columns: Mapping[str, str], options: tuple[tuple[str, Any], ...] = (),
) -> Data:  # fmt: skip
    files = (("", path),) if isinstance(path, str) else tuple(path.items())
    return Data(
        kind=kind, files=files, split=split, columns=tuple(columns.items()), package=package, artifact=artifact, options=options
    )  # fmt: skip
