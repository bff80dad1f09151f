"""Installing plugins: what would hurt is refused, what does not load is not kept, and the environment is as before then.

Everything happens in a small environment that sees the packages of this one and installs into itself, from wheels made here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fmhub.cli import main
from fmhub.errors import FmhubError, UsageError
from fmhub.plugins import directory, environment, installing

GOOD = """
import types
from fmhub import Task, hookimpl
part = types.SimpleNamespace(load=None, build=None)
@hookimpl
def fmhub_tasks():
    yield Task(name="installed-one", title="t", data=part, head=part, metrics=["accuracy"])
"""
BAD = "import package_that_is_not_there\n"


def make_wheel(folder: Path, name: str, version: str = "1.0", code: str = GOOD, requires: Sequence[str] = (), point: bool = True) -> Path:
    """A wheel as a build backend would write it."""
    folder.mkdir(parents=True, exist_ok=True)
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
    files = {
        f"{module}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if point:
        files[f"{info}/entry_points.txt"] = f"[fmhub]\n{module} = {module}\n"
    lines = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(text.encode())}")
    files[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,"]) + "\n"
    wheel = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return wheel


class Place:
    """A throw-away environment, an index folder and a directory; `fmhub(...)` runs there."""

    def __init__(self, root: Path) -> None:
        self.root, self.index, self.registry = root, root / "index", root / "registry"
        self.index.mkdir()
        (self.registry / "plugins").mkdir(parents=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root / "env")], check=True)
        self.python = root / "env" / "bin" / "python"
        pure = next((root / "env" / "lib").glob("python*")) / "site-packages"
        (pure / "base.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
        self.pure = pure

    def list(self, name: str, **more: str) -> None:
        values = {"name": name, "summary": "s", "install": name, **more}
        text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
        (self.registry / "plugins" / f"{name}.toml").write_text(text + '[tasks]\ninstalled-one = "t"\n')

    def fmhub(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "PYTHONPATH"))}
        more = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.index), "PIP_NO_CACHE_DIR": "1", "FMHUB_REGISTRY": str(self.registry)}
        command = [str(self.python), "-m", "fmhub", *map(str, arguments)]
        return subprocess.run(command, env={**kept, **more, **environment}, capture_output=True, text=True, cwd=self.root, check=False)

    def freeze(self) -> Mapping[str, bytes]:
        """Every file of the environment but byte code, with its content."""
        return {str(path): path.read_bytes() for path in sorted(self.pure.rglob("*")) if path.is_file() and path.suffix != ".pyc"}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def refused(place: Place, *arguments: object) -> str:
    """What is said when `install` fails, having changed nothing."""
    before = place.freeze()
    done = place.fmhub("install", *arguments)
    assert done.returncode in (1, 2), done.stdout + done.stderr
    assert place.freeze() == before
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.stderr


def test_a_wheel_is_installed_replaced_and_removed(place: Place) -> None:
    wheel = make_wheel(place.root, "fmhub-made")
    before = place.freeze()
    done = place.fmhub("install", wheel, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [{"name": "fmhub-made", "before": None, "after": "1.0", "requested": True}]
    assert "fmhub-made: installed-one" in done.stderr
    assert "installed-one" in place.fmhub("tasks").stdout
    done = place.fmhub("install", make_wheel(place.root, "fmhub-made", code=GOOD.replace("installed-one", "newer-one")))
    assert done.returncode == 0 and "installs fmhub-made 1.0 (again)" in done.stderr, done.stderr
    assert "newer-one" in place.fmhub("tasks").stdout, "a wheel of the same version replaces its files"
    assert place.fmhub("uninstall", "fmhub-made").stdout == "Removed fmhub-made 1.0\n"
    assert place.freeze() == before


def test_a_folder_is_built_and_that_is_said(place: Place) -> None:
    folder = place.root / "source"
    folder.mkdir()
    (folder / "fmhub_made.py").write_text(GOOD)
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n[project]\nname = "fmhub-made"\nversion = "1.0"\n'
        '[project.entry-points.fmhub]\nmade = "fmhub_made"\n[tool.hatch.build.targets.wheel]\ninclude = ["fmhub_made.py"]\n'
    )
    done = place.fmhub("install", folder, FMHUB_OFFLINE="1")  # offline: the backend at hand builds it
    assert done.returncode == 0, done.stderr
    assert f"Builds {folder}: the build code of that folder is run." in done.stderr
    assert "installed-one" in place.fmhub("tasks").stdout
    place.list("fmhub-made", install="../source")
    assert place.fmhub("install", "fmhub-made", FMHUB_OFFLINE="1").returncode == 0


def test_a_name_of_the_directory_comes_with_what_it_needs(place: Place) -> None:
    make_wheel(place.index, "fmhub-made", requires=["made-helper>=2", "click>=8"], code="import made_helper\n" + GOOD)
    make_wheel(place.index, "made-helper", "2.1", code="", point=False)
    place.list("fmhub-made")
    before = place.freeze()
    dry = place.fmhub("install", "fmhub-made", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "would install made-helper 2.1 (new)" in dry.stderr
    assert place.freeze() == before
    done = place.fmhub("install", "fmhub-made")
    assert done.returncode == 0, done.stderr
    assert "installed-one" in place.fmhub("tasks").stdout
    again = place.fmhub("install", "fmhub-made", "--json")
    assert again.returncode == 0
    assert json.loads(again.stdout) == []


@pytest.mark.parametrize("frozen", ["torch", "accelerate"])
def test_a_change_of_the_stack_is_refused(frozen: str, place: Place) -> None:
    make_wheel(place.index, "fmhub-made", requires=[f"{frozen}<0.2"])
    make_wheel(place.index, frozen, "0.1", point=False)
    place.list("fmhub-made")
    assert f"Refused: fmhub-made 1.0 needs {frozen}<0.2, and here is {frozen} " in refused(place, "fmhub-made")


def test_a_newer_stack_is_refused_too(place: Place) -> None:
    make_wheel(place.index, "fmhub-made", requires=["transformers>=99"])
    make_wheel(place.index, "transformers", "99.0", point=False)
    place.list("fmhub-made")
    assert "Refused: fmhub-made 1.0 needs transformers>=99" in refused(place, "fmhub-made")


def test_a_downgrade_of_what_the_hub_needs_is_refused(place: Place) -> None:
    make_wheel(place.index, "pluggy", "0.1", point=False)
    wheel = make_wheel(place.root, "fmhub-made", requires=["pluggy<1"])
    assert "Refused: fmhub-made 1.0 needs pluggy<1, and here is pluggy " in refused(place, wheel)


def test_a_fall_back_to_an_old_release_is_refused(place: Place) -> None:
    make_wheel(place.index, "fmhub-made", "0.1")
    make_wheel(place.index, "fmhub-made", "2.0", requires=["transformers<5"])
    make_wheel(place.index, "transformers", "4.0", point=False)
    place.list("fmhub-made")
    assert "Refused: only the old fmhub-made 0.1 fits what is here, not 2.0." in refused(place, "fmhub-made")


def test_an_upgrade_that_only_an_old_release_could_follow_is_refused(place: Place) -> None:
    """The newest release is there already, and no longer fits: pip would go back to the old one."""
    newest = make_wheel(place.index, "fmhub-made", "2.0", requires=["pluggy<1"])
    make_wheel(place.index, "fmhub-made", "0.1")
    place.list("fmhub-made")
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", place.pure, newest], check=True)
    assert "Refused: " in refused(place, "fmhub-made", "--upgrade")


def test_what_another_plugin_needs_is_not_taken_from_it(place: Place) -> None:
    make_wheel(place.index, "made-helper", "1.0", code="", point=False)
    make_wheel(place.index, "made-helper", "2.0", code="", point=False)
    first = make_wheel(place.root, "fmhub-first", requires=["made-helper<2"])
    assert place.fmhub("install", first).returncode == 0
    other = make_wheel(place.root, "fmhub-other", requires=["made-helper>=2"], code=GOOD.replace("installed-one", "other-one"))
    said = refused(place, other)
    assert "it would change made-helper 1.0 -> 2.0, and fmhub-first 1.0 needs made-helper<2" in said


def test_older_than_the_directory_asks_for_is_refused(place: Place) -> None:
    make_wheel(place.index, "fmhub-made", "0.1")
    place.list("fmhub-made", minimum="0.2")
    assert "No matching distribution found for fmhub-made>=0.2" in refused(place, "fmhub-made")


def test_a_name_of_the_directory_is_no_folder_that_happens_to_lie_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fmhub-made", "fmhub-own"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pyproject.toml").touch()
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "fmhub-made.toml").write_text('name = "fmhub-made"\nsummary = "s"\ninstall = "fmhub-made"\n[tasks]\n')
    monkeypatch.setenv("FMHUB_REGISTRY", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert installing.find("fmhub-made").path is None
    assert installing.find("./fmhub-made").path == tmp_path / "fmhub-made"
    assert installing.find("fmhub-own").path == tmp_path / "fmhub-own"


def test_a_source_archive_is_not_built_for_a_name(place: Place) -> None:
    (place.index / "fmhub-made-1.0.tar.gz").write_bytes(b"never opened")
    place.list("fmhub-made")
    assert "No matching distribution found for fmhub-made" in refused(place, "fmhub-made")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (BAD, "No module named 'package_that_is_not_there'"),
        ("import os; os._exit(3)", "ended the process"),
        ("1 / 0", "ZeroDivisionError"),
        ("import pandas\n" + GOOD, "imports pandas as soon as it is loaded"),
        ("import socket; socket.socket().close()\n" + GOOD, "sockets are closed while a plugin is checked"),
        (GOOD.replace('"accuracy"', '"acuracy"'), "names: Unknown metric 'acuracy'. Did you mean accuracy"),
    ],
)
def test_what_does_not_load_never_reaches_the_environment(code: str, said: str, place: Place) -> None:
    error = refused(place, make_wheel(place.root, "fmhub-made", code=code))
    assert said in error
    assert "Nothing was changed." in error


def test_no_plugin_at_all(place: Place) -> None:
    assert "fmhub-made does not load: it has no entry point in group `fmhub`" in refused(
        place, make_wheel(place.root, "fmhub-made", point=False)
    )


SLY = "if 'overlay' not in __file__: raise OSError('not here')\n" + GOOD
"""Loads in the overlay and not in its real place."""


def test_rolled_back_when_it_fails_only_in_the_end(place: Place) -> None:
    """The older version is back, file by file."""
    assert place.fmhub("install", make_wheel(place.root, "fmhub-made")).returncode == 0
    error = refused(place, make_wheel(place.root, "fmhub-made", "2.0", SLY), make_wheel(place.root, "fmhub-other", "1.0"))
    assert "OSError: not here" in error
    assert "Rolled back: the environment is as before." in error
    assert "installed-one" in place.fmhub("tasks").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fmhub-mad"], "Did you mean fmhub-made"),
        (["requests"], "name its version: requests==1.0"),
        (["-r requirements.txt"], "is no plugin of the directory"),
        (["./nowhere"], "is no plugin: neither a wheel nor a folder"),
        (["nowhere.whl"], "is no plugin: neither a wheel nor a folder"),
        (["fmhub-made @ https://x.example/x.zip"], "name its version"),
        (["fmhub-late"], "needs plugin API 1.9, and this fmhub has 1.0"),
        (["fmhub-unpublished"], "is not published yet"),
    ],
)
def test_what_cannot_be_found(arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    folder = tmp_path / "registry" / "plugins"
    folder.mkdir(parents=True)
    for name, more in {"fmhub-made": "", "fmhub-late": 'api = "1.9"', "fmhub-unpublished": ""}.items():
        install = "../gone" if name == "fmhub-unpublished" else name
        (folder / f"{name}.toml").write_text(f'name = "{name}"\nsummary = "s"\ninstall = "{install}"\n{more}\n[tasks]\n')
    monkeypatch.setenv("FMHUB_REGISTRY", str(folder.parent))
    assert main(["install", "--", *arguments]) in (1, 2)
    assert said in capsys.readouterr().err


@pytest.fixture
def uv(place: Place) -> dict[str, str]:
    """The environment of `place` as uv makes them: without pip. The variables that point uv at its index."""
    where = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if where is None:
        pytest.skip("uv is not installed (extra `test`)")
    (place.pure / "nopip.pth").write_text("import sys; sys.modules['pip'] = None\n")
    path = f"{Path(where).parent}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "UV_NO_INDEX": "1", "UV_FIND_LINKS": str(place.index), "UV_CACHE_DIR": str(place.root / "cache")}


def test_without_pip_uv_does_the_same(place: Place, uv: dict[str, str]) -> None:
    make_wheel(place.index, "fmhub-made", requires=["made-helper>=2"], code="import made_helper\n" + GOOD)
    make_wheel(place.index, "made-helper", "2.1", code="", point=False)
    place.list("fmhub-made")
    before = place.freeze()
    dry = place.fmhub("install", "fmhub-made", "--dry-run", **uv)
    assert dry.returncode == 0, dry.stderr
    assert "would install made-helper 2.1 (new)" in dry.stderr and place.freeze() == before
    done = place.fmhub("install", "fmhub-made", **uv)
    assert done.returncode == 0, done.stderr
    assert "installed-one" in place.fmhub("tasks").stdout
    done = place.fmhub("install", make_wheel(place.root, "fmhub-made", "1.1", code=GOOD.replace("installed-one", "newer-one")), **uv)
    assert done.returncode == 0, done.stderr
    assert "newer-one" in place.fmhub("tasks").stdout
    assert place.fmhub("uninstall", "fmhub-made", **uv).stdout == "Removed fmhub-made 1.1\n"


def test_without_pip_uv_refuses_the_same(place: Place, uv: dict[str, str]) -> None:
    place.list("fmhub-made")
    make_wheel(place.index, "fmhub-made", requires=["transformers<5"])
    make_wheel(place.index, "transformers", "4.0", point=False)
    before = place.freeze()
    done = place.fmhub("install", "fmhub-made", **uv)
    assert done.returncode == 1 and "transformers" in done.stderr and "Nothing was changed." in done.stderr
    assert place.fmhub("install", make_wheel(place.root, "fmhub-bad", code=BAD), **uv).returncode == 1
    assert place.freeze() == before
    assert place.fmhub("install", make_wheel(place.root, "fmhub-other"), **uv).returncode == 0
    before = place.freeze()
    rolled = place.fmhub("install", make_wheel(place.root, "fmhub-other", "2.0", SLY), **uv)
    assert rolled.returncode == 1 and "Rolled back: the environment is as before." in rolled.stderr
    assert place.freeze() == before and "installed-one" in place.fmhub("tasks").stdout
    nothing = place.fmhub("install", "fmhub-made", **{**uv, "PATH": "/nowhere"})
    assert "has neither pip nor uv" in nothing.stderr


def test_upgrade_takes_the_newer_release(place: Place) -> None:
    place.list("fmhub-made")
    make_wheel(place.index, "fmhub-made", "1.0")
    assert place.fmhub("install", "fmhub-made", "--yes").returncode == 0
    make_wheel(place.index, "fmhub-made", "1.1", code=GOOD.replace("installed-one", "newer-one"))
    assert "Nothing to do: fmhub-made is installed." in place.fmhub("install", "fmhub-made").stderr
    dry = place.fmhub("install", "fmhub-made", "--upgrade", "--dry-run")
    assert "would install fmhub-made 1.0 -> 1.1" in dry.stderr
    assert "installed-one" in place.fmhub("tasks").stdout
    done = place.fmhub("install", "fmhub-made", "--upgrade", "--yes", "--json")
    assert json.loads(done.stdout) == [{"name": "fmhub-made", "before": "1.0", "after": "1.1", "requested": True}]
    assert "newer-one" in place.fmhub("tasks").stdout


def test_run_installs_what_is_missing_only_when_told(place: Place) -> None:
    place.list("fmhub-made")
    make_wheel(place.index, "fmhub-made")
    said = place.fmhub("run", "installed-one")
    assert said.returncode == 2
    assert "Task 'installed-one' is in plugin fmhub-made, which is not installed. Install it: fmhub install fmhub-made" in said.stderr
    done = place.fmhub("run", "installed-one", "--install", FMHUB_OFFLINE="")  # its parts are none, so it cannot run, but it is there now
    assert "installs fmhub-made 1.0 (new)" in done.stderr and done.returncode == 1
    assert "installed-one" in place.fmhub("tasks").stdout


def test_a_wheel_with_an_odd_name(tmp_path: Path) -> None:
    (tmp_path / "odd.whl").touch()
    with pytest.raises(UsageError, match="not named like a wheel"):
        installing.find(str(tmp_path / "odd.whl"))


def test_uninstall_removes_only_plugins(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("click", "no-such-plugin"):
        assert main(["uninstall", name]) == 2
        assert f"No plugin '{name}' is installed" in capsys.readouterr().err


def test_an_environment_of_the_system_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "EXTERNALLY-MANAGED").touch()
    monkeypatch.setattr(environment.sys, "base_prefix", sys.prefix)
    monkeypatch.setattr(environment.sysconfig, "get_path", lambda _: str(tmp_path))
    with pytest.raises(FmhubError, match="python3 -m venv"):
        installing.install(["fmhub-text"])


def test_a_user_who_does_not_agree(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: list[str] = []
    monkeypatch.setattr(installing, "try_overlay", None)  # would fail if it went on
    installing.install([str(make_wheel(tmp_path, "fmhub-made"))], say=said.append, agree=lambda: False)
    assert said == ["installs fmhub-made 1.0 (new)"]


def test_the_shipped_constraints_are_requirements() -> None:
    from packaging.requirements import Requirement

    from fmhub.home import registry

    lines = [line for line in (registry() / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    names = {Requirement(line).name for line in lines}
    assert {*installing.FROZEN, "click", "pluggy"} <= names
    assert all(len(Requirement(line).specifier) == 1 for line in lines)


def test_shipped_entries_can_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FMHUB_REGISTRY", raising=False)
    for name in directory.entries():
        assert installing.find(name).requirement == name
