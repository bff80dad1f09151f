"""Loading by structure, and the encoder's module path: prefix replay is exact for every architecture."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import transformers

from fmhub.backbones.encoder import Encoder
from fmhub.backbones.load import load
from fmhub.backbones.structure import causal
from fmhub.errors import FmhubError, UsageError
from fmhub.task import Reads

KINDS = ["bert", "roberta", "llama", "vit", "dinov2", "whisper"]


def inputs(kind: str, *, examples: int = 3, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    if kind in ("vit", "dinov2"):
        return {"pixel_values": torch.randn(examples, 3, 16, 16, generator=generator)}
    if kind == "whisper":
        return {"input_features": torch.randn(examples, 8, 20, generator=generator)}
    mask = torch.ones(examples, 7, dtype=torch.long)
    mask[1:, 5:] = 0
    return {"input_ids": torch.randint(3, 100, (examples, 7), generator=generator), "attention_mask": mask}


@pytest.mark.parametrize("kind", KINDS)
def test_structure_is_found(shaped, kind):
    backbone = shaped(kind)
    assert (backbone.width, backbone.layer_count) == (32, 3)
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    assert not backbone.model.training


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start", [1, 2, 3])
def test_replaying_a_prefix_changes_no_bit(shaped, kind, start):
    encoder, batch = Encoder(shaped(kind)), inputs(kind)
    encoder.packed = None
    hidden, mask = encoder.prefix(batch, start)
    for tokens in ("first", "mean", "last", "all"):
        whole = encoder(batch, Reads(tokens)).x
        for given in (hidden, hidden[mask]):
            part = encoder(batch, Reads(tokens), hidden=given, start=start).x
            if tokens == "all":
                whole, part = whole * mask[..., None], part * mask[..., None]
            assert torch.equal(whole, part)


@pytest.mark.parametrize("kind", ["bert", "vit", "llama"])
@pytest.mark.parametrize("packed", [True, False])
def test_prefix_is_the_models_own_hidden_state(shaped, kind, packed):
    encoder, batch = Encoder(shaped(kind)), inputs(kind)
    if not packed:
        encoder.packed = None
    states = encoder.model(**batch, output_hidden_states=True).hidden_states
    hidden, mask = encoder.prefix(batch, 2)
    assert torch.allclose(hidden[mask], states[2][mask], atol=1e-6)
    assert (packed and kind != "llama") or torch.allclose(hidden, states[2], atol=1e-6)


def test_reads_several_layers(shaped):
    encoder, batch = Encoder(shaped("bert")), inputs("bert")
    states = encoder.model(**batch, output_hidden_states=True).hidden_states
    got = encoder(batch, Reads("first", layers=(-1, -2, -3))).x
    for one, state in zip(got, (states[-1], states[-2], states[-3]), strict=True):
        assert torch.allclose(one, state[:, 0], atol=1e-6)


@pytest.mark.parametrize("kind", [*KINDS, "electra"])
def test_a_causal_model_is_known_by_what_its_tokens_know(shaped, kind):
    assert causal(shaped(kind).model) == (kind == "llama")


def test_reads_leave_padding_out(shaped):
    encoder, batch = Encoder(shaped("bert")), inputs("bert")
    alone = {name: tensor[1:2, :5] for name, tensor in batch.items()}
    for tokens in ("first", "mean", "last"):
        assert torch.allclose(encoder(batch, Reads(tokens)).x[1:2], encoder(alone, Reads(tokens)).x, atol=1e-6)


def test_mask_shrinks_with_the_models_input(shaped):
    encoder, batch = Encoder(shaped("whisper")), inputs("whisper")
    batch["attention_mask"] = torch.ones(3, 20, dtype=torch.long)
    batch["attention_mask"][0, 12:] = 0
    features = encoder(batch, Reads("all"))
    assert features.mask.sum(1).tolist() == [6, 10, 10]


def test_replay_leaves_the_model_as_it_was(shaped):
    encoder, batch = Encoder(shaped("bert")), inputs("bert")
    encoder.packed = None
    before, names = encoder(batch, Reads()).x, list(encoder.state_dict())
    hidden, _ = encoder.prefix(batch, 2)
    with pytest.raises(AttributeError):
        encoder({**batch, "input_ids": "nonsense"}, Reads(), hidden=hidden, start=2)
    assert list(encoder.state_dict()) == names
    assert torch.equal(encoder(batch, Reads()).x, before)


def test_saved_weights_come_back_and_loading_is_repeatable(shaped):
    backbone = shaped("bert", save=True)
    again = load(backbone.folder, sha256="0" * 64)
    assert backbone.missing == frozenset()
    for name, parameter in backbone.model.named_parameters():
        assert torch.equal(parameter, again.model.get_parameter(name))


def test_what_the_checkpoint_lacks_is_named_and_repeatable(shaped):
    shaped("vit", save=True)
    folder = shaped("vit", save=True).folder
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "image_size": 32}))
    one, two = (load(folder, sha256="0" * 64) for _ in range(2))
    assert one.missing == {"embeddings.position_embeddings"}
    assert torch.equal(one.model.embeddings.position_embeddings, two.model.embeddings.position_embeddings)


def test_options_change_the_config(shaped):
    folder = shaped("vit").folder
    assert load(folder, sha256="", options={"image_size": 32}, random=True).model.config.image_size == 32
    with pytest.raises(UsageError, match="image_size"):
        load(folder, sha256="", options={"image_sise": 32}, random=True)


def test_max_length(shaped):
    assert shaped("bert").max_length == 64
    assert shaped("roberta").max_length == 64
    assert shaped("vit").max_length == 1 << 20


@pytest.mark.parametrize(
    "spoil", ["no config", "no weights", "pickle only", "cut", "unknown type", "remote code", "adapter", "other weights"]
)
def test_unusable_folders_are_one_line(shaped, spoil):
    folder: Path = shaped("bert", save=True).folder
    weights, config = folder / "model.safetensors", folder / "config.json"
    if spoil == "no config":
        config.unlink()
    elif spoil == "no weights":
        weights.unlink()
    elif spoil == "pickle only":
        torch.save({}, folder / "pytorch_model.bin")
        weights.unlink()
    elif spoil == "cut":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif spoil == "unknown type":
        config.write_text('{"model_type": "nobody-knows"}')
    elif spoil == "remote code":
        config.write_text('{"model_type": "mine", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}')
        (folder / "evil.py").write_text("raise SystemExit('remote code ran')")
    elif spoil == "adapter":
        (folder / "adapter_config.json").write_text("{}")
    else:
        from safetensors.torch import save_file

        save_file({"nothing": torch.zeros(2)}, weights, metadata={"format": "pt"})
    with pytest.raises(FmhubError) as caught:
        load(folder, sha256="")
    assert "\n" not in str(caught.value)


def test_no_list_of_layers_is_said():
    from fmhub.backbones.structure import find

    config = transformers.AlbertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, embedding_size=8)
    with pytest.raises(FmhubError, match="AlbertModel has no single list"):
        find(transformers.AlbertModel(config))


def test_no_tokenizer_is_said(shaped):
    with pytest.raises(FmhubError, match=r"no tokenizer\.json"):
        shaped("vit").tokenizer()


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_threads_share_one_encoder(shaped, kind):
    encoder, batch = Encoder(shaped(kind)), inputs(kind)
    expected = encoder(batch, Reads()).x
    with ThreadPoolExecutor(8) as pool:
        for number, got in enumerate(pool.map(lambda number: _mixed(encoder, batch, number), range(80))):
            assert torch.equal(got, expected), number


def _mixed(encoder, batch, number):
    if number % 4 == 0:
        encoder.prefix(batch, number % 3)
    if number % 4 == 1:
        encoder._padded(batch, Reads("first", (-1, -2)), None, 0)
    with torch.no_grad():
        return encoder(batch, Reads()).x
