"""Converters: the ONNX reader on hand-made and damaged bytes, safetensors bytes, cards that convert, DINOv2 against onnxruntime."""

from __future__ import annotations

import contextlib
import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmhub.artifacts import File, Local
from fmhub.backbones import Card, card, converters
from fmhub.backbones.converters import converter
from fmhub.backbones.converters.onnx import read
from fmhub.backbones.converters.tensors import to_bytes
from fmhub.errors import UntrustedFile, UsageError


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def field(number: int, value: int | bytes) -> bytes:
    """One protobuf field: a varint, or bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor(name: str, array: np.ndarray, *, kind: int = 1, packed: bool = False) -> bytes:
    sizes = field(1, b"".join(map(varint, array.shape))) if packed else b"".join(field(1, size) for size in array.shape)
    return field(5, sizes + field(2, kind) + field(8, name.encode()) + field(9, array.astype("<f4").tobytes()))


def model(*parts: bytes) -> bytes:
    return field(1, 8) + field(2, b"maker") + field(7, b"".join(parts)) + varint(9 << 3 | 5) + b"\0\0\0\0"


NODE = field(1, field(1, b"x") + field(1, b"w") + field(2, b"y") + field(3, b"/a/MatMul") + field(4, b"MatMul"))


@pytest.mark.parametrize("packed", [False, True])
def test_initialisers_and_nodes_are_read(packed: bool) -> None:
    weight = np.arange(600, dtype=np.float32).reshape(3, 200)
    tensors, nodes = read(model(NODE, tensor("w", weight, packed=packed)))
    np.testing.assert_array_equal(tensors["w"], weight)
    assert [(node.name, node.kind, node.inputs) for node in nodes] == [("/a/MatMul", "MatMul", ("x", "w"))]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no graph"),
        (b"\xff" * 20, "more than 10 bytes"),
        (varint(7 << 3 | 2) + varint(100) + b"x", "ends too early"),
        (varint(7 << 3 | 3), "wire type 3"),
        (model(tensor("w", np.ones(2), kind=10)), "type 10"),
        (model(field(5, field(1, 3) + field(2, 1) + field(8, b"w") + field(9, b"1234"))), "reshape"),
        (model(field(5, field(8, b"\xff"))), "utf-8"),
    ],
)
def test_what_is_not_onnx_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(UntrustedFile, match=says):
        read(data)


@given(st.binary(max_size=200), st.integers(0, 200))
def test_damaged_bytes_are_read_or_refused(noise: bytes, at: int) -> None:
    whole = model(NODE, tensor("w", np.ones((2, 3), np.float32)))
    for data in (noise, whole[:at], whole[:at] + noise):
        with contextlib.suppress(UntrustedFile):
            read(data)


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.lists(st.integers(0, 3), max_size=3), max_size=4))
def test_our_safetensors_are_safetensors(shapes: dict[str, list[int]]) -> None:
    from safetensors.numpy import load

    tensors = {name: np.full(shape, index, np.float32) for index, (name, shape) in enumerate(shapes.items()) if name != "__metadata__"}
    found = load(to_bytes(tensors))
    assert found.keys() == tensors.keys()
    for name, array in tensors.items():
        np.testing.assert_array_equal(found[name], array)


def test_an_unknown_converter_is_named() -> None:
    with pytest.raises(UsageError, match=r"dinov2-onxx.*Did you mean dinov2-onnx"):
        converter("dinov2-onxx")


def test_a_converter_that_gets_another_network_says_so(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(model(NODE, tensor("w", np.ones(2))))
    with pytest.raises(UntrustedFile, match="not the export that this converter knows"):
        converter("dinov2-onnx")({"model.onnx": tmp_path / "model.onnx"})
    positions = [tensor(name, np.ones((1, 1, 384))) for name in ("onnx::Concat_1957", "onnx::Reshape_1962")]
    (tmp_path / "model.onnx").write_bytes(model(NODE, *positions))
    with pytest.raises(UntrustedFile, match="gives 2 tensors of DINOv2"):
        converter("dinov2-onnx")({"model.onnx": tmp_path / "model.onnx"})


@pytest.fixture
def converting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Card:
    """A card whose raw file is doubled into a weights file."""
    archive = tmp_path / "raw.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("inner/raw.bin", b"abc")

    def twice(files: dict[str, Path]) -> dict[str, bytes]:
        return {"model.safetensors": files["raw.bin"].read_bytes() * 2}

    monkeypatch.setattr(converters, "converter", {"twice": twice}.__getitem__)
    return Card(
        name="doubled", title="", architecture="", modality="", licence="", parameters=0, converter="twice",
        files=(File("model.safetensors", hashlib.sha256(b"abcabc").hexdigest()),),
        raw=(File("raw.bin", hashlib.sha256(b"abc").hexdigest(), member="inner/raw.bin"),), sources=(Local(str(archive)),),
    )  # fmt: skip


def test_a_card_converts_once_and_keeps_only_the_result(converting: Card, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = converting.fetch()
    assert (place / "model.safetensors").read_bytes() == b"abcabc"
    assert not list(home.rglob("raw.bin"))
    monkeypatch.setattr(converters, "converter", None)
    assert converting.fetch() == place


def test_a_changed_result_is_refused_and_made_again(converting: Card) -> None:
    place = converting.fetch()
    (place / "model.safetensors").write_bytes(b"abcabd!")
    with pytest.raises(UntrustedFile, match=r"model\.safetensors of doubled was changed"):
        converting.fetch()
    assert (converting.fetch() / "model.safetensors").read_bytes() == b"abcabc"


def test_a_conversion_that_gives_something_else_is_refused(converting: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    for made in (b"other", b""):
        monkeypatch.setattr(converters, "converter", lambda name, made=made: lambda files: {"model.safetensors": made})
        with pytest.raises(UntrustedFile, match="the conversion gave a wrong"):
            converting.fetch()


@pytest.mark.real
def test_dinov2_equals_its_onnx_file(tmp_path: Path) -> None:
    import onnxruntime
    import torch

    from fmhub.artifacts import Artifact, fetch
    from fmhub.backbones.load import load

    known = card("dinov2-small")
    data = (fetch(Artifact("raw", known.raw, known.sources)) / "model.onnx").read_bytes()
    backbone = load(known.fetch(), card=known, sha256=known.sha256)
    assert backbone.missing == frozenset()
    assert sum(parameter.numel() for parameter in backbone.model.parameters()) == known.parameters
    last = b"/backbone/layernorm/Add_1_output_0"  # appended to a message, a field is merged into it: one more output
    data += field(7, field(12, field(1, last) + field(2, field(1, field(1, 1)))))
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    for seed in range(3):
        images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(seed))
        with torch.inference_mode():
            ours = backbone.model(images).last_hidden_state.numpy()
        theirs = session.run([last.decode()], {"input_image": images.numpy()})[0]
        assert np.abs(ours - theirs).max() < 5e-5  # of values up to 8
