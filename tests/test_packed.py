"""The packed path gives what the module path gives, forward and backward, for shapes drawn at random."""

from __future__ import annotations

import runpy
from pathlib import Path
from unittest import mock

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fmhub.backbones.adapter import attach, trainable
from fmhub.backbones.attention import Attention, Groups, attend, attend_once
from fmhub.backbones.encoder import Encoder
from fmhub.backbones.linear import Affine, LoraLinear
from fmhub.backbones.packed import Packed, block, packable
from fmhub.recipe import Adapter, Lora, Recipe
from fmhub.task import Reads

PLAIN = ["bert", "roberta", "vit", "dinov2"]


def batch(kind: str, lengths: list[int], seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    if kind in ("vit", "dinov2"):
        return {"pixel_values": torch.randn(len(lengths), 3, 16, 16, generator=generator)}
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(3, 100, tuple(mask.shape), generator=generator)
    return {"input_ids": torch.where(mask == 1, ids, 1 if kind == "roberta" else 0), "attention_mask": mask}


def encoder(shaped, kind: str, method: str = "lora", layers: str = "all", dropout: float = 0.0) -> Encoder:
    backbone = shaped(kind)
    attach(backbone, Recipe(adapter=Adapter(kind=method), lora=Lora(rank=3, alpha=16, layers=layers, dropout=dropout)))
    made = Encoder(backbone)
    torch.manual_seed(3)
    for name, parameter in trainable(made).items():
        if "lora_" in name or "ia3_" in name:
            parameter.data += torch.randn_like(parameter) * 0.1  # LoRA starts at zero, where half of it has no gradient
    return made


def both(made: Encoder, inputs, reads: Reads, **replay):
    """(state, gradients) of the packed and of the module path, padding left out."""
    results = []
    packed = made.packed
    for made.packed in (packed, None):
        features = made(inputs, reads, **replay)
        states = features.x if isinstance(features.x, tuple) else (features.x,)
        if features.mask is not None:
            states = tuple(state * features.mask[..., None] for state in states)
        loss = sum((state * torch.linspace(-1, 1, state.numel()).view_as(state)).sum() for state in states)
        named = trainable(made)
        gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True) if loss.requires_grad else [None] * len(named)
        results.append((states, dict(zip(named, gradients, strict=True))))
    made.packed = packed
    assert packed.agrees
    return results


def assert_same(results) -> None:
    (states, gradients), (expected_states, expected) = results
    for one, two in zip(states, expected_states, strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)
    # rounding is relative to what was summed: one scale for all, since a key's gradient is a small difference of large terms
    scale = max([1.0, *(float(gradient.abs().max()) for gradient in expected.values() if gradient is not None)])
    for name, gradient in expected.items():
        if gradient is None or gradients[name] is None:  # packed may leave out what has no effect
            assert gradient is None or not gradient.any(), name
        else:
            torch.testing.assert_close(
                gradients[name] / scale, gradient / scale, atol=1e-5, rtol=1e-5, msg=lambda text, name=name: name + text
            )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(PLAIN),
    tokens=st.sampled_from(["first", "mean", "last", "all"]),
    read=st.sampled_from([(-1,), (-1, -2), (-3,), (-2, -1)]),
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=7),
    layers=st.sampled_from(["all", "last:1", "last:2"]),
    start=st.integers(0, 3),
    flat=st.booleans(),
    even=st.sampled_from([1, 8, 32]),
)
def test_equal_to_the_module_path(shaped, kind, tokens, read, lengths, layers, start, flat, even):
    made, inputs = encoder(shaped, kind, layers=layers).train(), batch(kind, lengths)
    start = min(start, min((3 + layer for layer in read if layer != -1), default=3))
    replay = {}
    if start:
        hidden, mask = made.prefix(inputs, start)
        replay = {"hidden": hidden[mask] if flat else hidden, "start": start}
    with mock.patch("fmhub.backbones.packed.EVEN", even):
        assert_same(both(made, inputs, Reads(tokens, read), **replay))


def test_products_see_few_shapes(shaped, monkeypatch):
    made, seen = encoder(shaped, "bert"), set()
    apply = LoraLinear.apply
    monkeypatch.setattr(LoraLinear, "apply", lambda x, *parts: seen.add(len(x)) or apply(x, *parts))
    made(batch("bert", [4, 2]), Reads("mean"))
    assert made.packed.agrees
    for count in range(1, 12):
        made(batch("bert", [9] * count + [3]), Reads("mean"))
    assert seen == {32, 64, 96, 128}


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(PLAIN),
    read=st.sampled_from([(-1,), (-1, -2), (-1, -3, -2)]),
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=7),
    start=st.integers(1, 3),
)
def test_a_prefix_is_the_module_paths(shaped, kind, read, lengths, start):
    made, inputs = encoder(shaped, kind).eval(), batch(kind, lengths)
    hidden, mask = made.prefix(inputs, start, Reads("all", read))
    assert made.packed.agrees
    made.packed = None
    expected, same = made.prefix(inputs, start, Reads("all", read))
    assert torch.equal(mask, same)
    assert hidden.shape == expected.shape
    torch.testing.assert_close(hidden[mask], expected[mask], atol=1e-5, rtol=1e-5)
    assert not hidden[~mask].any()


@pytest.mark.parametrize("tokens", ["mean", "first"])
@pytest.mark.parametrize("kind", PLAIN)
def test_bfloat16_is_as_near_as_the_module_paths(shaped, kind, tokens):
    """Both against float32: the packed path rounds no more than autocast of the model's own forward does."""
    made, inputs = encoder(shaped, kind).eval(), batch(kind, [5, 9, 2, 9])
    _, (exact, wanted) = both(made, inputs, Reads(tokens))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        results = both(made, inputs, Reads(tokens))
    errors = [
        (
            (states[0] - exact[0]).norm() / exact[0].norm(),
            torch.stack([(gradients[name] - one).norm() for name, one in wanted.items()]).norm()
            / torch.stack([one.norm() for one in wanted.values()]).norm(),
        )
        for states, gradients in results
    ]
    for ours, theirs in zip(*errors, strict=True):
        assert 1e-4 < ours < max(2 * theirs, 0.01)
    assert all(gradient.dtype == torch.float32 for gradient in results[0][1].values())


@pytest.mark.parametrize("kind", ["bert", "vit"])
@pytest.mark.parametrize("method", ["lora", "rslora", "dora", "ia3", "full"])
@pytest.mark.parametrize("tokens", ["mean", "first"])
def test_every_kind_of_adapter(shaped, kind, method, tokens):
    made = encoder(shaped, kind, method).eval()
    assert_same(both(made, batch(kind, [5, 9, 2]), Reads(tokens)))
    if method != "full":
        before = made(batch(kind, [5, 9, 2]), Reads(tokens)).x
        for module in made.modules():
            if hasattr(module, "merged"):
                module.merge()
        assert_same(results := both(made, batch(kind, [5, 9, 2]), Reads(tokens)))
        torch.testing.assert_close(results[0][0][0], before, atol=1e-5, rtol=1e-5)


def test_long_groups_take_torchs_kernel(shaped, monkeypatch):
    monkeypatch.setattr("fmhub.backbones.attention.LONG", 4)
    assert_same(both(encoder(shaped, "bert"), batch("bert", [5, 9, 2, 5]), Reads("mean")))


def test_masks_with_holes_are_packed_too(shaped):
    inputs = batch("bert", [6, 8])
    inputs["attention_mask"][1, 2] = 0
    assert_same(both(encoder(shaped, "bert"), inputs, Reads("mean")))


def test_dropout_of_the_adapter_is_honoured(shaped):
    made, inputs = encoder(shaped, "bert", dropout=0.5), batch("bert", [6, 8])
    assert_same(both(made.eval(), inputs, Reads("mean")))
    made.train()
    torch.manual_seed(0)
    one, two = made(inputs, Reads()).x, made(inputs, Reads()).x
    assert not torch.equal(one, two)
    torch.manual_seed(0)
    assert torch.equal(one, made(inputs, Reads()).x)


def test_dropout_of_layers_trained_in_full_is_honoured(shaped):
    made, inputs = encoder(shaped, "bert", "full").train(), batch("bert", [6, 8])
    made.model.embeddings.dropout.p = 0.0
    assert not torch.equal(made(inputs, Reads()).x, made(inputs, Reads()).x)
    assert torch.equal(made.eval()(inputs, Reads()).x, made(inputs, Reads()).x) and made.packed.agrees


@pytest.mark.parametrize("rows", [1, 5], ids=["products are added", "weights are added"])
def test_gradients_by_finite_differences(rows):
    torch.manual_seed(0)
    x, w, bias, a, b = (torch.randn(shape, dtype=torch.float64) for shape in ((rows, 4), (6, 4), (6,), (2, 4), (6, 2)))
    torch.testing.assert_close(LoraLinear.apply(x, w, bias, a, b, 0.7, False), x @ w.t() + bias + 0.7 * (x @ a.t()) @ b.t())
    for one in (x, a, b):
        one.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, a, b: LoraLinear.apply(x, w, bias, a, b, 0.7, True), (x, a, b))
    assert torch.autograd.gradcheck(lambda x, a, b: LoraLinear.apply(x, w, None, a, b, 0.7, True), (x, a, b))


def three():
    """Of three examples, in tokens of which the last three only fill up: groups of one length."""
    torch.manual_seed(0)
    return Groups.of(torch.arange(4) < torch.tensor([4, 2, 2])[:, None])


def drawn(*shapes):
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("single", [True, False])
def test_attention_by_finite_differences(single):
    groups = three()
    given = drawn((3 if single else 11, 6), (11, 6), (11, 6))
    assert torch.autograd.gradcheck(lambda *given: Attention.apply(*given, groups, 2, 0.3, single), given)
    found = Attention.apply(*given, groups, 2, 0.3, single)
    assert not found[groups.tokens :].any()
    for index, rows in enumerate([slice(0, 4), slice(4, 6), slice(6, 8)]):
        own = slice(index, index + 1) if single else rows
        q, k, v = (one[which].unflatten(1, (2, 3)).transpose(0, 1) for one, which in zip(given, (own, rows, rows), strict=True))
        expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=0.3).transpose(0, 1).flatten(1)
        torch.testing.assert_close(found[own], expected)


@pytest.mark.parametrize("rank", [0, 2], ids=["plain", "lora"])
def test_one_query_needs_no_keys_and_values(rank):
    groups = three()
    query, states, *parts = drawn((3, 6), (11, 6), *((6, 6), (6,), (rank, 6), (6, rank)) * 2)
    one, other = Affine(*parts[:4], 0.7), Affine(*parts[4:], 1.3)
    key, value = (states @ part.weight.t() + part.bias + part.scale * (states @ part.down.t()) @ part.up.t() for part in (one, other))
    learned = [query, states, *((one.down, one.up, other.down, other.up) if rank else ())]
    results = attend_once(query, states, one, other, groups, 2, 0.3), attend(query, key, value, groups, 2, 0.3, single=True)
    torch.testing.assert_close(*results)
    weights = torch.randn_like(query)
    for found, expected in zip(*(torch.autograd.grad((result * weights).sum(), learned) for result in results), strict=True):
        torch.testing.assert_close(found, expected)


def test_one_token_that_is_read_costs_no_keys_and_values(shaped, monkeypatch):
    """Where the head reads one token, the last layer's keys and values are computed for none, unless something random sees them."""
    made = encoder(shaped, "bert", dropout=0.5)
    asked, apply = [], LoraLinear.apply
    last = made.structure.layers[-1].attention.self
    for module in (last.key, last.value):
        module.base_layer.register_forward_hook(lambda *_: asked.append(1))
    weights = [module.base_layer.weight for module in (last.key, last.value)]
    monkeypatch.setattr(
        LoraLinear, "apply", lambda x, weight, *more: asked.extend(1 for one in weights if one is weight) or apply(x, weight, *more)
    )
    inputs = batch("bert", [6, 8])
    for reads, training, count in ((Reads("first"), False, 0), (Reads("mean"), False, 2), (Reads("first"), True, 2)):
        made(inputs, reads)  # compares the paths, once
        asked.clear()
        made.train(training)(inputs, reads)
        assert len(asked) == count, (reads, training)


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_layers_are_recognised(shaped, kind):
    assert Encoder(shaped(kind)).packed is not None


@pytest.mark.parametrize("kind", ["llama", "whisper"])
def test_other_layers_take_the_module_path(shaped, kind):
    assert Encoder(shaped(kind)).packed is None
    assert block(torch.nn.Linear(2, 2)) is None


def test_swiglu_is_not_plain(shaped):
    assert Encoder(shaped("dinov2", use_swiglu_ffn=True)).packed is None


def test_a_decoder_is_not_plain(shaped):
    assert Encoder(shaped("bert", is_decoder=True)).packed is None


def test_a_model_that_does_more_is_noticed(shaped):
    made = Encoder(shaped("bert"))
    made.model.encoder.register_forward_hook(lambda module, arguments, output: output.__class__(last_hidden_state=output[0] * 2))
    inputs = batch("bert", [4, 6])
    got = made(inputs, Reads()).x
    assert made.packed.agrees is False
    made.packed = None
    assert torch.equal(got, made(inputs, Reads()).x)


def test_what_is_not_packable(shaped):
    inputs = batch("bert", [4, 6])
    assert packable(inputs)
    with torch.autocast("cpu", dtype=torch.float16):
        assert not packable(inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert packable(inputs)
    inputs["attention_mask"][0] = 0
    assert not packable(inputs)
    made = Encoder(shaped("bert"))
    assert isinstance(made.packed, Packed)
    assert made(inputs, Reads("first")).x.shape == (2, 32)


def test_a_tiny_round_of_the_benchmark(tiny, capsys):
    path = Path(__file__).parent / "benchmarks" / "step.py"
    step = runpy.run_path(str(path))
    found = step["main"]([str(tiny), "--rows", "40", "--rounds", "1"])
    assert set(found) == {variant.name for variant in step["VARIANTS"]}
    assert "peft, dynamic padding" in capsys.readouterr().out
