"""`fmhub doctor` finds what is wrong, and only then ends with 1."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from fmhub import doctor
from fmhub.cli import main


@pytest.fixture
def findings(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, dict[str, object]]]:
    monkeypatch.setattr(doctor, "ROOM", 1)

    def look(code: int, *options: str) -> dict[str, dict[str, object]]:
        assert main(["doctor", "--json", *options]) == code
        return {row["what"]: row for row in json.loads(capsys.readouterr().out)}

    return look


def test_all_is_well(site: Path, findings: Callable[..., dict[str, dict[str, object]]]) -> None:
    found = findings(0, "--quick")
    assert all(row["ok"] is not False for row in found.values())
    assert {"python", "torch", "home", "disk", "backbone minilm-l6", "board", "network"} <= set(found)
    assert "device" not in found


def test_the_device_is_asked_in_a_process_of_its_own() -> None:
    (found,) = doctor._device()
    assert found.ok
    assert "threads" in found.detail


def test_a_torch_that_does_not_import(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libgomp is missing')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (found,) = doctor._device()
    assert found.ok is False
    assert "libgomp is missing" in found.detail


def test_a_quarantined_plugin(
    distribution: Callable[..., str], findings: Callable[..., dict[str, dict[str, object]]], capsys: pytest.CaptureFixture[str]
) -> None:
    distribution("fmhub-bad", "1 / 0")
    row = findings(1, "--quick")["plugin fmhub-bad 1.0"]
    assert "ZeroDivisionError" in str(row["traceback"])
    assert "fmhub_bad.py" in str(row["detail"])
    assert main(["doctor", "--quick"]) == 1
    text = capsys.readouterr().out
    assert "WRONG plugin fmhub-bad 1.0" in text
    assert "Mend: report it to the authors of fmhub-bad" in text


def test_a_disabled_plugin_is_not_wrong(
    distribution: Callable[..., str], findings: Callable[..., dict[str, dict[str, object]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution("fmhub-bad", "1 / 0")
    monkeypatch.setenv("FMHUB_DISABLE_PLUGINS", "all")
    assert findings(0, "--quick")["plugin fmhub-bad 1.0"]["ok"] is None


def test_weights_with_one_byte_changed(home: Path, findings: Callable[..., dict[str, dict[str, object]]]) -> None:
    from fmhub import artifacts
    from fmhub.backbones import builtin

    place = artifacts.folder(builtin()["minilm-l6"].artifact)
    place.mkdir(parents=True)
    (place / "config.json").write_text("{}")
    row = findings(1, "--quick")["backbone minilm-l6"]
    assert "config.json is not the promised file" in str(row["detail"])
    assert "model.safetensors is missing" in str(row["detail"])


def test_fetched_data_of_which_a_byte_was_changed(home: Path, findings: Callable[..., dict[str, dict[str, object]]]) -> None:
    from fmhub import artifacts

    files = tuple(artifacts.File(name, hashlib.sha256(name.encode()).hexdigest()) for name in ("a.csv", "below/b.csv"))
    place = artifacts.derive(artifacts.Artifact("made-up", files, ()), lambda: {file.name: file.name.encode() for file in files})
    assert findings(0, "--quick")["data"]["detail"] == "1 fetched set, every hash is right"
    (place / "below" / "b.csv").write_text("below/c.csv")
    row = findings(1, "--quick")["data made-up"]
    assert str(place) in str(row["detail"]) and "it is fetched again" in str(row["mend"])
    (place / "below" / "b.csv").unlink()
    assert findings(1, "--quick")["data made-up"]["ok"] is False


def test_weights_that_no_card_names_any_more(home: Path, findings: Callable[..., dict[str, dict[str, object]]]) -> None:
    from fmhub import artifacts

    file = artifacts.File("config.json", hashlib.sha256(b"{}").hexdigest())
    place = artifacts.derive(artifacts.Artifact("old-one", (file,), (), "backbones"), lambda: {"config.json": b"{}"})
    assert "is as it was fetched; no card" in str(findings(0, "--quick")["backbone old-one"]["detail"])
    (place / "config.json").write_text("{ }")
    assert findings(1, "--quick")["backbone old-one"]["ok"] is False


def test_a_damaged_cache(home: Path, findings: Callable[..., dict[str, dict[str, object]]]) -> None:
    folder = home / "cache" / "prefix" / ("0" * 32)
    folder.mkdir(parents=True)
    (folder / "states").write_bytes(b"12")
    (folder / "index").write_bytes(b"3")
    meta = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("states", "index")}
    (folder / "meta.json").write_text(json.dumps(meta))
    assert "1 cache of frozen layers" in str(findings(0, "--quick")["cache"]["detail"])
    (folder / "states").write_bytes(b"11")
    row = findings(1, "--quick")["cache"]
    assert "states is not what was written" in str(row["detail"]) and "it is built again" in str(row["mend"])


def test_what_a_killed_run_left_of_a_cache_is_told(home: Path, findings: Callable[..., dict[str, dict[str, object]]]) -> None:
    assert "unfinished caches" not in findings(0, "--quick")
    folder = home / "cache" / "prefix" / f".{'0' * 32}.tmp"
    folder.mkdir(parents=True)
    (folder / "states").write_bytes(bytes(2_000_000))
    row = findings(0, "--quick")["unfinished caches"]
    assert str(row["detail"]).startswith("1, 2 MB: ") and "left by a killed run" in str(row["detail"])


def test_every_kind_of_cache_is_counted(home: Path, findings: Callable[..., dict[str, dict[str, object]]]) -> None:
    for kind, name in (("pictures", "a.u8"), ("pictures", "b.u8"), ("pictures", ".half"), ("items", "c.safetensors")):
        (home / "cache" / kind).mkdir(parents=True, exist_ok=True)
        (home / "cache" / kind / name).write_bytes(b"x" * 1_500_000)
    row = findings(0, "--quick")["cache"]
    assert row["detail"] == "2 files of decoded pictures, 3 MB; 1 file of vectors of texts, 2 MB" and row["ok"] is True


def test_a_board_with_a_page_of_nonsense(home: Path, findings: Callable[..., dict[str, dict[str, object]]]) -> None:
    """It still opens; only reading it through shows what is wrong."""
    from fmhub.leaderboard import store

    store.board()
    path = home / "board.sqlite"
    assert path.is_file() and findings(0, "--quick")["board"]["ok"] is True
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 3 + 100] = b"x" * 100
    path.write_bytes(content)
    assert findings(1, "--quick")["board"]["ok"] is False


def test_a_home_that_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, findings: Callable[..., dict[str, dict[str, object]]]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FMHUB_HOME", str(tmp_path / "file"))
    assert findings(1, "--quick")["home"]["ok"] is False


def test_a_full_disk(findings: Callable[..., dict[str, dict[str, object]]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    assert findings(1, "--quick")["disk"]["ok"] is False


def test_a_board_that_is_none(home: Path, findings: Callable[..., dict[str, dict[str, object]]]) -> None:
    home.mkdir()
    (home / "board.sqlite").write_bytes(b"nonsense" * 1000)
    assert findings(1, "--quick")["board"]["ok"] is False


def test_a_board_that_opens(home: Path, findings: Callable[..., dict[str, dict[str, object]]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FMHUB_DATABASE", f"sqlite:///{home}.sqlite")
    assert findings(0, "--quick")["board"] == {"what": "board", "ok": True, "detail": "opens, 0 tasks", "mend": "", "traceback": ""}


def test_offline_is_told(findings: Callable[..., dict[str, dict[str, object]]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FMHUB_OFFLINE", "1")
    assert "never used" in str(findings(0, "--quick")["network"]["detail"])
    assert os.environ["FMHUB_OFFLINE"] == "1"
