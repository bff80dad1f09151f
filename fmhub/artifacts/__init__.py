"""Files by hash, from any of several sources: checked before use, written atomically, fetched once.

An artifact is a list of files with their sha256 and a list of sources in the order of trial. What a source delivers
counts only if its hash is right; a source that lies is named, and the next one is asked.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from fmhub.artifacts.archives import DAMAGED, members, valid_member, walk
from fmhub.artifacts.sources import Debian, Hub, Local, NoAnswer, Npm, Source, Wheel
from fmhub.errors import FetchError, FmhubError, UntrustedFile, UsageError
from fmhub.home import atomic, home, make_folder, offline, valid_name

__all__ = ["Artifact", "Debian", "File", "Hub", "Local", "Npm", "Wheel", "check", "derive", "fetch", "folder", "kept", "members", "sha256"]

LARGEST = 1 << 35
"""Bytes of the largest file whose size a card does not give (32 GiB)."""
LARGE = 5_000_000
"""Bytes from which a fetch is announced even where nobody has set logging up."""
log = logging.getLogger("fmhub.artifacts")
_checked: dict[Path, tuple[int, int, str]] = {}


@dataclass(frozen=True)
class File:
    """One file: its name under the artifact's folder, its sha256, and its size where known.

    `member` is its path inside a source where that is not the source's `path` + `name`; `*` takes the archive itself.
    """

    name: str
    sha256: str
    bytes: int | None = None
    member: str | None = None

    def __post_init__(self) -> None:
        if not valid_member(self.name) or self.name.startswith("."):
            raise UsageError(f"File name {self.name!r} is not allowed: use a plain relative path.")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise UsageError(f"File {self.name}: sha256 must be 64 hexadecimal digits in lower case.")


@dataclass(frozen=True)
class Artifact:
    """Files that belong together, and where to get them."""

    name: str
    files: tuple[File, ...]
    sources: tuple[Source, ...]
    kind: Literal["backbones", "data"] = "data"

    def __post_init__(self) -> None:
        valid_name(self.name, "Artifact")
        object.__setattr__(self, "files", tuple(self.files))
        object.__setattr__(self, "sources", tuple(self.sources))
        if not self.files or len({file.name for file in self.files}) != len(self.files):
            raise UsageError(f"Artifact {self.name} must name each of its files once.")

    @property
    def sha256(self) -> str:
        """One hash of all names and hashes: the artifact's identity."""
        lines = sorted(f"{file.name} {file.sha256}\n" for file in self.files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def folder(artifact: Artifact) -> Path:
    """Where the artifact's files are, or will be, kept."""
    return home() / artifact.kind / artifact.name / artifact.sha256[:12]


def fetch(artifact: Artifact) -> Path:
    """The folder with all files of `artifact`, fetched where they are absent, each checked by hash once a process.

    Raises `UntrustedFile` for a kept file that has changed (it is removed), `FetchError` when no source delivered.
    """
    place = folder(artifact)
    if _missing(artifact, place):
        _fetch(artifact, place)
    return place


def derive(artifact: Artifact, make: Callable[[], Mapping[str, bytes]]) -> Path:
    """The folder with all files of `artifact`, made once by `make()` where they are absent; their hashes decide, as for fetched ones.

    Raises `UntrustedFile` where something else was made than promised, or for a kept file that has changed (it is removed).
    """
    place = folder(artifact)
    if _missing(artifact, place):
        with _alone(place, artifact.name):
            missing = _missing(artifact, place)
            made = make() if missing else {}
            for file in missing:
                if problem := _keep(io.BytesIO(made.get(file.name, b"")), file, place):
                    raise UntrustedFile(f"{artifact.name}: the conversion {problem}.")
    return place


def check(artifact: Artifact) -> list[str]:
    """What is wrong with the kept files, read in full whatever was checked before; an empty list when all is well."""
    problems = []
    for file in artifact.files:
        path = folder(artifact) / file.name
        if not path.exists():
            problems.append(f"{path} is missing")
        elif sha256(path) != file.sha256:
            problems.append(f"{path} is not the promised file (sha256 differs)")
    return problems


def kept(kind: Literal["backbones", "data"], but: Collection[Path] = ()) -> Iterator[tuple[str, Path, bool]]:
    """Every folder of the home that holds an artifact, `but` these: its name, where it is, and whether its files are the promised ones,
    whose names and hashes make the folder's own name."""
    for place in sorted((home() / kind).glob("*/*")):
        if place.is_dir() and place not in but and re.fullmatch(r"[0-9a-f]{12}", place.name):
            names = sorted(path for path in place.rglob("*") if path.is_file())
            files = [File(path.relative_to(place).as_posix(), sha256(path)) for path in names if not path.name.startswith(".")]
            whole = bool(files) and Artifact(valid_name(place.parent.name, "Artifact"), tuple(files), ()).sha256[:12] == place.name
            yield place.parent.name, place, whole


def sha256(path: Path) -> str:
    """The hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _missing(artifact: Artifact, place: Path) -> list[File]:
    missing = []
    for file in artifact.files:
        path = place / file.name
        try:
            stat = path.stat()
            if _checked.get(path) == (known := (stat.st_mtime_ns, stat.st_size, file.sha256)):
                continue
            found = sha256(path)
        except OSError:
            missing.append(file)
            continue
        if found != file.sha256:
            path.unlink(missing_ok=True)
            raise UntrustedFile(
                f"{file.name} of {artifact.name} was changed: {path} has sha256 {found[:12]}..., not {file.sha256[:12]}... "
                "It was removed; run again to fetch it."
            )
        _checked[path] = known
    return missing


def _fetch(artifact: Artifact, place: Path) -> None:
    """Ask the sources in turn for what is still missing, one process at a time; offline, only those of this machine."""
    sources = [source for source in artifact.sources if isinstance(source, Local) or not offline()]
    with _alone(place, artifact.name):
        for left in place.parent.glob(f".{place.name}.fetch.*"):  # by a process that was killed: its lock is free
            shutil.rmtree(left, ignore_errors=True)
        answers: list[str] = []
        failures: list[str] = []
        for source in sources:
            missing = _missing(artifact, place)
            if not missing:
                break
            size = sum(file.bytes or 0 for file in missing)
            log.log(logging.WARNING if size > LARGE else logging.INFO, "Fetching %s (%.1f MB): %s", artifact.name, size / 1e6, source)
            try:
                wrong, absent = _take(source, missing, place)
                failures += [f"{source}: {answer}" for answer in wrong]
                answers += [f"{source}: {answer}" for answer in wrong or absent]
            except NoAnswer as error:
                answers.append(f"{source}: {error}")
                failures.append(answers[-1])
        missing = _missing(artifact, place)
    if missing:
        with contextlib.suppress(OSError):  # absent, or holds what other files were fetched
            place.rmdir()
        names = ", ".join(file.name for file in missing)
        if offline():
            answers.append(f"FMHUB_OFFLINE or HF_HUB_OFFLINE is set: run once without it, or copy {place} from another machine")
        raise FetchError(f"No source gave {names} of {artifact.name}. {'; '.join(answers) or 'It names no source'}.")
    for failure in failures:
        log.warning("%s: %s", artifact.name, failure)


def _take(source: Source, files: list[File], place: Path) -> tuple[list[str], list[str]]:
    """Write those of `files` that `source` gives rightly; what was wrong with others, and which it does not have."""
    prefix = getattr(source, "path", "") if not isinstance(source, Local) else ""
    wanted = {file.member if file.member is not None else prefix + file.name: file for file in files}
    with tempfile.TemporaryDirectory(prefix=f".{place.name}.fetch.", dir=make_folder(place.parent)) as temporary:
        container = source.obtain(Path(temporary), list(wanted))
        problems = []
        try:
            for member, stream in _streams(container, set(wanted)):
                if problem := _keep(stream, wanted.pop(member), place):
                    problems.append(problem)
                if not wanted:
                    break
        except DAMAGED as error:
            problems.append(f"damaged ({error})")
        return problems, [f"has no {member}" for member in wanted]


def _streams(container: Path, wanted: set[str]) -> Iterator[tuple[str, IO[bytes]]]:
    if "*" in wanted or not container.is_dir():
        if "*" in wanted:
            with container.open("rb") as stream:
                yield "*", stream
        if rest := wanted - {"*"}:
            yield from walk(container, rest.__contains__)
        return
    for name in sorted(wanted):
        if (container / name).is_file():
            with (container / name).open("rb") as stream:
                yield name, stream


def _keep(stream: IO[bytes], file: File, place: Path) -> str:
    """Write the stream under the file's name if, and only if, its hash is right; else say what is wrong."""
    digest, size, most = hashlib.sha256(), 0, file.bytes if file.bytes is not None else LARGEST
    with contextlib.suppress(_Refused), atomic(place / file.name) as out:
        while chunk := _read(stream):
            digest.update(chunk)
            size += len(chunk)
            if size > most:
                break
            out.write(chunk)
        if size > most or digest.hexdigest() != file.sha256:
            raise _Refused
        return ""
    if size > most:
        return f"gave a wrong {file.name}: more than {most:,} bytes"
    return f"gave a wrong {file.name}: sha256 {digest.hexdigest()[:12]}..., promised {file.sha256[:12]}..."


def _read(stream: IO[bytes]) -> bytes:
    try:
        return stream.read(1 << 20)
    except OSError as error:  # a damaged archive, which must not look like a full disk
        raise ValueError(str(error)) from None


class _Refused(Exception):
    """Leaves `atomic` without a file."""


@contextlib.contextmanager
def _alone(place: Path, name: str) -> Iterator[None]:
    """Hold the folder's lock, so that two processes do not fetch the same; the kernel lets go of it when one is killed."""
    import fcntl

    try:
        lock = (make_folder(place.parent) / f".{place.name}.lock").open("a")
    except OSError as error:
        raise FmhubError(f"Cannot write to {place}: {error.strerror}.") from None
    with lock:
        with contextlib.suppress(OSError):  # some network file systems have no locks; atomic writes keep that safe
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("Waiting for another process that fetches %s", name)
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield
