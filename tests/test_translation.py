"""The translation head and its stem: marks travel, the nearest is found and never oneself, what is learnt is what is written."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fmhub import DataError, heads, stems
from fmhub.backbones.load import load
from fmhub.evaluation import metrics
from fmhub.evaluation.metrics.translations import SIGNATURES, scorer
from fmhub.heads.pieces import SLOTS, Pieces, learn
from fmhub.recipe import Lora, Recipe
from fmhub.stems.marks import MARK, copied, marks, replaced
from fmhub.task import Known
from fmhub.training.loop import fit, predict
from fmhub.training.network import Network
from fmhub.training.ranks import accelerator

RECIPE = Recipe(epochs=25, lr=5e-3, batch=8, dropout=0.0, lora=Lora(layers="last:1"))
NOUNS = {"day": "jour", "film": "film", "book": "livre", "news": "nouvelle"}
SIGNS = {"good": "bon", "bad": "mauvais", "fine": "beau", "sad": "triste", "happy": "heureux"}


def pairs() -> pa.Table:
    rows = [(f"the {sign} {noun}", f"le {NOUNS[noun]} {SIGNS[sign]}") for noun in NOUNS for sign in SIGNS]
    rows += [(f"the {noun} %1 is {sign}", f"le {NOUNS[noun]} %1 est {SIGNS[sign]}") for noun in NOUNS for sign in SIGNS]
    source, target = zip(*rows, strict=True)
    return pa.table({"id": [f"r{row}" for row in range(len(rows))], "source": source, "target": target})


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory) -> tuple[Network, pa.Table]:
    rows = pairs()
    held = rows.slice(3, 2)
    train = pa.concat_tables([rows.slice(0, 3), rows.slice(5)])
    known = Known(train=train)
    stem = stems.Passage(kept=8).fit(known)
    head = heads.Translation(pieces=80, depth=1, longest=12, kept=8, beams=2).fit(known, RECIPE)
    network = Network(load(tiny, sha256="0" * 64), stem, head, RECIPE, known)
    folder = tmp_path_factory.mktemp("checkpoint")
    fit(network, network.prepare(train), None, accelerator=accelerator("no"), checkpoint=folder / "x.safetensors", log=lambda *_: None)
    return network, held


def said(network: Network, *sources: str) -> list[str]:
    rows = pa.table({"id": [str(row) for row in range(len(sources))], "source": sources})
    return predict(network, network.prepare(rows, targets=False), accelerator("no"))["prediction"]


def test_it_learns_and_combines_what_it_never_saw_together(trained):
    network, held = trained
    assert said(network, "the good day", "the bad book") == ["le jour bon", "le livre mauvais"]
    right = [one == other for one, other in zip(said(network, *held["source"].to_pylist()), held["target"].to_pylist(), strict=True)]
    assert any(right)


def test_every_mark_is_written_as_often_as_it_stands_there(trained):
    network, _ = trained
    for source in ("the %PRODUCTNAME is good", "<b> the day </b>", "%1 the film $(ARG1) is bad %1", "the {0} {1} {0} book"):
        (answer,) = said(network, source)
        assert sorted(MARK.findall(answer)) == sorted(MARK.findall(source))


def test_a_row_does_not_depend_on_its_neighbours(trained):
    network, held = trained
    sources = ["the sad film", "the book %1 is fine", *held["source"].to_pylist()]
    assert said(network, *sources) == [said(network, source)[0] for source in sources]


def test_search_follows_the_probabilities_of_training(trained):
    """What the module says step by step with its cache is what it says of the whole answer at once."""
    network, _ = trained
    rows = pairs().slice(20, 2)
    part = network.prepare(rows)
    truth = part.targets["pieces"]
    with torch.no_grad():
        draft = network.outputs(part, np.arange(2))
        lost, count = draft.translator.told(draft, truth, 0.0)
        context, total = draft.context, torch.zeros(2)
        given = torch.ones(2, 1, dtype=torch.int64)
        for step in range(max(map(len, truth))):
            logp, context = draft.translator._next(given, context)
            for row, answer in enumerate(truth):
                total[row] += logp[row, answer[step]] if step < len(answer) else 0
            given = torch.tensor([[answer[min(step, len(answer) - 1)]] for answer in truth])
    assert float(count) == sum(map(len, truth))
    assert float(-total.sum()) == pytest.approx(float(lost), abs=1e-3)


def test_the_nearest_is_found_but_never_itself_in_training(trained):
    network, _ = trained
    part = network.prepare(pairs().slice(0, 1), targets=False)
    batch = network.stem_spec.batch(part.encoded, np.array([0]), random=None, strength=0.0)
    rows, alike = network.stem.nearest(batch, 2)
    assert int(rows[0, 0]) == 0 and float(alike[0, 0]) == pytest.approx(1, abs=1e-5)
    network.stem.train()
    rows, alike = network.stem.nearest(batch, 2)
    network.stem.eval()
    assert 0 not in rows[0] and float(alike.max()) < 0.95


def test_without_a_stem_that_remembers_it_writes_too(tiny, tmp_path):
    known = Known(train=pairs())
    head = heads.Translation(pieces=60, depth=1, longest=8).fit(known, RECIPE)
    network = Network(load(tiny, sha256="0" * 64), stems.Text(("source",)), head, RECIPE, known)
    loss, weight = head.loss(
        network.outputs(network.prepare(pairs()), np.arange(4)), {"pieces": head.targets(pairs())["pieces"][:4]}, RECIPE
    )
    assert float((loss / weight).detach()) > 0 and len(said(network, "the good day")) == 1


def test_marks_of_many_kinds():
    found = {
        "Open %PRODUCTNAME": ["%PRODUCTNAME"], "%1 of %2": ["%1", "%2"], "$(ARG1) and ${file}": ["$(ARG1)", "${file}"],
        "<b>Bold</b> &amp; %s": ["<b>", "</b>", "&amp;", "%s"], "50 % of all, 100 percent": [], "costs $100": [], "a < b and c > d": [],
        "%{key}-click {0} #1": ["%{key}", "{0}", "#1"], "at 50%": [],
    }  # fmt: skip
    assert {text: marks(text) for text in found} == found


@given(st.lists(st.sampled_from(["%1", "$(ARG1)", "<b>", "word", "50 %", "é"]), max_size=9))
def test_what_is_replaced_comes_back(words):
    text = " ".join(words)
    known = marks(text)
    hidden = replaced(text, known, list(SLOTS))
    assert not any(mark in hidden for mark in known)
    for slot, mark in zip(SLOTS, known, strict=False):
        hidden = hidden.replace(slot, mark)
    assert hidden == text


def test_marks_travel_as_characters(tiny):
    rows = pa.table({"id": ["a", "b"], "source": ["the %1 day $(ARG1) %1", "good"]})
    stem = stems.Passage()
    encoded = stem.encode(rows, load(tiny, sha256="0" * 64), RECIPE)
    batch = stem.batch(encoded, np.array([1, 0]), random=None, strength=0.0)
    assert copied(batch) == [[], ["%1", "$(ARG1)"]] and batch["times"].tolist() == [[0, 0], [2, 1]]


def test_sources_with_unknown_characters_are_counted(tiny):
    rows = pa.table({"id": ["a", "b", "c"], "source": ["good day", "日本 day 日本", "the film"]})
    assert stems.Passage().encode(rows, load(tiny, sha256="0" * 64), RECIPE).unknown == 1


@pytest.mark.parametrize(
    ("text", "why"), [("", "is empty"), (None, "is empty"), ("l'Ã©tÃ©", "wrong encoding"), ("a \ufffd", "wrong encoding")]
)
def test_bad_sources_are_one_line(tiny, text, why):
    rows = pa.table({"id": ["a", "b"], "source": ["good day", text]})
    with pytest.raises(DataError, match=why) as caught:
        stems.Passage().encode(rows, load(tiny, sha256="0" * 64), RECIPE)
    assert "Row b" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (" ", "is empty"),
        ("Une feuille est crÃ©Ã©e", "wrong encoding .*crÃ©Ã©e"),
        ("FranÃ§ais", "wrong encoding"),
        ("l\x92image", "wrong encoding"),
    ],
)
def test_bad_targets_are_one_line(text, why):
    rows = pa.table({"id": ["a", "b"], "source": ["x", "y"], "target": ["été – « à » Â, NÃO", text]})
    with pytest.raises(DataError, match=f"Row b: the target .*{why}") as caught:
        heads.Translation().fit(Known(train=rows), RECIPE)
    assert "\n" not in str(caught.value)


def test_pieces_read_back_what_they_wrote():
    texts = ["Le fichier <0> n'existe pas.", "Ouvrir l'image « <1> » ?", "10 pages"]
    pieces = Pieces(learn(texts * 3, 200))
    for text in texts:
        assert pieces.write(pieces.read([text])[0], []) == text
    assert pieces.write(pieces.read(["vu <0>"])[0], ["%1", "<b>"]) == "vu %1 <b>"
    assert pieces.size <= 200


def test_what_was_not_read_of_an_input_is_told(tiny):
    from fmhub.api import Predictor

    known = Known(train=pairs())
    head = heads.Translation(pieces=80, depth=1, longest=4, kept=8, beams=1).fit(known, RECIPE)
    predictor = Predictor(Network(load(tiny, sha256="0" * 64), stems.Passage(kept=8).fit(known), head, RECIPE, known), {})
    predictor.predict(["the good day", "the " * 80, "the 日本 day"])
    assert predictor.notes == (
        "1 of 3 inputs: longer than 64 tokens and cut, the answer is to what was read.",
        "1 of 3 inputs: read without characters that the backbone does not know.",
    )
    predictor.predict(["the good day"])
    assert predictor.notes == ()


@pytest.mark.parametrize(("name", "tokenize"), [("chrf", None), ("bleu", "13a"), ("bleu_zh", "zh")])
def test_scores_and_signatures_are_sacrebleus(name, tokenize):
    from sacrebleu.metrics import BLEU, CHRF

    said = ["le chat est là", "un film", "新的文件 夹", ""]
    true = ["le chat est ici", "un bon film", "新文件夹", "rien"]
    made = CHRF() if tokenize is None else BLEU(tokenize=tokenize)
    columns = {"prediction": np.array(said, object), "target": np.array(true, object)}
    metric = metrics.get(name)
    assert metric.score(columns, None) == pytest.approx(made.corpus_score(said, [true]).score, abs=1e-9)
    assert metric.combine(np.stack([metric.statistics(columns, None).sum(0)] * 2)).tolist() == [metric.score(columns, None)] * 2
    scorer(name).corpus_score(said, [true])
    assert str(scorer(name).get_signature()).rpartition("|version")[0] == SIGNATURES[name] and SIGNATURES[name] in metric.title


def test_kept_marks_are_counted_among_rows_that_have_them():
    columns = {"prediction": np.array(["a %1", "b", "%s", "c"], object), "target": np.array(["%1 a", "$x b", "%s %s", "c"], object)}
    assert metrics.get("marks_kept").score(columns, None) == pytest.approx(1 / 3)
