"""Translation by a backbone's own decoder: what it says is what transformers says, it learns, and a language that it lacks is one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from fmhub import DataError, heads, stems
from fmhub.backbones.load import load
from fmhub.recipe import Lora, Recipe
from fmhub.task import Known
from fmhub.training.loop import fit, predict
from fmhub.training.network import Network
from fmhub.training.ranks import accelerator

NOUNS = {"day": "jour", "film": "film", "book": "livre", "news": "nouvelle"}
SIGNS = {"good": "bon", "bad": "mauvais", "fine": "beau", "sad": "triste"}
RECIPE = Recipe(epochs=40, lr=2e-2, batch=8, dropout=0.0, lora=Lora(rank=8))


def pairs() -> pa.Table:
    rows = [(f"the {sign} {noun}", f"le {NOUNS[noun]} {SIGNS[sign]}") for noun in NOUNS for sign in SIGNS]
    rows += [("open %1", "ouvrir %1"), ("close %1", "fermer %1")]
    source, target = zip(*rows, strict=True)
    return pa.table({"id": [f"r{row}" for row in range(len(rows))], "source": source, "target": target})


def saved(folder: Path, kind: str, *more: str) -> Path:
    """A tiny random model of `kind` with a tokenizer of words, as `save_pretrained` writes it."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    words = dict.fromkeys(" ".join([*pairs()["source"].to_pylist(), *pairs()["target"].to_pylist()]).replace("%1", "α").split())
    vocabulary = {word: number for number, word in enumerate(["<pad>", "</s>", "<unk>", *words, *more])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens(["<pad>", "</s>", *more])
    shape = {"vocab_size": len(vocabulary), "d_model": 32, "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1}
    if kind == "t5":
        config = transformers.T5Config(**shape, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
        made = transformers.T5ForConditionalGeneration
    else:
        sides = {"layers": 2, "attention_heads": 4, "ffn_dim": 64}
        layers = {f"{side}_{name}": count for side in ("encoder", "decoder") for name, count in sides.items()}
        names = {"marian": ("MarianConfig", "MarianMTModel"), "bart": ("BartConfig", "BartForConditionalGeneration"),
                 "m2m": ("M2M100Config", "M2M100ForConditionalGeneration")}[kind]  # fmt: skip
        config_of, made = (getattr(transformers, name) for name in names)
        config = config_of(**shape, **layers, max_position_embeddings=64, forced_eos_token_id=None, init_std=0.5)
    torch.manual_seed(0)
    model = made(config)
    if kind in ("marian", "bart"):
        model.final_logits_bias.normal_(std=0.3)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def network(folder: Path, head: heads.Translation | None = None) -> Network:
    known = Known(train=pairs())
    stem = stems.Passage(kept=8).fit(known)
    fitted = (head or heads.Translation(pieces=60, longest=12, beams=2)).fit(known, RECIPE)
    return Network(load(folder, sha256="0" * 64), stem, fitted, RECIPE, known)


@pytest.mark.parametrize("kind", ["t5", "marian", "bart", "m2m"])
def test_its_loss_and_its_answers_are_those_of_transformers(kind, tmp_path):
    import transformers

    mine = network(saved(tmp_path, kind))
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    rows = pairs().slice(0, 3)
    part = mine.prepare(rows)
    tokenizer = mine.backbone.tokenizer()
    lost = count = 0.0
    for source, target in zip(rows["source"].to_pylist(), rows["target"].to_pylist(), strict=True):
        given, labels = (torch.tensor([tokenizer.encode(text).ids]) for text in (source, target))
        with torch.no_grad():
            answer = theirs(input_ids=given, labels=labels)
        lost += float(answer.loss) * labels.numel()
        count += labels.numel()
    found, weight = mine.head_spec.loss(mine.outputs(part, np.arange(3)), part.targets, RECIPE)
    assert float(weight) == count and float(found.detach()) == pytest.approx(lost, rel=1e-4)
    found.backward()
    for side in ("encoder", "decoder"):
        learnt = [value for name, value in mine.named_parameters() if f"encoder.model.{side}." in name and "lora_B" in name]
        assert learnt and all(value.grad is not None and value.grad.abs().max() > 0 for value in learnt)
    given = torch.tensor([tokenizer.encode(rows["source"][0].as_py()).ids])
    wanted = theirs.generate(given, max_new_tokens=6, num_beams=1, do_sample=False)[0, 1:].tolist()
    mine.head.head = replace(mine.head.head, beams=1, longest=6)
    with torch.no_grad():
        (said,) = mine.head.written(mine.outputs(mine.prepare(rows.slice(0, 1)), np.arange(1)))
    assert said.tokens == (wanted[: wanted.index(1)] if 1 in wanted else wanted)


def test_it_learns_and_marks_come_back(tmp_path):
    mine, rows = network(saved(tmp_path / "model", "t5")), pairs()
    before = {name: tensor.clone() for name, tensor in mine.encoder.model.state_dict().items() if "lora_" not in name}
    fit(mine, mine.prepare(rows), None, accelerator=accelerator("no"), checkpoint=tmp_path / "x.safetensors", log=lambda *_: None)
    said = predict(mine, mine.prepare(rows, targets=False), accelerator("no"))["prediction"]
    right = [one == other for one, other in zip(said, rows["target"].to_pylist(), strict=True)]
    assert np.mean(right) > 0.8
    other = pa.table({"id": ["a"], "source": ["open %PRODUCTNAME"]})
    (answer,) = predict(mine, mine.prepare(other, targets=False), accelerator("no"))["prediction"]
    assert "%PRODUCTNAME" in answer and "α" not in answer
    after = mine.encoder.model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_a_language_that_it_cannot_write_is_one_line(tmp_path):
    folder = saved(tmp_path / "one", "t5")
    chinese = pa.table({"id": ["a", "b"], "source": ["the good day", "the bad film"], "target": ["美好 的 一天", "坏 电影"]})
    head = heads.Translation(pieces=60, longest=12).fit(Known(train=chinese), RECIPE)
    with pytest.raises(DataError, match="cannot write this language: 100% of its tokens are unknown") as caught:
        network_of(folder, head, chinese)
    assert "\n" not in str(caught.value)
    many = saved(tmp_path / "many", "marian", "fra_Latn", "deu_Latn")
    asked = network(many, heads.Translation(pieces=60, longest=12, language="de")).head.begin
    assert asked == [0, load(many, sha256="0" * 64).tokenizer().token_to_id("deu_Latn")]
    with pytest.raises(DataError, match="cannot write the language 'zh'"):
        network(many, heads.Translation(pieces=60, longest=12, language="zh"))


def network_of(folder: Path, head: heads.Translation, rows: pa.Table) -> Network:
    known = Known(train=rows)
    return Network(load(folder, sha256="0" * 64), stems.Passage(kept=8).fit(known), head, RECIPE, known)
