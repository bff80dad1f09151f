"""The sequence stem and the ranking head on a tiny backbone: causal, sharing their items, saved and restored whole."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from accelerate import Accelerator

from fmhub import DataError, UntrustedFile, UsageError, data, heads, stems
from fmhub.backbones.adapter import kept, load_into, save, trainable
from fmhub.backbones.load import load
from fmhub.heads.tied import Scored
from fmhub.recipe import Lora, Recipe
from fmhub.task import Reads
from fmhub.training.loop import fit
from fmhub.training.network import Network
from fmhub.training.plan import describe, spec_from

WORDS = ("good film", "bad film", "fine book", "sad book", "happy day", "awful day", "blue news", "red news")
RECIPE = Recipe(length=6, dropout=0.0, lora=Lora(rank=2))


def walk(user, start, count):
    return [(user, f"i{(start + step) % 8}", float(100 * step), WORDS[(start + step) % 8]) for step in range(count)]


@pytest.fixture(scope="module")
def splits():
    rows = [event for user in range(12) for event in walk(f"u{user}", user % 8, 8)]
    table = pa.table({name: [row[number] for row in rows] for number, name in enumerate(("user", "item", "time", "title"))})
    return data.Histories(data.rows(lambda: table), window=4).load()


def network(folder, splits, *, reads=Reads("all"), restored=False, horizon=1):
    known = splits.known()
    stem, head = stems.Events().fit(known), heads.Ranking(reads=reads, horizon=horizon).fit(known, RECIPE)
    return Network(load(folder, sha256="0" * 64), stem, head, RECIPE, None if restored else known)


def disturb(made):
    """LoRA starts at nothing; move all that is trained, so that every part counts."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in trainable(made).values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return made


def states(made, table):
    part = made.prepare(table, targets=False)
    batch = made.stem_spec.batch(part.encoded, np.arange(len(table)), random=None, strength=0.0)
    with torch.no_grad():
        return made.encoder(made.stem(batch), made.head_spec.reads).x


def rows(histories, times=None):
    count = len(histories)
    lists = pa.array(times if times else [None] * count, pa.list_(pa.float64()))
    return pa.table({"id": [str(row) for row in range(count)], "history": histories, "times": lists, "time": pa.nulls(count, pa.float64())})


def test_an_event_never_sees_a_later_one(tiny, splits):
    made = disturb(network(tiny, splits))
    one = states(made, rows([["i0", "i1", "i2", "i3"]], [[0.0, 1.0, 5.0, 9.0]]))
    other = states(made, rows([["i0", "i1", "i7", "i6"]], [[0.0, 1.0, 5.0, 99.0]]))
    assert torch.equal(one[:, :1], other[:, :1])
    assert torch.allclose(one[:, :2], other[:, :2], atol=1e-6)
    assert not torch.allclose(one[:, 2:], other[:, 2:], atol=1e-3)


def test_padding_changes_nothing(tiny, splits):
    made = disturb(network(tiny, splits))
    alone, beside = states(made, rows([["i0", "i1"]])), states(made, rows([["i0", "i1"], ["i2", "i3", "i4", "i5"]]))
    assert torch.allclose(alone[0], beside[0, :2], atol=1e-5)


def test_only_the_last_events_are_read_but_none_that_was_met_is_ranked(tiny, splits):
    made = disturb(network(tiny, splits))
    long, short = [f"i{number}" for number in range(7)], [f"i{number}" for number in range(1, 7)]
    assert torch.allclose(states(made, rows([long])), states(made, rows([short])), atol=1e-6)
    assert made.prepare(rows([long]), targets=False).encoded.values["earlier"][0].tolist() == [0]
    part = made.prepare(rows([long, short]), targets=False)
    found = made.head_spec.decode(made.outputs(part, np.arange(2)))["prediction"]
    assert found[0] == ["i7"] and sorted(found[1]) == ["i0", "i7"]


def test_layers_that_are_not_read_are_not_run_and_get_no_adapter(tiny, splits):
    made = network(tiny, splits, reads=Reads("all", layers=(-2,)))
    layers = made.encoder.structure.layers
    assert [any("lora" in name for name, _ in layer.named_parameters()) for layer in layers] == [True, True, False]
    layers[2].forward = None
    shallow = states(made, rows([["i0", "i1"]]))
    layers[2] = torch.nn.Identity()
    assert torch.equal(shallow, states(made, rows([["i0", "i1"]])))


def test_a_backbone_with_too_few_layers_is_refused(tiny, splits):
    with pytest.raises(UsageError, match=r"reads layer 5 from the end; backbone .* has 3"):
        network(tiny, splits, reads=Reads("all", layers=(-5,)))


def test_head_and_stem_share_one_table(tiny, splits):
    made = network(tiny, splits)
    assert made.stem.table().shape == (8, made.encoder.width)
    assert not any(name.startswith("head.") and "own" in name for name, _ in made.named_parameters())
    part = made.prepare(splits.tables["train"])
    made.train()
    loss, weight = made.head_spec.loss(made.outputs(part, np.arange(5)), {"next": torch.from_numpy(part.targets["next"][:5])}, RECIPE)
    (loss / weight).backward()
    assert made.stem.own.weight.grad.abs().sum() > 0 and weight == made.prepare(splits.tables["train"]).encoded.lengths[:5].sum()


def test_each_place_learns_the_items_that_follow_it():
    head = heads.Ranking(labels=("a", "b", "c", "d"), horizon=2, fade=0.5)
    targets = {name: torch.from_numpy(values) for name, values in head.targets(pa.table({"id": ["0"], "target": ["c"]})).items()}
    logits = torch.tensor([[1.0, 2.0, 3.0, 0.0], [0.0, 1.0, 0.0, 2.0]])
    outputs = Scored(logits, torch.tensor([[0, 1, 3]]), torch.tensor([[True, True, False]]))
    loss, weight = head.loss(outputs, targets, RECIPE)
    said = logits.log_softmax(-1)
    assert weight == 2
    entropy = -(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3))
    assert float(loss) == pytest.approx(float(-(said[0, 1] + 0.5 * said[0, 2]) / 1.5 - entropy - said[1, 2]))
    logits[0, 1] = -torch.inf  # it was met before
    loss, weight = head.loss(outputs, targets, RECIPE)
    assert weight == 2 and float(loss) == pytest.approx(float(-logits.log_softmax(-1)[0, 2] - said[1, 2]))


def test_what_was_met_by_a_place_is_not_said_there(tiny, splits):
    made = disturb(network(tiny, splits))
    part = made.prepare(rows([[f"i{number}" for number in range(7)], ["i3", "i5"]]), targets=False)
    made.train()
    with torch.no_grad():
        logits = made.outputs(part, np.arange(2)).logits
    silent = [set(np.flatnonzero(line.numpy())) for line in logits == -torch.inf]
    assert silent == [*({0, *range(1, 2 + place)} for place in range(6)), {3}, {3, 5}]  # i0 lies before what is read


def test_events_of_one_moment_come_in_any_order_and_no_others_do(tiny, splits):
    made = network(tiny, splits)
    part = made.prepare(rows([["i0", "i1", "i2", "i3", "i4"], ["i5"]], [[0.0, 9.0, 9.0, 9.0, 70.0], [1.0]]), targets=False)
    orders = set()
    for seed in range(40):
        batch = made.stem_spec.batch(part.encoded, np.arange(2), random=np.random.default_rng(seed), strength=1.0)
        items = batch["items"][0].tolist()
        assert items[0] == 0 and items[4] == 4 and batch["items"][1, 0] == 5
        orders.add(tuple(items))
    assert len(orders) == 6
    plain = made.stem_spec.batch(part.encoded, np.arange(2), random=np.random.default_rng(0), strength=0.0)
    assert plain["items"][0].tolist() == [0, 1, 2, 3, 4]


def test_a_share_of_the_items_is_hidden_where_a_task_asks_for_it_and_stays_a_target(tiny, splits):
    made = network(tiny, splits)
    part = made.prepare(rows([["i0", "i1", "i2", "i3"]] * 500), targets=False)

    def batch(hidden, seed=3, strength=1.0):
        random = None if seed is None else np.random.default_rng(seed)
        return replace(made.stem_spec, hidden=hidden).batch(part.encoded, np.arange(500), random=random, strength=strength)

    plain, masked = batch(0.0), batch(0.4)
    assert "hidden" not in plain and "hidden" not in batch(0.4, None) and "hidden" not in batch(0.4, strength=0.0)
    assert all(torch.equal(masked[name], value) for name, value in plain.items()), "what is said and counted as met is the same"
    assert masked["hidden"].float().mean() == pytest.approx(0.4, abs=0.03)
    assert batch(0.4, strength=0.5)["hidden"].float().mean() == pytest.approx(0.2, abs=0.03)
    assert torch.equal(masked["hidden"], batch(0.4)["hidden"]) and not torch.equal(masked["hidden"], batch(0.4, 4)["hidden"])


def test_a_hidden_item_is_not_read_but_that_something_was_met_is(tiny, splits):
    made = disturb(network(tiny, splits))

    def read(history, hidden):
        batch = made.stem_spec.batch(made.prepare(rows([history]), targets=False).encoded, np.arange(1), random=None, strength=0.0)
        with torch.no_grad():
            return made.encoder(made.stem({**batch, "hidden": torch.tensor([hidden])}), made.head_spec.reads).x

    one, other = (read(["i0", item, "i2"], [0, 1, 0]) for item in ("i1", "i5"))
    assert torch.equal(one, other)
    assert not torch.allclose(one[:, 2], read(["i0", "i1", "i2"], [0, 0, 0])[:, 2], atol=1e-4)
    assert not torch.allclose(one[:, 2], read(["i0", "i2"], [0, 0])[:, 1], atol=1e-4)


def test_with_hidden_items_the_same_seed_trains_the_same_bits_and_others_than_without(tiny, splits):
    def trained(hidden):
        known, recipe = splits.known(), replace(RECIPE, epochs=1.0, augment=1.0, batch=4)
        stem, head = stems.Events(hidden=hidden).fit(known), heads.Ranking(reads=Reads("all")).fit(known, recipe)
        made = Network(load(tiny, sha256="0" * 64), stem, head, recipe, known)
        fit(made, made.prepare(splits.tables["train"]), None, accelerator=Accelerator(), checkpoint=None, log=lambda *_: None)
        return made.stem.own.weight.detach()

    plain, one, two = (trained(hidden) for hidden in (0.0, 0.4, 0.4))
    assert torch.equal(one, two) and not torch.equal(one, plain) and bool(one.isfinite().all())


def test_an_adapter_holds_its_texts_vectors_and_not_the_catalogue(tiny, splits, tmp_path):
    made = disturb(network(tiny, splits))
    assert made.stem.content[:-1].norm(dim=1) == pytest.approx(1.0, abs=1e-5) and "stem.content" in kept(made)
    meta = {"stem": describe(made.stem_spec), "head": describe(made.head_spec)}
    assert WORDS[0] not in str(meta)
    save(tmp_path / "adapter.safetensors", kept(made), meta)
    again = network(tiny, splits, restored=True)
    assert again.stem.content.abs().sum() == 0
    meta = load_into(again, tmp_path / "adapter.safetensors")
    assert torch.equal(states(made, rows([["i0", "i1"]])), states(again, rows([["i0", "i1"]])))
    assert spec_from(meta["stem"], None) == made.stem_spec and spec_from(meta["head"], None) == made.head_spec
    save(tmp_path / "adapter.safetensors", trainable(made), meta)
    with pytest.raises(UntrustedFile, match=r"lacks tensor stem\.content"):
        load_into(network(tiny, splits), tmp_path / "adapter.safetensors")


def test_the_texts_vectors_are_kept_and_a_damaged_file_is_made_again(tiny, splits, home):
    first = network(tiny, splits).stem.content
    (file,) = (home / "cache" / "items").iterdir()
    file.write_bytes(file.read_bytes()[:40])
    assert torch.equal(network(tiny, splits).stem.content, first)


def test_a_history_as_people_type_it(splits):
    stem = stems.Events().fit(splits.known())
    for typed in ("good film; Bad Film ", '["i0", "bad film"]', ["good film", "i1"], {"history": "i0; i1"}):
        assert stem.typed(typed, splits)["history"] == ["i0", "i1"]
    for typed in ("user=u3", '{"user": "u3"}', {"user": "u3"}):
        row = stem.typed(typed, splits)
        assert row["history"] == [f"i{(3 + step) % 8}" for step in range(8)] and row["times"][-1] == 700.0
    for typed, said in (
        ("god film", "Unknown item 'god film'. Did you mean good film"),
        ("", "titles or ids"),
        ('["i0"', "Not JSON"),
        ({}, "titles or ids"),
        ("user=u33", "Unknown user 'u33'. Did you mean u3"),
    ):
        with pytest.raises(DataError, match=said) as caught:
            stem.typed(typed, splits)
        assert "\n" not in str(caught.value)
    assert heads.Ranking().readable(["i1", "i0"], splits.catalogue) == ["bad film", "good film"]
    assert heads.Ranking().readable(["i1"], None) == ["i1"]


@pytest.mark.parametrize(
    ("history", "times", "said"),
    [
        (["i0", "nowhere"], None, "unknown item 'nowhere'"),
        ([], None, "the history is empty"),
        (["i0", "i1"], [1.0], "2 events and 1 times"),
    ],
)
def test_rows_that_cannot_be_read_are_named(tiny, splits, history, times, said):
    table = rows([["i0"], history], [[0.0], times])
    with pytest.raises(DataError, match=f"Row 1: .*{said}"):
        network(tiny, splits).prepare(table, targets=False)


def test_a_ranking_head_needs_a_stem_with_items_and_known_targets(tiny, splits):
    head = heads.Ranking().fit(splits.known(), RECIPE)
    with pytest.raises(UsageError, match=r"stems\.Events"):
        Network(load(tiny, sha256="0" * 64), stems.Text(), head, RECIPE)
    with pytest.raises(DataError, match="item 'nowhere' is not in the catalogue"):
        head.targets(pa.table({"id": ["0"], "history": [["i0"]], "target": ["nowhere"]}))
