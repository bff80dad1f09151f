"""`fmhub new`, and the tutorial that begins with it: what it writes installs, passes every check and runs at once."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli import fmhub, fmhub_json
from test_install import Place

from fmhub import scaffold
from fmhub.errors import UsageError

ROOT = Path(__file__).parent.parent
TUTORIAL = (ROOT / "plugins" / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TUTORIAL, flags=re.MULTILINE | re.DOTALL)
COMMANDS = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines()]


@pytest.mark.parametrize("kind", scaffold.KINDS)
def test_a_new_plugin_is_whole_and_the_same_every_time(kind, tmp_path):
    folder = scaffold.new("fmhub-my-own", kind, tmp_path)
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    assert {"pyproject.toml", "README.md", "LICENSE", ".gitignore", "tests/test_plugin.py", ".github/workflows/check.yml"} < set(files)
    assert not any(b"$" in files[name] for name in files if name.endswith((".py", ".toml", ".md", ".yml")))
    assert b'my-own = "fmhub_my_own"' in files["pyproject.toml"]
    for name, content in files.items():
        if name.endswith(".py"):
            compile(content, name, "exec")
    shutil.rmtree(folder)
    again = scaffold.new("fmhub-my-own", kind, tmp_path)
    assert {path.relative_to(again).as_posix(): path.read_bytes() for path in sorted(again.rglob("*")) if path.is_file()} == files


@pytest.mark.parametrize("kind", ["text", "image", "table"])
def test_simple_kinds_take_at_most_15_lines(kind, tmp_path):
    """Statements, arguments and brackets, one a line; imports count, the docstring and blank lines do not."""
    folder = scaffold.new("fmhub-birds", kind, tmp_path)
    (module,) = folder.glob("src/*/*.py")
    text = module.read_text()
    body = text.split('"""', 2)[2]
    assert sum(bool(line.strip()) for line in body.splitlines()) <= 15
    assert ast.get_docstring(ast.parse(text)) == "Birds."


def test_the_kinds_are_those_of_the_templates():
    templates = {path.stem.partition("-")[0] for path in (scaffold.TEMPLATES / "kinds").iterdir()}
    assert templates == set(scaffold.KINDS)


@pytest.mark.parametrize("name", ["fmhub", "Fmhub-Birds", "../birds", "1birds", "fmhub--birds", "fmhub_birds", "a/b", ""])
def test_a_name_that_is_none_is_refused(name, tmp_path):
    with pytest.raises(UsageError):
        scaffold.new(name, "text", tmp_path)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path, monkeypatch, home):
    monkeypatch.chdir(tmp_path)
    said = fmhub("new", "fmhub-birds", home=home).stdout
    assert "fmhub check ./fmhub-birds" in said and "fmhub run birds" in said
    assert "exists: choose another name" in fmhub("new", "fmhub-birds", home=home, code=2).stderr
    assert fmhub("new", "fmhub-bees", "--kind", "texts", home=home, code=2).stdout == ""
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith((".", "fmhub-"))] == ["fmhub-birds"]


def test_it_passes_every_check_where_it_lies(tmp_path, tiny, home):
    """Built, unpacked and checked; here on a tiny random backbone, below every kind on the real one."""
    folder = scaffold.new("fmhub-birds", "custom", tmp_path)
    done = fmhub("check", folder, "--backbone", tiny, "--json", home=home, FMHUB_OFFLINE="1", code=None)
    failed = [row for row in json.loads(done.stdout) if row["ok"] is False]
    assert not failed and done.returncode == 0, failed
    assert f"Builds {folder}: the build code of that folder is run." in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", scaffold.KINDS)
def test_it_passes_every_check_and_runs_on_the_real_backbone(kind, tmp_path, weights):
    folder = scaffold.new("fmhub-birds", kind, tmp_path)
    assert fmhub("check", folder, home=weights).stdout.endswith(" 0 failed\n")
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", site, folder]
    subprocess.run([*map(str, pip)], check=True)
    record = fmhub_json("run", "birds", "--json", home=weights, path=(site,))
    score = record["scores"]["test"][record["primary"]]["value"]
    assert score > 0.6, record["scores"]


def test_every_command_of_the_tutorial_exists(home):
    for line in COMMANDS:
        words = shlex.split(line)
        if words[0] == "fmhub":
            options = [word for word in words if word.startswith("--")]
            said = fmhub(words[1], "--help", home=home).stdout
            assert all(option in said for option in options), line
    from fmhub.testing import kit

    rows = " ".join(re.findall(r"^\| ([^|]+) \|", TUTORIAL, flags=re.MULTILINE))
    assert all(kit.title(one) in rows for one in kit.checks())
    assert set(re.findall(r"`(\w+)`", re.search(r"^Kinds: .*$", TUTORIAL, flags=re.MULTILINE)[0])) == set(scaffold.KINDS)


@pytest.mark.slow
def test_every_command_of_the_tutorial_works_in_an_environment_of_its_own(tmp_path, weights):
    """In order, in one folder, as a reader types them; the package is published to a folder that stands for an index."""
    place = Place(tmp_path)
    shutil.copytree(weights, tmp_path / "home")
    bin_ = place.python.parent
    (bin_ / "fmhub").write_text(f'#!/bin/sh\nexec {place.python} -m fmhub "$@"\n')
    (bin_ / "fmhub").chmod(0o755)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "PYTHONPATH", "FMHUB_", "PYTEST"))}
    more = {"FMHUB_OFFLINE": "1", "FMHUB_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1", "PATH": f"{bin_}:{kept['PATH']}"}
    for line in COMMANDS:
        line = line.replace("-m build", "-m build --no-isolation")
        done = subprocess.run(line, shell=True, cwd=tmp_path, env={**kept, **more}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert "passed" in (tmp_path / "badge.svg").read_text()
    place.fmhub("uninstall", "fmhub-remarks")
    shutil.copy(tmp_path / "fmhub-remarks" / "dist" / "fmhub_remarks-0.1.0-py3-none-any.whl", place.index)
    (place.registry / "plugins" / "fmhub-remarks.toml").write_text(next(text for language, text in BLOCKS if language == "toml"))
    assert "fmhub-remarks" in place.fmhub("plugins", "search", "remark", **more).stdout
    done = place.fmhub("run", "remarks", "--install", "--json", **more)
    assert done.returncode == 0 and json.loads(done.stdout)["task"]["plugin"] == "fmhub-remarks", done.stderr
