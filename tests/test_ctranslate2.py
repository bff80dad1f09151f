"""Whisper from CTranslate2: made-up files, damaged ones, and every value of the real ones."""

from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmhub.backbones import card
from fmhub.backbones.converters import converter
from fmhub.backbones.converters.ctranslate2 import read, renamed
from fmhub.errors import UntrustedFile

KINDS = {"float16": 4, "int16": 2, "int8": 1, "float32": 0}


def packed(tensors: dict[str, np.ndarray], *, version: int = 6, spec: bytes = b"WhisperSpec") -> bytes:
    def text(value: bytes) -> bytes:
        return struct.pack("<H", len(value) + 1) + value + b"\0"

    out = struct.pack("<I", version) + text(spec) + struct.pack("<II", 3, len(tensors))
    for name, array in tensors.items():
        sizes = struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        out += text(name.encode()) + sizes + struct.pack("<BI", KINDS[array.dtype.name], array.nbytes) + array.tobytes()
    return out + struct.pack("<I", 1) + text(b"decoder/projection/weight") + text(b"decoder/embeddings/weight")


def whisper(width: int = 4, mels: int = 3, inner: int = 6, vocabulary: int = 9) -> dict[str, np.ndarray]:
    """The variables of a Whisper of one layer a side; no two values are alike within 2,048."""
    count = iter(range(1, 1 << 20))

    def made(*shape: int) -> np.ndarray:
        return np.array([next(count) % 2048 for _ in range(int(np.prod(shape)))], np.float16).reshape(shape)

    def norm(at: str) -> dict[str, np.ndarray]:
        return {f"{at}/layer_norm/beta": made(width), f"{at}/layer_norm/gamma": made(width)}

    def linear(at: str, out: int, inward: int) -> dict[str, np.ndarray]:
        return {f"{at}/weight": made(out, inward), f"{at}/bias": made(out)}

    found = {"decoder/embeddings/weight": made(vocabulary, width), "encoder/conv1/bias": made(width), "encoder/conv2/bias": made(width)}
    found["encoder/conv1/weight"], found["encoder/conv2/weight"] = made(width, mels, 3), made(width, width, 3)
    for side in ("encoder", "decoder"):
        at = f"{side}/layer_0"
        found |= {f"{side}/position_encodings/encodings": made(8, width), **norm(side), f"{side}/num_heads": np.array(2, np.int16)}
        found |= {**norm(f"{at}/ffn"), **linear(f"{at}/ffn/linear_0", inner, width), **linear(f"{at}/ffn/linear_1", width, inner)}
        for kind, sizes in (("self_attention", (3, 1)), ("attention", (1, 2, 1))) if side == "decoder" else (("self_attention", (3, 1)),):
            found |= norm(f"{at}/{kind}")
            for place, size in enumerate(sizes):
                found |= linear(f"{at}/{kind}/linear_{place}", size * width, width)
        found[f"{at}/self_attention/linear_0/bias"][width : 2 * width] = 0
    found["decoder/layer_0/attention/linear_1/bias"][:width] = 0
    return found


def given_files(folder: Path, data: bytes, parts: int = 1) -> dict[str, Path]:
    texts = {
        "config.json": json.dumps({"suppress_ids": [1, 2]}).encode(),
        "tokenizer.json": json.dumps(
            {"added_tokens": [{"id": 7, "content": "<|endoftext|>"}, {"id": 8, "content": "<|startoftranscript|>"}]}
        ).encode(),
    }
    half = len(data) // 2
    texts |= {"model.bin": data} if parts == 1 else {"model.bin.part1": data[:half], "model.bin.part2": data[half:]}
    for name, text in texts.items():
        (folder / name).write_bytes(text)
    return {name: folder / name for name in texts}


@pytest.mark.parametrize("parts", [1, 2])
def test_a_file_becomes_a_whisper_that_transformers_loads(tmp_path: Path, parts: int) -> None:
    from fmhub.backbones.load import load

    tensors = whisper()
    made = converter("whisper-ctranslate2")(given_files(tmp_path, packed(tensors), parts))
    folder = tmp_path / "made"
    folder.mkdir()
    for name, data in made.items():
        (folder / name).write_bytes(data)
    backbone = load(folder, sha256="0" * 64)
    assert backbone.missing == frozenset() and (backbone.width, backbone.layer_count) == (4, 1)
    assert backbone.model.config.suppress_ids == [1, 2] and backbone.model.config.decoder_start_token_id == 8
    attention = backbone.model.decoder.layers[0].encoder_attn
    fused = tensors["decoder/layer_0/attention/linear_1/weight"]
    np.testing.assert_array_equal(attention.k_proj.weight.numpy(), fused[:4])
    np.testing.assert_array_equal(attention.v_proj.weight.numpy(), fused[4:])
    assert attention.k_proj.bias is None
    norm = backbone.model.decoder.layers[0].encoder_attn_layer_norm
    np.testing.assert_array_equal(norm.weight.numpy(), tensors["decoder/layer_0/attention/layer_norm/gamma"])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "unpack"),
        (packed({}, version=7), "format is 7"),
        (packed({}, spec=b"TransformerSpec"), "TransformerSpec"),
        (packed(whisper())[:400], "ends too early|unpack_from"),
    ],
)
def test_what_is_not_whisper_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(UntrustedFile, match=says):
        read(data)


def test_a_key_with_a_bias_and_a_file_without_layers_are_refused(tmp_path: Path) -> None:
    tensors = whisper()
    tensors["encoder/layer_0/self_attention/linear_0/bias"][4] = 1
    with pytest.raises(UntrustedFile, match="A key has a bias"):
        renamed(tensors)
    with pytest.raises(UntrustedFile, match="lacks 'decoder/embeddings/weight'"):
        converter("whisper-ctranslate2")(given_files(tmp_path, packed({})))


@given(st.binary(max_size=100), st.integers(0, 400))
def test_damaged_bytes_are_read_or_refused(noise: bytes, at: int) -> None:
    whole = packed({"a/weight": np.ones((2, 3), np.float16), "b/weight": np.ones(2, np.float16)})
    for data in (noise, whole[:at], whole[:at] + noise):
        with contextlib.suppress(UntrustedFile):
            read(data)


@pytest.mark.real
@pytest.mark.parametrize("name", ["whisper-tiny-en", "whisper-base"])
def test_the_real_ones_are_the_same_bit_for_bit(name: str) -> None:
    """Every parameter, cast back to half precision and put together again, is the file's."""
    from fmhub.artifacts import Artifact, fetch
    from fmhub.backbones.load import load

    known = card(name)
    folder = fetch(Artifact("raw", known.raw, known.sources))
    found = read(b"".join((folder / file.name).read_bytes() for file in known.raw if file.name.startswith("model.bin")))
    backbone = load(known.fetch(), card=known, sha256=known.sha256)
    model = {key: tensor.half().numpy() for key, tensor in backbone.model.state_dict().items()}
    assert backbone.missing == frozenset()
    assert sum(parameter.numel() for parameter in backbone.model.parameters()) == known.parameters
    state = renamed(found)
    assert state.keys() == model.keys()
    for key, array in state.items():
        assert array.tobytes() == model[key].tobytes(), key
    for side, kind, theirs in (("encoder", "self_attention", "self_attn"), ("decoder", "attention", "encoder_attn")):
        fused = found[f"{side}/layer_1/{kind}/linear_{0 if side == 'encoder' else 1}/weight"]
        letters = "qkv" if side == "encoder" else "kv"
        pieces = [model[f"{side}.layers.1.{theirs}.{letter}_proj.weight"] for letter in letters]
        assert np.concatenate(pieces).tobytes() == fused.tobytes()
