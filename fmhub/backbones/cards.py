"""Cards: what a backbone is, which bytes its files must have, and where they come from."""

from __future__ import annotations

import functools
import json
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fmhub import artifacts
from fmhub.artifacts import Artifact, File, Hub, Local, sha256
from fmhub.artifacts.sources import NoAnswer, Source, as_entry, run_client, source
from fmhub.errors import DataError, FetchError, UntrustedFile, UsageError, nearest
from fmhub.home import home, make_folder, offline, registry, valid_name, write_text

TRUSTED = (".safetensors", ".json")
"""What a backbone's folder may give; everything else in it is left alone."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """One backbone. `options` set fields of its config. Where its sources hold another format, `raw` are the files that
    they give, and `converter` (of `fmhub.backbones.converters`) makes `files` of them once."""

    name: str
    title: str
    architecture: str
    modality: str
    licence: str
    parameters: int
    files: tuple[File, ...]
    sources: tuple[Source, ...]
    converter: str | None = None
    raw: tuple[File, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    homepage: str = ""
    citation: str = ""

    def __post_init__(self) -> None:
        valid_name(self.name, "Backbone")
        for key in ("files", "sources", "raw"):
            object.__setattr__(self, key, tuple(getattr(self, key)))
        if type(self.parameters) is not int or self.parameters < 0:
            raise UsageError(f"Backbone {self.name}: parameters must be a whole number, not {self.parameters!r}.")
        if not any(file.name.endswith(".safetensors") for file in self.files):
            raise UsageError(f"Backbone {self.name}: its files hold no .safetensors; what its sources have instead belongs under raw.")
        if (self.converter is None) == bool(self.raw):
            raise UsageError(f"Backbone {self.name}: raw files and the converter that reads them go together.")
        self.artifact  # noqa: B018 - checks that each file is named once

    @property
    def artifact(self) -> Artifact:
        return Artifact(self.name, self.files, self.sources, kind="backbones")

    @property
    def sha256(self) -> str:
        """One hash over all its files: what a record names the backbone by."""
        return self.artifact.sha256

    def fetch(self) -> Path:
        """The folder with its files, checked; see `artifacts.fetch`. Raw files are removed once they are converted."""
        if self.converter is None:
            return artifacts.fetch(self.artifact)
        return artifacts.derive(self.artifact, self._converted)

    def _converted(self) -> dict[str, bytes]:
        from fmhub.backbones.converters import converter

        make = converter(str(self.converter))
        place = artifacts.fetch(Artifact(self.name, self.raw, self.sources, kind="backbones"))
        made = make({file.name: place / file.name for file in self.raw})
        shutil.rmtree(place, ignore_errors=True)
        return made


_TEXT = ("name", "title", "architecture", "modality", "licence", "homepage", "citation", "converter")


def from_entry(entry: Mapping[str, Any], where: str = "card") -> Card:
    """The card of one TOML or JSON table; a `UsageError` names what is missing, unknown or of the wrong type."""
    known = list(Card.__dataclass_fields__)
    if unknown := [key for key in entry if key not in known]:
        raise UsageError(f"{where}: unknown key {unknown[0]!r}.{nearest(unknown[0], known)}")
    if missing := [key for key in known[:8] if key not in entry]:
        raise UsageError(f"{where}: {', '.join(missing)} missing.")
    for key in _TEXT:
        if not isinstance(entry.get(key, ""), str | None if key == "converter" else str):
            raise UsageError(f"{where}: {key} must be text.")
    try:
        files = tuple(File(**value) for value in entry["files"])
        raw = tuple(File(**value) for value in entry.get("raw", ()))
        sources = tuple(source(value) for value in entry["sources"])
        return Card(**{**entry, "files": files, "raw": raw, "sources": sources, "options": dict(entry.get("options", {}))})
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: files, sources or options have not the form of a card ({error}).") from None


def as_entry_of(card: Card) -> dict[str, Any]:
    """Plain data that `from_entry` reads back: what a plan keeps, so that a run can be loaded without its plugin."""
    plain = {key: getattr(card, key) for key in Card.__dataclass_fields__ if getattr(card, key) is not None}
    files, raw = (
        [{key: value for key, value in vars(file).items() if value is not None} for file in some] for some in (card.files, card.raw)
    )
    return {**plain, "files": files, "raw": raw, "sources": [as_entry(value) for value in card.sources], "options": dict(card.options)}


def read(path: Path) -> Card:
    """The card of a TOML file named after it."""
    try:
        entry = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not readable as TOML ({error}).") from None
    found = from_entry(entry, str(path))
    if found.name != path.stem:
        raise UsageError(f"{path}: the card is named {found.name!r}; name file and card alike.")
    return found


@functools.cache
def builtin() -> Mapping[str, Card]:
    """The cards that fmhub ships, by name."""
    return {path.stem: read(path) for path in sorted((registry() / "backbones").glob("*.toml"))}


def card(name: str, more: Mapping[str, Card] | None = None) -> Card:
    """The card that `name` refers to: a shipped one, one of `more` (plugins'), `hub:org/name[@revision]` or `./folder`.

    Raises `UsageError` for an unknown name, `UntrustedFile` where there are no safetensors.
    """
    if name.startswith("hub:"):
        return _of_hub(name.removeprefix("hub:"))
    if name.startswith((".", "/", "~")) or Path(name).is_dir():
        return _of_folder(Path(name).expanduser())
    known = {**(more or {}), **builtin()}
    if name not in known:
        raise UsageError(
            f"Unknown backbone {name!r}.{nearest(name, known)} Known: {', '.join(sorted(known))}; or hub:ORG/NAME, or ./FOLDER."
        )
    return known[name]


def _of_folder(folder: Path) -> Card:
    """A card made on the fly: its hashes are those that the files have now."""
    if not folder.is_dir():
        raise UsageError(f"Backbone {folder} is not a folder.")
    paths = sorted(path for path in folder.iterdir() if path.suffix in TRUSTED and not path.name.startswith(".") and path.is_file())
    names = {path.name for path in paths}
    if not any(name.endswith(".safetensors") for name in names):
        raise UntrustedFile(f"{folder} has no .safetensors file. Pickled weights are never read: save them as safetensors first.")
    if "config.json" not in names:
        raise DataError(f"{folder} has no config.json: it is not a folder that transformers saved.")
    files = tuple(File(path.name, sha256(path), path.stat().st_size) for path in paths)
    return _unlisted(folder.resolve().name, str(folder), files, Local(str(folder.resolve())))


def _of_hub(reference: str) -> Card:
    """What the hub gave at first use, recorded by commit and hash, so that every later use gets the same bytes."""
    repo, _, revision = reference.partition("@")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", repo) or not re.fullmatch(r"[\w./-]*", revision):
        raise UsageError(f"Backbone hub:{reference} is not of the form hub:ORG/NAME[@REVISION].")
    record = home() / "backbones" / _slug(repo) / f"{_slug(revision or 'main')}.json"
    if record.exists():
        return from_entry(json.loads(record.read_text("utf-8")), str(record))
    if offline():
        raise FetchError(f"hub:{reference} was not fetched before and FMHUB_OFFLINE or HF_HUB_OFFLINE is set. Run once without it.")
    with tempfile.TemporaryDirectory(prefix=".hub.", dir=make_folder(record.parent)) as temporary:
        folder = Path(temporary)
        try:
            run_client([sys.executable, "-c", _SNAPSHOT, repo, revision or "main", temporary], folder)
        except NoAnswer as error:
            raise FetchError(f"hub:{reference}: {error}.") from None
        commit = (folder / "commit").read_text("utf-8")
        here = _of_folder(folder)
        made = _unlisted(repo, f"{repo} at {commit[:12]} of the Hugging Face hub", here.files, Hub(repo, commit))
        # What was just downloaded is the first source once; the recorded card knows only the hub.
        artifacts.fetch(Artifact(made.name, made.files, here.sources, kind="backbones"))
    write_text(record, json.dumps(as_entry_of(made), indent=1))
    return made


_SNAPSHOT = """
import pathlib, sys
from huggingface_hub import HfApi, snapshot_download
repo, revision, folder = sys.argv[1:]
commit = HfApi().model_info(repo, revision=revision, timeout=15).sha
snapshot_download(repo, revision=commit, local_dir=folder, allow_patterns=["*.safetensors", "*.json"], ignore_patterns=["*/*"])
pathlib.Path(folder, "commit").write_text(commit)
"""


def _unlisted(name: str, title: str, files: tuple[File, ...], origin: Source) -> Card:
    return Card(
        name=_slug(name), title=title, architecture="", modality="", licence="", parameters=0, files=files, sources=(origin,)
    )  # fmt: skip


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-")[:64] or "backbone"
