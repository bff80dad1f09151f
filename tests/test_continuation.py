"""A language model finishing texts: its likelihood beside transformers' own loss, its cache beside no cache, drawing, n-grams, metrics."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from fmhub import DataError, Recipe, UsageError, api, heads, stems
from fmhub.backbones.load import Backbone, load
from fmhub.evaluation import evaluate, metrics
from fmhub.evaluation.baselines import NGram
from fmhub.evaluation.baselines.ngrams import FittedNGram
from fmhub.heads.generation import sample
from fmhub.heads.grams import END, Counts
from fmhub.recipe import Lora
from fmhub.task import Known, Setting
from fmhub.training import ranks
from fmhub.training.loop import fit, predict
from fmhub.training.network import Network
from fmhub.training.plan import describe

ROWS = [("Save the", " file now"), ("A", " much longer line of text that goes on"), ("Open", " it"), ("naïve", " “x”")]


def table(pairs: list[tuple[str, str]]) -> pa.Table:
    begins, rests = zip(*pairs, strict=True)
    return pa.table({"id": [str(number) for number in range(len(pairs))], "text": begins, "rest": rests, "target": rests})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of 3 layers that reads bytes."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM

    place = tmp_path_factory.mktemp("speaker")
    vocabulary = {"<|endoftext|>": 0, **{letter: n for n, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()), 1)}}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    tokenizer.save(str(place / "tokenizer.json"))
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64}
    LlamaForCausalLM(
        LlamaConfig(**shape, vocab_size=len(vocabulary), max_position_embeddings=96, tie_word_embeddings=True, initializer_range=0.3)
    ).save_pretrained(place)
    return place


def fresh(folder: Path) -> Backbone:
    return load(folder, sha256="0" * 64)


def network(folder: Path, head: heads.Continuation | None = None, **changes) -> Network:
    recipe = Recipe(**{"length": 64, "budget": 256, "lora": Lora(layers="last:1"), **changes})
    known = Known(train=table(ROWS))
    stem, head = stems.Prose().fit(known), (head or heads.Continuation()).fit(known, recipe)
    return Network(fresh(folder), stem, head, recipe, known)


def said(net: Network, rows: pa.Table) -> dict:
    return predict(net, net.prepare(rows, targets=False), ranks.accelerator())


def test_likelihoods_are_those_of_transformers_own_loss(folder):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    found = said(network(folder), table(ROWS))
    tokenizer = fresh(folder).tokenizer()
    for row, (begin, rest) in enumerate(ROWS):
        ids = torch.tensor([[0, *tokenizer.encode(begin + rest).ids]])
        with torch.no_grad():
            out = model(input_ids=ids, labels=ids)
        assert found["tokens"][row] == ids.shape[1] - 1 and found["bytes"][row] == len((begin + rest).encode())
        assert found["nll"][row] == pytest.approx(float(out.loss) * (ids.shape[1] - 1), rel=1e-5)
        assert found["hits"][row] == int((out.logits[0, :-1].argmax(-1) == ids[0, 1:]).sum())


def test_what_is_written_is_what_no_cache_and_no_neighbour_would_write(folder):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = fresh(folder).tokenizer()
    found = said(network(folder, heads.Continuation(most=7)), table(ROWS))
    for row, (begin, _) in enumerate(ROWS):
        ids = [0, *tokenizer.encode(begin).ids]
        start = len(ids)
        while len(ids) < start + 7:
            with torch.no_grad():
                token = int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
            if token == 0:
                break
            ids.append(token)
        assert found["prediction"][row] == tokenizer.decode(ids[start:])


def test_what_follows_is_not_looked_at_when_it_is_written(folder):
    other = [(begin, " something else") for begin, _ in ROWS]
    one, two = (said(network(folder), table(pairs)) for pairs in (ROWS, other))
    assert one["prediction"] == two["prediction"] and one["nll"] != two["nll"]


def test_a_person_types_a_beginning_alone_and_gets_more_of_it(folder):
    stem = stems.Prose()
    assert stem.typed("Save the ", None) == {"text": "Save the", "rest": ""}
    assert stem.typed({"text": "Save ", "rest": "it"}, None) == {"text": "Save ", "rest": "it"}
    for wrong in ("", "  ", None, 3, {"rest": "x"}):
        with pytest.raises(DataError, match="at least one word"):
            stem.typed(wrong, None)
    net = network(folder, heads.Continuation(most=2, typed=9))
    rows = pa.table({"id": ["0", "1"], "text": ["Save the", "Save the"], "rest": ["", " file"]})
    found = said(net, rows)
    assert found["prediction"][0].startswith(found["prediction"][1]) and len(found["prediction"][0]) > len(found["prediction"][1])


def test_long_texts_are_cut_counted_and_their_end_is_not_learnt(folder):
    net = network(folder, length=16)
    part = net.prepare(table(ROWS))
    assert part.encoded.truncated == 2 and part.encoded.lengths.max() == 16
    assert part.encoded.values["complete"].tolist() == [len((a + b).encode()) <= 15 for a, b in ROWS]
    found = said(net, table(ROWS))
    assert found["tokens"][1] == 15 and found["bytes"][1] == 15
    outputs = net.outputs(part, np.arange(4))
    _, weight = net.head_spec.loss(outputs, {}, net.recipe)
    assert int(weight) == sum(found["tokens"]) + 2


def test_training_lowers_what_it_measures_and_the_cached_prefix_changes_little(folder, tmp_path):
    net = network(folder, lr=2e-2, epochs=30, batch=4, dropout=0.0)
    rows = table(ROWS)
    before = sum(said(net, rows)["nll"])
    fit(net, net.prepare(rows), None, accelerator=ranks.accelerator(), checkpoint=tmp_path / "s.safetensors", log=lambda *_: None)
    after = said(net, rows)
    assert sum(after["nll"]) < 0.8 * before
    from fmhub.training.prefix import frozen_below, open_or_fill

    start, _ = frozen_below(net)
    part = net.prepare(rows, targets=False)
    part.prefix = open_or_fill(net, part.encoded, fingerprint="f", start=start, say=print, root=tmp_path / "cache", exact=True)
    again = predict(net, part, ranks.accelerator())
    assert start == 2 and again["nll"] == pytest.approx(after["nll"], rel=1e-4) and again["prediction"] == after["prediction"]


def test_backbones_that_cannot_go_on_are_refused(tiny, folder):
    known, recipe = Known(train=table(ROWS)), Recipe()
    with pytest.raises(UsageError, match="no mark between texts"):
        stems.Prose().encode(known.train, load(tiny, sha256="0" * 64), recipe)
    with pytest.raises(UsageError, match="does not say what comes next"):
        heads.Continuation().build(load(tiny, sha256="0" * 64), None, recipe)
    with pytest.raises(DataError, match="nothing follows"):
        heads.Continuation().fit(Known(train=table([("a", " ")])), recipe)
    with pytest.raises(DataError, match="wrong encoding"):
        stems.Prose().encode(table([("CafÃ©", " x")]), fresh(folder), recipe)
    with pytest.raises(DataError, match="wrong encoding"):
        stems.Prose().encode(table([("x", " CafÃ©")]), fresh(folder), recipe)
    with pytest.raises(UsageError, match="temperature"):
        heads.Continuation(temperature=-1)


def test_augmentation_is_refused_of_what_has_none_before_anything_is_read():
    with pytest.raises(UsageError, match=r"recipe\.augment=0\.5: nothing in finish-text can be changed at random\. Leave it at 0\."):
        api.plan("finish-text", set={"augment": "0.5"})
    assert api.plan("finish-text", set={"augment": "0"}).task.recipe.augment == 0
    assert "augments" not in describe(stems.Prose())


def test_an_output_layer_of_its_own_is_refused(folder):
    backbone = fresh(folder)
    backbone.model.config.tie_word_embeddings = False
    with pytest.raises(UsageError, match="by a layer of its own"):
        heads.Continuation().build(backbone, None, Recipe())


PROBABILITIES = torch.tensor([0.05, 0.5, 0.25, 0.15, 0.05])


def drawn(count: int, **options) -> list[list[int]]:
    def step(tokens, cache):
        return PROBABILITIES.log().expand(len(tokens), -1), cache

    options = {"temperature": 1.0, "top": 1.0, "most": 1, **options}
    return sample(step, None, torch.ones(count, 1, dtype=torch.int64), end=0, keys=[(3, row) for row in range(count)], **options)


def test_tokens_are_drawn_as_often_as_they_are_probable():
    counts = np.bincount([row[0] if row else 0 for row in drawn(4000)], minlength=5) / 4000
    assert np.abs(counts - PROBABILITIES.numpy()).max() < 0.03
    cold = np.bincount([row[0] if row else 0 for row in drawn(2000, temperature=0.5)], minlength=5) / 2000
    assert np.abs(cold - (PROBABILITIES**2 / (PROBABILITIES**2).sum()).numpy()).max() < 0.03
    assert {row[0] for row in drawn(500, top=0.7)} == {1, 2} and {row[0] for row in drawn(200, top=0.01)} == {1}


def test_drawing_is_repeated_exactly_and_ends_at_the_end():
    rows = drawn(300, most=6)
    assert rows == drawn(300, most=6) and rows[:10] == drawn(10, most=6)
    assert all(0 not in row for row in rows) and {len(row) for row in rows} == set(range(7))


def test_a_temperature_draws_and_a_seed_changes_what(folder):
    def texts(**options):
        return said(network(folder, heads.Continuation(most=6, temperature=1.0, **options)), table(ROWS))["prediction"]

    assert texts() == texts() != texts(seed=1)
    assert texts(top=1e-9) == said(network(folder, heads.Continuation(most=6)), table(ROWS))["prediction"]


def columns(**more) -> dict:
    return {"id": ["a", "b"], "prediction": ["x", "y"], "target": ["x", "z"], "nll": [2.0, 7.0], "tokens": [2, 4], "bytes": [8, 16],
            "hits": [1, 2], **more}  # fmt: skip


def test_metrics_of_likelihood():
    found = evaluate(columns(), ["perplexity", "bits_per_byte", "next_token"])
    assert found["perplexity"]["value"] == pytest.approx(math.exp(9 / 6), rel=1e-12)
    assert found["bits_per_byte"]["value"] == pytest.approx(9 / math.log(2) / 24, rel=1e-12)
    assert found["next_token"]["value"] == pytest.approx(3 / 6)
    assert found["perplexity"]["low"] == pytest.approx(math.exp(1)) and found["perplexity"]["high"] == pytest.approx(math.exp(7 / 4))
    assert all("target" not in metrics.get(name).reads for name in found)  # a board calls them self-reported
    assert evaluate(columns(tokens=[0, 0]), ["perplexity"])["perplexity"]["value"] is None
    with pytest.raises(DataError, match="below 0"):
        evaluate(columns(nll=[-1.0, 2.0]), ["perplexity"])
    with pytest.raises(DataError, match="no column 'nll'"):
        evaluate({name: value for name, value in columns().items() if name != "nll"}, ["perplexity"])


def test_a_board_joins_what_a_likelihood_reads_once():
    from fmhub.leaderboard import targets

    both = pa.table({**{name: values * 2 for name, values in columns().items()}, "split": ["test"] * 2 + ["validation"] * 2})
    own = targets.predicted(both, ["nll", "tokens"])
    whole = targets.joined(own, targets.truths(both), {})
    assert len(set(whole.column_names)) == len(whole.column_names) and whole["nll"].to_pylist() == columns()["nll"] * 2


def counted(lines: list[list[int]], order: int, discount: float = 0.5) -> FittedNGram:
    class Small:
        def get_vocab_size(self) -> int:
            return 5

    return FittedNGram(NGram(order=order), Small(), Counts.of(lines, order), discount)


def test_n_grams_are_probabilities_and_those_of_the_book():
    made = counted([[0, 1, 0, 1, 2], [1, 2, 2], [3]], 3)
    for context in ((-1, -1), (0, 1), (-1, 1), (2, 2), (4, 4), (1, 3)):
        assert sum(made.probability(context, token) for token in (*range(5), END)) == pytest.approx(1)
    two = counted([[0, 1], [0, 2]], 2)
    # after 0: 1 and 2 once each; one token of each 0, 1, 2 and two ways to end: 0 follows one token, 1 one, 2 one, the end two
    low = (1 - 0.5) / 5 + 0.5 * 4 / 5 / 6
    assert two.probability((0,), 1) == pytest.approx((1 - 0.5) / 2 + 0.5 * 2 / 2 * low)
    assert two.lost([0, 1]) == pytest.approx(-math.log(two.probability((-1,), 0)) - math.log(two.probability((0,), 1)))


def test_the_n_gram_baseline_tells_the_same_tokens_as_the_model(folder):
    rows = table(ROWS)
    setting = Setting(train=rows, validation=rows, head=heads.Continuation(), tokenizer=lambda: fresh(folder).tokenizer())
    found, ours = NGram().fit(setting).predict(rows.drop_columns(["target"])), said(network(folder), rows)
    assert found["tokens"] == ours["tokens"] and found["bytes"] == ours["bytes"]
    assert evaluate({**found, "target": rows["target"].to_pylist()}, ["perplexity"])["perplexity"]["value"] < 10
    assert found["prediction"][2] == " it" and all(hits <= tokens for hits, tokens in zip(found["hits"], found["tokens"], strict=True))
    with pytest.raises(UsageError, match="tokenizer"):
        NGram().fit(dataclasses.replace(setting, tokenizer=None))


def test_the_kit_knows_that_a_likelihood_reads_what_it_tells(folder, tmp_path):
    """Its floor is the network before training; no answer is hidden, no label shuffled; metrics of what was written are checked."""
    from types import SimpleNamespace

    from fmhub import Task, data
    from fmhub.testing import chance, data_checks, metric_checks, training_checks
    from fmhub.testing.subject import Subject

    words = "open close print move save".split()

    def texts() -> pa.Table:
        return table([(f"{verb} the", f" {thing} {number}") for number, verb in enumerate(words) for thing in "abcdefghijkl"])

    rows = data.rows(texts, split=data.Random(stratify=False), text="text", rest="rest", target="target")
    task = Task(
        name="finish", title="Finish", data=rows, stem=stems.Prose(), head=heads.Continuation(most=4), metrics=["perplexity", "chrf"],
        recipe=Recipe(epochs=4, lr=1e-2, length=32, batch=8), backbone=str(folder),
    )  # fmt: skip
    it = Subject(SimpleNamespace(name="fmhub-none", version="0"), task, tmp_path, str(folder))
    assert it.is_likelihood
    assert data_checks.answer_hidden(it)[0] is None and training_checks.shuffled_labels_at_the_floor(it)[0] is None
    beaten, figure = training_checks.beats_the_floor(it)
    assert beaten, figure
    found = chance.Chance.of(it, it.on_sample[1])
    before = metrics.get("perplexity").score(chance._untrained(it, chance.test_columns(it, it.on_sample[1])), None)
    assert found.value < found.floor < before == -found.constant
    assert metric_checks.perfect_scores_the_bound(it) == (True, "chrf 100")
    assert metric_checks.order_of_rows_is_nothing(it)[0] and metric_checks.metrics_read_predictions(it)[0]
