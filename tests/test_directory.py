"""The plugin directory: every shipped entry is whole, and a registry of one's own is a folder, or a URL with its hash."""

from __future__ import annotations

import hashlib
import http.server
import threading
import tomllib
from pathlib import Path

import pytest
from packaging.licenses import canonicalize_license_expression
from packaging.version import Version

from fmhub import hub
from fmhub.cli import main
from fmhub.errors import FmhubError, UntrustedFile
from fmhub.home import registry
from fmhub.plugins import directory, installing

ROOT = Path(__file__).parent.parent
ENTRY = """
[fmhub-made]
summary = "Made up"
install = "fmhub-made"
licence = "MIT"
[fmhub-made.tasks]
made-one = "One that was made"
"""


@pytest.mark.parametrize("path", sorted((registry() / "plugins").glob("*.toml")), ids=lambda path: path.stem)
def test_a_shipped_entry_is_whole_and_says_what_the_plugin_has(path):
    entry = directory.read(path)
    assert set(tomllib.loads(path.read_text())) <= set(directory.Entry.__dataclass_fields__)
    assert entry.summary and len(entry.summary) < 100 and entry.maintainers
    assert canonicalize_license_expression(entry.licence)
    assert Version(entry.minimum)
    installing.find(entry.name)  # its API range fits, and its folder is there
    found = {plugin.name: plugin for plugin in hub.plugins()}.get(entry.name)
    if found:
        assert {task.name for task in found.tasks} == set(entry.tasks)
        assert Version(found.version) >= Version(entry.minimum)


def test_every_plugin_of_the_house_is_in_it():
    folders = {path.parent.name for path in (ROOT / "plugins").glob("*/pyproject.toml")}
    assert folders <= set(directory.entries())


@pytest.fixture
def served(tmp_path):
    """(URL of a directory of one file, its hash), from a server of this machine."""
    (tmp_path / "plugins.toml").write_text(ENTRY)
    handler = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *given: handler(*given, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/plugins.toml", hashlib.sha256(ENTRY.encode()).hexdigest()
    server.shutdown()
    server.server_close()


def test_a_url_is_fetched_once_and_only_with_its_hash(served, home, monkeypatch, capsys):
    url, digest = served
    monkeypatch.setenv("FMHUB_REGISTRY", url)
    with pytest.raises(FmhubError, match="is not pinned"):
        directory.entries()
    monkeypatch.setenv("FMHUB_REGISTRY", f"{url}#sha256={'0' * 64}")
    with pytest.raises(UntrustedFile, match="not the pinned 0000"):
        directory.entries()
    assert not (home / "registry").exists()
    monkeypatch.setenv("FMHUB_REGISTRY", f"{url}#sha256={digest}")
    assert directory.entries()["fmhub-made"].tasks == {"made-one": "One that was made"}
    monkeypatch.setenv("FMHUB_OFFLINE", "1")
    assert main(["plugins", "search", "made"]) == 0, "kept in the home: no socket is needed again"
    assert "One that" not in capsys.readouterr().err
    assert installing.find("fmhub-made").requirement == "fmhub-made"
    next((home / "registry").iterdir()).write_text(ENTRY + "\n")
    with pytest.raises(UntrustedFile):
        directory.entries()


def test_what_cannot_be_fetched_says_so(home, monkeypatch):
    monkeypatch.setenv("FMHUB_REGISTRY", f"http://127.0.0.1:9/x.toml#sha256={'0' * 64}")
    with pytest.raises(FmhubError, match="cannot be fetched"):
        directory.entries()
    monkeypatch.setenv("FMHUB_OFFLINE", "1")
    with pytest.raises(FmhubError, match="FMHUB_OFFLINE is set"):
        directory.entries()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ENTRY.replace('"fmhub-made"', '"../fmhub-made"', 1), "is installed from a path"),
        (ENTRY.replace("[fmhub-made.tasks]", "[fmhub-made.other]"), "tasks"),
        (ENTRY.replace("Made up", "Made up\nx"), "cannot be used"),
        (ENTRY.replace("made-one", '"no good"'), "not a valid name"),
    ],
)
def test_a_file_that_is_no_directory(text, said, tmp_path, home, monkeypatch):
    (tmp_path / "plugins.toml").write_text(text)
    monkeypatch.setenv("FMHUB_REGISTRY", f"file://{tmp_path}/plugins.toml#sha256={hashlib.sha256(text.encode()).hexdigest()}")
    with pytest.raises(FmhubError, match=said):
        directory.entries()


@pytest.mark.parametrize(
    ("api", "fits"), [("1.0", True), (">=1.0,<2", True), ("1.1", False), ("2.0", False), ("0.9", False), ("<1", False)]
)
def test_api_ranges(api, fits, tmp_path, home, monkeypatch):
    text = ENTRY.replace("[fmhub-made.tasks]", f'api = "{api}"\n[fmhub-made.tasks]')
    (tmp_path / "plugins.toml").write_text(text)
    monkeypatch.setenv("FMHUB_REGISTRY", f"file://{tmp_path}/plugins.toml#sha256={hashlib.sha256(text.encode()).hexdigest()}")
    if fits:
        assert installing.find("fmhub-made").requirement == "fmhub-made"
    else:
        with pytest.raises(FmhubError, match="needs plugin API"):
            installing.find("fmhub-made")
