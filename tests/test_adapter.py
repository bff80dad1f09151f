"""Placing adapters by one rule, and a file format that refuses whatever is not exactly its own."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from fmhub.backbones.adapter import attach, load_into, save, strict_json, trainable
from fmhub.backbones.encoder import Encoder
from fmhub.errors import UntrustedFile, UsageError
from fmhub.recipe import Adapter, Lora, Recipe
from fmhub.task import Reads

BATCH = {"input_ids": torch.arange(3, 15).view(2, 6), "attention_mask": torch.ones(2, 6, dtype=torch.long)}


def recipe(kind: str = "lora", seed: int = 0, **lora) -> Recipe:
    return Recipe(seed=seed, adapter=Adapter(kind=kind), lora=Lora(rank=4, **lora))


def attached(shaped, chosen: Recipe, kind: str = "bert") -> Encoder:
    backbone = shaped(kind)
    attach(backbone, chosen)
    return Encoder(backbone)


@pytest.mark.parametrize("kind", ["bert", "llama", "vit", "whisper"])
@pytest.mark.parametrize("method", ["lora", "rslora", "dora", "ia3"])
def test_an_adapter_starts_as_no_change(shaped, kind, method):
    torch.manual_seed(1)
    plain = shaped(kind)
    tuned = shaped(kind)
    attach(tuned, recipe(method))
    names = list(trainable(tuned.model))
    assert names
    assert all("lora_" in name or "ia3_" in name for name in names)
    if kind == "bert":
        assert torch.allclose(Encoder(plain)(BATCH, Reads()).x, Encoder(tuned)(BATCH, Reads()).x, atol=1e-5)
    assert all("decoder" not in name for name in names)


@pytest.mark.parametrize(
    ("value", "expected"), [("all", {0, 1, 2}), ("last:1", {2}), ("last:2", {1, 2}), ("last:9", {0, 1, 2}), ("head", set())]
)
def test_layers_that_carry_it(shaped, value, expected):
    names = trainable(attached(shaped, recipe(layers=value)))
    assert {int(name.split(".layer.")[1].split(".")[0]) for name in names} == expected


@pytest.mark.parametrize(
    ("lora", "expected"),
    [({}, 4), ({"layers": "last:9"}, 4), ({"layers": "last:1"}, 4 * 3**0.5), ({"alpha": 2, "layers": "last:1"}, 0.5), ({"alpha": 0}, 0)],
)
def test_fewer_layers_count_more_unless_alpha_is_given(shaped, lora, expected):
    found = [module.scaling["default"] for module in attached(shaped, recipe(**lora)).modules() if hasattr(module, "lora_A")]
    assert found and found == pytest.approx([expected] * len(found))


def test_targets_are_exact_names(shaped):
    names = trainable(attached(shaped, recipe(targets=("query", "value"))))
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in names} == {"query", "value"}
    for wrong in ("quer", "query|value", ".*", "attention.self.query"):
        with pytest.raises(UsageError, match="no linear layer is called"):
            attached(shaped, recipe(targets=(wrong,)))


def test_full_trains_everything_and_nothing_else_does(shaped):
    encoder = attached(shaped, recipe("full"))
    assert len(trainable(encoder)) == len(list(encoder.parameters()))
    assert encoder.train().model.training


@pytest.mark.parametrize(("layers", "expected"), [("last:1", {2}), ("head", set())])
def test_full_keeps_to_its_layers(shaped, layers, expected):
    encoder = attached(shaped, recipe("full", layers=layers))
    names = trainable(encoder)
    assert {int(name.split(".layer.")[1].split(".")[0]) for name in names} == expected
    assert len(names) == len(expected) * len(list(encoder.structure.layers[2].parameters()))


def test_what_the_checkpoint_lacked_is_trained_in_full(shaped):
    backbone = shaped("bert")
    backbone.missing = frozenset({"embeddings.position_embeddings.weight", "encoder.layer.2.output.dense.bias"})
    attach(backbone, recipe(layers="last:1"))
    full = {name for name in trainable(backbone.model) if "lora_" not in name}
    assert full == {"embeddings.position_embeddings.weight", "encoder.layer.2.output.dense.base_layer.bias"}


def test_the_seed_alone_decides_the_start(shaped):
    torch.manual_seed(5)
    one = trainable(attached(shaped, recipe(seed=1)))
    torch.manual_seed(6)
    two, other = trainable(attached(shaped, recipe(seed=1))), trainable(attached(shaped, recipe(seed=2)))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_frozen_parts_stay_in_eval_mode(shaped):
    encoder = attached(shaped, recipe(dropout=0.5)).train()
    active = {name for name, module in encoder.named_modules() if isinstance(module, torch.nn.Dropout) and module.training}
    assert active
    assert all("lora_dropout" in name for name in active)
    encoder.eval()
    assert not any(module.training for module in encoder.modules())


@pytest.fixture
def saved(shaped, tmp_path):
    encoder = attached(shaped, recipe(layers="last:1"))
    for parameter in trainable(encoder).values():
        parameter.data.normal_()
    path = tmp_path / "adapter" / "adapter.safetensors"
    save(path, trainable(encoder), {"task": "x"})
    return encoder, path


def test_round_trip_is_bit_exact(shaped, saved):
    encoder, path = saved
    fresh = attached(shaped, recipe(layers="last:1", seed=9))
    assert load_into(fresh, path) == {"task": "x"}
    assert all(torch.equal(tensor, trainable(fresh)[name]) for name, tensor in trainable(encoder).items())


def test_same_tensors_same_bytes(saved, tmp_path):
    encoder, path = saved
    save(tmp_path / "again.safetensors", dict(reversed(trainable(encoder).items())), {"task": "x"})
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def resign(path):
    """A forger rewrites the hash too."""
    sidecar = path.with_suffix(".json")
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}))


def changed(path, tensors):
    save_file(tensors, path)
    resign(path)


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('a pickle ran')",))


def tamper(how, path, tensors):
    first = min(tensors)
    if how == "extra":
        changed(path, {**tensors, "more": torch.zeros(1)})
    elif how == "missing":
        changed(path, {name: tensor for name, tensor in tensors.items() if name != first})
    elif how == "nan":
        tensors[first][0, 0] = float("nan")
        changed(path, tensors)
    elif how == "infinite":
        tensors[first][0, 0] = float("inf")
        changed(path, tensors)
    elif how == "shape":
        changed(path, {**tensors, first: tensors[first].T.contiguous()})
    elif how == "dtype":
        changed(path, {**tensors, first: tensors[first].half()})
    elif how == "pickle":
        path.write_bytes(pickle.dumps(Bomb()))
        resign(path)
    elif how == "torch pickle":
        torch.save(tensors, path)
        resign(path)
    elif how == "one bit":
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-4])
        resign(path)
    elif how == "empty":
        path.write_bytes(b"")
        resign(path)
    elif how == "huge":
        with path.open("r+b") as file:
            file.truncate(1 << 33)
    elif how == "many":
        header = json.dumps({f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(100_000)}).encode()
        path.write_bytes(struct.pack("<Q", len(header)) + header)
    elif how in ("duplicate", "deep", "not an object", "wrong offsets"):
        data = path.read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        header, body = data[8 : 8 + size].strip(), data[8 + size :]
        if how == "duplicate":
            header = header[:-1] + b"," + header[1:]
        elif how == "deep":
            header = b"[" * 3000
        elif how == "not an object":
            header = b"[1]"
        else:
            header = header.replace(b'"data_offsets":[0,', b'"data_offsets":[1,')
        path.write_bytes(struct.pack("<Q", len(header)) + header + body)
        resign(path)
    elif how == "no json":
        path.with_suffix(".json").unlink()
    elif how == "json nan":
        path.with_suffix(".json").write_text('{"format": NaN}')
    elif how == "json huge":
        path.with_suffix(".json").write_text(" " * (2 << 20))
    elif how == "json other":
        path.with_suffix(".json").write_text('{"format": 2}')
    elif how == "json deep":
        path.with_suffix(".json").write_text("[" * 100_000)


ATTACKS = [
    "extra", "missing", "nan", "infinite", "shape", "dtype", "pickle", "torch pickle", "one bit", "cut", "empty", "huge", "many",
    "duplicate", "deep", "not an object", "wrong offsets", "no json", "json nan", "json huge", "json other", "json deep",
]  # fmt: skip


@pytest.mark.parametrize("how", ATTACKS)
def test_a_tampered_adapter_is_refused_at_once(saved, how):
    encoder, path = saved
    before = {name: tensor.detach().clone() for name, tensor in trainable(encoder).items()}
    tamper(how, path, {name: tensor.clone() for name, tensor in before.items()})
    started = time.process_time()
    with pytest.raises(UntrustedFile) as caught:
        load_into(encoder, path)
    assert time.process_time() - started < 0.5
    assert "\n" not in str(caught.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in trainable(encoder).items())


def test_an_adapter_of_another_recipe_is_refused(shaped, saved):
    for other in (recipe(layers="all"), recipe("dora", layers="last:1"), replace(recipe(), lora=Lora(rank=8, layers="last:1"))):
        with pytest.raises(UntrustedFile):
            load_into(attached(shaped, other), saved[1])


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', "[NaN]", "[Infinity]", "[-Infinity]", "[" * 50_000, "", "\ufeff{}"])
def test_strict_json_refuses(text):
    with pytest.raises(ValueError, match=r".+"):
        strict_json(text.encode())
