"""Llama from GGUF: made-up files written by gguf itself, others refused, tokens beside a tokenizer of our own, and the real one."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import regex
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fmhub.backbones import card
from fmhub.backbones.converters import converter
from fmhub.backbones.load import load
from fmhub.errors import UntrustedFile

SHAPE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
WORDS = ["th", "the", "Ġt", "Ġthe", "in", "ing", "Ġ1", "Ã©"]
MERGES = ["t h", "th e", "Ġ t", "Ġ the", "i n", "in g", "Ġ 1", "Ã ©"]
SPECIAL = ["<|endoftext|>", "<|im_start|>"]
STRINGS = (
    "", " ", "the thing", "  the\n\n  thing ", "It's 1234 o'clock", "naïve — “x” 漢字 😀", "\t%PRODUCTNAME<b>$(ARG1)</b>", "1,000.50 ١٢",
    "I'LL we'll", "a\u00a0b\u3000c", "x<|endoftext|>y",
)  # fmt: skip


def model() -> Any:
    from transformers import LlamaConfig, LlamaModel

    torch.manual_seed(0)
    return LlamaModel(LlamaConfig(**SHAPE, vocab_size=len(vocabulary()), max_position_embeddings=128, rope_theta=5000.0, rms_norm_eps=1e-5))


def letters() -> dict[int, str]:
    """GPT-2's printable letter of every byte (Radford et al. 2019)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {**{byte: chr(byte) for byte in plain}, **{byte: chr(256 + place) for place, byte in enumerate(rest)}}


def vocabulary() -> list[str]:
    return [*SPECIAL, *sorted(letters().values()), *WORDS]


def written(path: Path, network: Any, kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32, **other: str) -> Path:
    """The network as llama.cpp's own converter lays it out."""
    told = {"architecture": "llama", "tokenizer": "gpt2", "pre": "smollm", **other}
    writer = gguf.GGUFWriter(path, told["architecture"])
    writer.add_block_count(SHAPE["num_hidden_layers"])
    writer.add_context_length(128)
    writer.add_embedding_length(SHAPE["hidden_size"])
    writer.add_feed_forward_length(SHAPE["intermediate_size"])
    writer.add_head_count(SHAPE["num_attention_heads"])
    writer.add_head_count_kv(SHAPE["num_key_value_heads"])
    writer.add_rope_freq_base(5000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model(told["tokenizer"])
    writer.add_tokenizer_pre(told["pre"])
    writer.add_token_list(vocabulary())
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(vocabulary()) - len(SPECIAL)))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    names = {
        "embed_tokens": "token_embd", "norm": "output_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    for name, tensor in network.state_dict().items():
        array, part = tensor.numpy(), name.removesuffix(".weight")
        if part.startswith("layers."):
            _, number, part = part.split(".", 2)
            heads = {"q": SHAPE["num_attention_heads"], "k": SHAPE["num_key_value_heads"]}.get(part.removeprefix("self_attn.")[0])
            if part in ("self_attn.q_proj", "self_attn.k_proj"):
                array = array.reshape(heads, 2, len(array) // heads // 2, -1).swapaxes(1, 2).reshape(array.shape)
            name = f"blk.{number}.{names[part]}.weight"
        else:
            name = other.get("rename", f"{names[part]}.weight")
        if array.ndim == 1 or kind == gguf.GGMLQuantizationType.F32:
            writer.add_tensor(name, np.ascontiguousarray(array))
        else:
            writer.add_tensor(name, gguf.quantize(np.ascontiguousarray(array), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def made(folder: Path, path: Path) -> Path:
    place = folder / "made"
    place.mkdir(exist_ok=True)
    for name, data in converter("llama-gguf")({path.name: path}).items():
        (place / name).write_bytes(data)
    return place


@pytest.mark.parametrize(("kind", "near"), [("F32", 2e-3), ("Q8_0", 0.05), ("Q4_1", 0.5)])
def test_a_file_becomes_the_network_that_it_was_made_of(tmp_path, kind, near):
    network = model().eval()
    place = made(tmp_path, written(tmp_path / "model.gguf", network, getattr(gguf.GGMLQuantizationType, kind)))
    found = load(place, sha256="0" * 64)
    assert found.missing == frozenset() and found.max_length == 128 and found.model.config.rms_norm_eps == 1e-5
    ids = torch.randint(0, len(vocabulary()), (2, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, theirs = (one(input_ids=ids).last_hidden_state for one in (found.model, network))
    assert float((ours - theirs).abs().max()) < near
    assert converter("llama-gguf")({"x.gguf": tmp_path / "model.gguf"})["model.safetensors"] == (place / "model.safetensors").read_bytes()


CUT = r"\p{N}", r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""How llama.cpp cuts text for `smollm`: each digit by itself, and what is between as GPT-2 does."""


def encoded(text: str, tokens: list[str], merges: list[str], special: list[str]) -> list[str]:
    """Byte pairs, read off the paper (Sennrich et al. 2016, P16-1162): the first of the merges that applies, until none does."""
    ranks = {tuple(pair.split(" ")): rank for rank, pair in enumerate(merges)}
    known, byte, found = set(tokens), letters(), []
    for piece in regex.split("(" + "|".join(map(regex.escape, special)) + ")", text):
        if piece in special:
            found.append(piece)
            continue
        for run in (run for run in regex.split(f"({CUT[0]})", piece) if run):
            for word in [run] if regex.fullmatch(CUT[0], run) else regex.findall(CUT[1], run):
                parts = [byte[one] for one in word.encode()]
                while pairs := [(ranks[pair], at) for at, pair in enumerate(itertools.pairwise(parts)) if pair in ranks]:
                    _, at = min(pairs)
                    parts[at : at + 2] = [parts[at] + parts[at + 1]]
                assert known.issuperset(parts)
                found += parts
    return found


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    return load(made(folder, written(folder / "model.gguf", model())), sha256="0" * 64).tokenizer()


@pytest.mark.parametrize("text", STRINGS)
def test_text_is_cut_as_expected(tokenizer, text):
    found = tokenizer.encode(text)
    assert found.tokens == encoded(text, vocabulary(), MERGES, SPECIAL)
    assert tokenizer.decode(found.ids, skip_special_tokens=False) == text


@settings(max_examples=300)
@given(st.text(max_size=40) | st.text(alphabet="the ing'sd123\n é", max_size=40))
def test_any_text_is_cut_as_expected_and_put_together_again(tokenizer, text):
    found = tokenizer.encode(text)
    assert found.tokens == encoded(text, vocabulary(), MERGES, SPECIAL)
    assert tokenizer.decode(found.ids, skip_special_tokens=False) == text


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"architecture": "gpt2"}, "kind gpt2, gpt2, smollm"),
        ({"tokenizer": "llama"}, "kind llama, llama"),
        ({"pre": "qwen2"}, "smollm, qwen2|qwen2: only"),
        ({"rename": "output.weight"}, "'output.weight' is none"),
    ],
)
def test_other_models_are_refused(tmp_path, other, says):
    path = written(tmp_path / "m.gguf", torch.nn.ModuleDict({"norm": torch.nn.LayerNorm(4, bias=False)}), **other)
    with pytest.raises(UntrustedFile, match=says):
        converter("llama-gguf")({"m.gguf": path})


@pytest.mark.parametrize("data", [b"", b"GGUF", b"x" * 300, b"GGUF" + b"\x03\0\0\0" + b"\xff" * 64])
def test_what_is_no_gguf_is_refused(tmp_path, data):
    (tmp_path / "m.gguf").write_bytes(data)
    with pytest.raises(UntrustedFile, match="not a GGUF"):
        converter("llama-gguf")({"m.gguf": tmp_path / "m.gguf"})


@pytest.mark.real
def test_the_real_one_is_what_transformers_reads_from_the_same_file(tmp_path):
    """Every weight within float16 of transformers' own reading, 10,000 real strings cut as expected, and it speaks English."""
    from transformers import AutoModelForCausalLM

    from fmhub.artifacts import Artifact, fetch

    known = card("smollm2-135m")
    folder = fetch(Artifact("raw", known.raw, known.sources))
    found = load(known.fetch(), card=known, sha256=known.sha256)
    assert found.missing == frozenset() and sum(one.numel() for one in found.model.parameters()) == known.parameters
    theirs = AutoModelForCausalLM.from_pretrained(folder, gguf_file=known.raw[0].name).state_dict()
    for name, tensor in found.model.state_dict().items():
        other = theirs[f"model.{name}"].float()
        assert float((tensor - other).abs().max()) <= 2**-11 * max(2**-13, float(other.abs().max())), name
    told = json.loads((known.fetch() / "tokenizer.json").read_text("utf-8"))
    tokens, special = list(told["model"]["vocab"]), [one["content"] for one in told["added_tokens"]]
    root = Path(__file__).parent.parent / "plugins/fmhub-translation/src/fmhub_translation/data/en-zh.tsv.gz"
    lines = gzip.decompress(root.read_bytes()).decode().splitlines()
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in told["model"]["merges"]]
    for text in (*STRINGS, *lines[:10_000]):
        assert found.tokenizer().encode(text).tokens == encoded(text, tokens, merges, special), text
    with torch.no_grad():
        ids = torch.tensor([found.tokenizer().encode("The capital of France is").ids])
        logits = found.model(input_ids=ids).last_hidden_state[0, -1] @ found.model.embed_tokens.weight.T
    assert found.tokenizer().decode([int(logits.argmax())]) == " Paris"
