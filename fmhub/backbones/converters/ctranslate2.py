"""Whisper (Radford et al. 2022, arXiv:2212.04356) from a CTranslate2 model file of format 6 in half precision, bit for bit."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fmhub.backbones.converters.tensors import to_bytes
from fmhub.errors import UntrustedFile

FORMAT = 6
TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
NAMES = (
    (r"position_encodings/encodings$", "embed_positions.weight"),
    (r"embeddings/weight$", "embed_tokens.weight"),
    (r"layer_(\d+)/", r"layers.\1."),
    (r"ffn/layer_norm/", "final_layer_norm."),
    (r"self_attention/layer_norm/", "self_attn_layer_norm."),
    (r"(?<!_)attention/layer_norm/", "encoder_attn_layer_norm."),
    (r"ffn/linear_0/", "fc1."),
    (r"ffn/linear_1/", "fc2."),
    (r"gamma$", "weight"),
    (r"beta$", "bias"),
    (r"/", "."),
)
"""What becomes what, in this order, in a name of CTranslate2's to make it one of transformers'."""
SOUND = {
    "feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 80, "sampling_rate": 16000, "hop_length": 160, "n_fft": 400,
    "chunk_length": 30,
}  # fmt: skip


def convert(files: Mapping[str, Path]) -> dict[str, bytes]:
    """config.json, preprocessor_config.json, tokenizer.json and model.safetensors (float16, as they were) of `model.bin`.

    A file that came in parts is `model.bin.part1`, `model.bin.part2` and so on.
    """
    names = sorted(name for name in files if name.startswith("model.bin"))
    found = read(b"".join(files[name].read_bytes() for name in names))
    state = {f"model.{name}": array for name, array in renamed(found).items()}
    tokenizer = files["tokenizer.json"].read_bytes()
    told: dict[str, Any] = json.loads(files["config.json"].read_bytes())
    texts = {"config.json": config(found, tokenizer, told), "preprocessor_config.json": SOUND}
    made = {name: (json.dumps(text, indent=1) + "\n").encode() for name, text in texts.items()}
    return {"model.safetensors": to_bytes(state), "tokenizer.json": tokenizer, **made}


def read(data: bytes) -> dict[str, np.ndarray]:
    """{name: array} of all variables. Raises `UntrustedFile` for a file that is not CTranslate2's of format 6.

    Version, name of the model's kind, its revision and a count (u32 each, texts with a u16 length and a closing NUL);
    then a variable: name, rank (u8), sizes (u32), type (u8), bytes (u32), data. Aliases stand last and are not needed.
    """
    at = 0

    def number(form: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize(form)
        return int(value)

    def block(size: int) -> bytes:
        nonlocal at
        if size > len(data) - at:
            raise ValueError("it ends too early")
        at += size
        return data[at - size : at]

    def name() -> str:
        return block(number("H")).removesuffix(b"\0").decode()

    try:
        if (version := number("I")) != FORMAT:
            raise ValueError(f"its format is {version}, known is {FORMAT}")
        if (kind := name()) != "WhisperSpec":
            raise ValueError(f"it holds a {kind[:40]!r}, not a WhisperSpec")
        number("I")
        found = {}
        for _ in range(number("I")):
            key, sizes = name(), [number("I") for _ in range(number("B"))]
            kind_of = TYPES[number("B")]
            found[key] = np.frombuffer(block(number("I")), kind_of).reshape(sizes)
    except (ValueError, KeyError, struct.error) as error:
        raise UntrustedFile(f"Not a CTranslate2 file that this converter knows: {error}.") from None
    return found


def renamed(found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The float16 tensors under transformers' names; the others say how to compute and are in the config."""
    state: dict[str, np.ndarray] = {}
    for key, array in found.items():
        if array.dtype != np.float16 or not array.ndim:
            continue
        attention = re.fullmatch(r"(\w+)/layer_(\d+)/(self_attention|attention)/linear_(\d)/(weight|bias)", key)
        if attention is None:
            name = key
            for pattern, better in NAMES:
                name = re.sub(pattern, better, name)
            state[name] = array
            continue
        side, layer, kind, place, what = attention.groups()
        fused = {"self_attention": ("qkv", "o"), "attention": ("q", "kv", "o")}[kind][int(place)]
        for letter, piece in zip(fused, np.split(array, len(fused)), strict=True):
            name = f"{side}.layers.{layer}.{'self_attn' if kind == 'self_attention' else 'encoder_attn'}."
            name += f"{'out' if letter == 'o' else letter}_proj.{what}"
            if (letter, what) != ("k", "bias"):
                state[name] = piece
            elif piece.any():
                raise UntrustedFile("A key has a bias, which Whisper has not: it is another network.")
    return state


def config(found: Mapping[str, np.ndarray], tokenizer: bytes, told: Mapping[str, Any]) -> dict[str, Any]:
    """WhisperConfig's fields, from the tensors' shapes and the tokenizer's special tokens; and the tokens that are no speech."""
    special = {one["content"]: int(one["id"]) for one in json.loads(tokenizer)["added_tokens"]}
    try:
        (vocabulary, width), ends = found["decoder/embeddings/weight"].shape, special["<|endoftext|>"]
        layers = {
            side: 1
            + max(int(key.split("/")[1][6:]) for key in found if key.startswith(f"{side}/layer_") and "/layer_norm/" not in key[:22])
            for side in ("encoder", "decoder")
        }
        return {
            "architectures": ["WhisperForConditionalGeneration"], "model_type": "whisper", "vocab_size": vocabulary, "d_model": width,
            "num_mel_bins": found["encoder/conv1/weight"].shape[1],
            **{f"{side}_layers": count for side, count in layers.items()},
            **{f"{side}_attention_heads": int(found[f"{side}/num_heads"]) for side in layers},
            **{f"{side}_ffn_dim": found[f"{side}/layer_0/ffn/linear_0/weight"].shape[0] for side in layers},
            "max_source_positions": len(found["encoder/position_encodings/encodings"]),
            "max_target_positions": len(found["decoder/position_encodings/encodings"]),
            "bos_token_id": ends, "eos_token_id": ends, "pad_token_id": ends, "decoder_start_token_id": special["<|startoftranscript|>"],
            "is_encoder_decoder": True, "suppress_ids": [int(one) for one in told.get("suppress_ids", [])],
        }  # fmt: skip
    except (KeyError, ValueError) as error:
        raise UntrustedFile(f"The file lacks {error}: it is not the Whisper that this converter knows.") from None
