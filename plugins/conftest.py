"""Plugins' tests see a home of their own; those on real data, which are asked for by name, see the user's."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh FMHUB_HOME for every test that is not marked `real`."""
    if "real" not in request.keywords:
        monkeypatch.setenv("FMHUB_HOME", str(tmp_path / "home"))
