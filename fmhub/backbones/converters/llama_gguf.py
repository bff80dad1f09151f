"""Llama-kind language models from GGUF, the format of llama.cpp: dequantised once, so that loading costs no more than any other.

`gguf` (an extra: fmhub[gguf]) reads the file and dequantises; names, the order of rotary halves and the tokenizer are turned
back into transformers' own. What quantisation lost stays lost; half precision loses less than a thousandth of that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fmhub.backbones.converters.tensors import to_bytes
from fmhub.errors import FmhubError, UntrustedFile

NAMES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}  # fmt: skip
WHOLE = {"token_embd.weight": "embed_tokens.weight", "output_norm.weight": "norm.weight"}
KIND = ("llama", "gpt2", "smollm")
"""The network, the kind of its tokenizer (byte pairs) and how that cuts text before it: digits one by one, then as GPT-2 does."""
SPECIAL = 3
"""The type of a token that is the model's own."""


def convert(files: Mapping[str, Path]) -> dict[str, bytes]:
    """config.json, tokenizer.json and model.safetensors (float16) of the one file. Raises `UntrustedFile` for another kind of model."""
    try:
        import gguf
    except ImportError:
        raise FmhubError("This backbone comes as GGUF, which needs gguf: pip install 'fmhub[gguf]'.") from None
    ((file, path),) = files.items()
    try:
        reader: Any = gguf.GGUFReader(path)
        told = {name: field.contents() for name, field in reader.fields.items()}
    except (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError) as error:
        raise UntrustedFile(f"{file} is not a GGUF file that can be read: {str(error)[:100]}.") from None
    found = tuple(str(told.get(key)) for key in ("general.architecture", "tokenizer.ggml.model", "tokenizer.ggml.pre"))
    if found != KIND:
        raise UntrustedFile(f"{file} is of kind {', '.join(found)}: only {', '.join(KIND)} is known.")
    heads = {"attn_q": int(told["llama.attention.head_count"]), "attn_k": int(told["llama.attention.head_count_kv"])}
    state = {}
    for tensor in reader.tensors:
        array = gguf.dequantize(tensor.data, tensor.tensor_type)
        _, _, part = tensor.name.partition(".")
        number, _, kind = part.rpartition(".")[0].partition(".")
        if tensor.name in WHOLE:
            name = WHOLE[tensor.name]
        elif kind in NAMES:
            name = f"layers.{number}.{NAMES[kind]}.weight"
            array = turned(array, heads[kind]) if kind in heads else array
        else:
            raise UntrustedFile(f"{file}: tensor {tensor.name!r} is none of a Llama's with tied embeddings.")
        state[name] = array.astype(np.float16)
    texts = {"config.json": config(told), "tokenizer.json": tokenizer(told)}
    return {"model.safetensors": to_bytes(state), **{name: (json.dumps(text) + "\n").encode() for name, text in texts.items()}}


def turned(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a head as pairs (llama.cpp's rotary positions) -> as two halves (transformers')."""
    return weight.reshape(heads, weight.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(weight.shape)


def config(told: Mapping[str, Any]) -> dict[str, Any]:
    """transformers' config of the same model."""
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "tie_word_embeddings": True,
        "vocab_size": len(told["tokenizer.ggml.tokens"]), "hidden_size": int(told["llama.embedding_length"]),
        "intermediate_size": int(told["llama.feed_forward_length"]), "num_hidden_layers": int(told["llama.block_count"]),
        "num_attention_heads": int(told["llama.attention.head_count"]), "num_key_value_heads": int(told["llama.attention.head_count_kv"]),
        "max_position_embeddings": int(told["llama.context_length"]), "rope_theta": float(told["llama.rope.freq_base"]),
        "rms_norm_eps": round(float(told["llama.attention.layer_norm_rms_epsilon"]), 12),
        "bos_token_id": int(told["tokenizer.ggml.bos_token_id"]), "eos_token_id": int(told["tokenizer.ggml.eos_token_id"]),
    }  # fmt: skip


def tokenizer(told: Mapping[str, Any]) -> dict[str, Any]:
    """tokenizer.json: byte pairs over bytes, digits one by one."""
    tokens, kinds = told["tokenizer.ggml.tokens"], told["tokenizer.ggml.token_type"]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    special = [number for number, kind in enumerate(kinds) if kind == SPECIAL]
    own = [{"id": number, "content": tokens[number], **flags} for number in special]
    as_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": own, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, as_bytes]},
        "post_processor": None, "decoder": as_bytes,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": {token: number for number, token in enumerate(tokens)}, "merges": told["tokenizer.ggml.merges"],
        },
    }  # fmt: skip
