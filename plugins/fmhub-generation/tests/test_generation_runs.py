"""A run on SQuAD's own format from the command line, and scores computed again from predictions: SQuAD's, perplexity, chrF."""

from __future__ import annotations

import collections
import json
import math
import os
import re
import string
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from sacrebleu.metrics import CHRF

from fmhub.home import registry

PLACES = ["Paris", "Rome", "the old harbour", "a garden", "Lima", "the upper room"]
PEOPLE = ["Ann", "Bob", "Eve", "Max", "Zoe", "Tom", "Ida", "Leo"]
PLACE = registry() / "leaderboard" / "fmhub-generation"


def squad(path: Path) -> Path:
    """40 passages of two sentences, a question each, one of them without an answer."""
    paragraphs = []
    for number in range(40):
        who, where, other = PEOPLE[number % 8], PLACES[number % 6], PLACES[(number + 2) % 6]
        context = f"On day {number} {who} was seen in {where}. A dog barked in {other}."
        answers = [{"text": where, "answer_start": context.index(where)}] if number else []
        asked = {"id": f"q{number}", "question": f"Where was {who} seen?", "answers": answers, "is_impossible": not answers}
        paragraphs.append({"context": context, "qas": [asked]})
    path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "people", "paragraphs": paragraphs}]}), encoding="utf-8")
    return path


def bert(folder: Path) -> Path:
    """A tiny random BERT whose words are those of the passages."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = dict.fromkeys(" ".join(["On day was seen in . A dog barked Where ?", *PLACES, *PEOPLE, *map(str, range(40))]).split())
    numbers = {word: place for place, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    transformers.BertModel(transformers.BertConfig(vocab_size=len(numbers), **shape), add_pooling_layer=False).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def normal(text: str) -> list[str]:
    """As in SQuAD's evaluation script."""
    text = "".join(letter for letter in text.lower() if letter not in set(string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def f1(said: str, true: str) -> float:
    one, other = normal(said), normal(true)
    same = sum((collections.Counter(one) & collections.Counter(other)).values())
    return 0.0 if not same else 2 * (same / len(one)) * (same / len(other)) / (same / len(one) + same / len(other))


def test_squads_json_from_the_command_line_and_its_scores_again(tmp_path):
    command = ["run", "find-answer", "--data", str(squad(tmp_path / "squad.json")), "--backbone", str(bert(tmp_path / "bert"))]
    options = ["--output", "out", "--set", "recipe.epochs=1", "--json", "--quiet"]
    variables = {**os.environ, "FMHUB_HOME": str(tmp_path / "home"), "FMHUB_PLUGIN_SECONDS": "60"}
    done = subprocess.run([sys.executable, "-m", "fmhub", *command, *options], cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    files = {"predictions.parquet": record} | {f"baselines/{row['name']}.parquet": row for row in record["baselines"]}
    for file, told in files.items():
        rows = [row for row in pq.read_table(tmp_path / "out" / file).to_pylist() if row["split"] == "test"]
        pairs = [(said[0] if isinstance(said := row["prediction"], list) else said, row["target"]) for row in rows]
        mine = {
            "answer_f1": sum(max(f1(said, one) for one in true) for said, true in pairs) / len(pairs),
            "exact_match": sum(max(normal(said) == normal(one) for one in true) for said, true in pairs) / len(pairs),
        }
        for metric, score in told["scores"]["test"].items():
            assert score["value"] == pytest.approx(mine[metric], abs=1e-6), (file, metric)


def test_a_text_is_finished_in_fifteen_per_cent_less_perplexity_than_by_the_frozen_model():
    record = json.loads((PLACE / "finish-text.json").read_text())
    files = {"predictions.parquet": record} | {f"baselines/{row['name']}.parquet": row for row in record["baselines"]}
    for file, told in files.items():
        every, found = pq.read_table(PLACE / "finish-text" / file).to_pylist(), []
        for seed in sorted({row["seed"] for row in every}):
            rows = [row for row in every if row["seed"] == seed]
            nats, tokens = sum(row["nll"] for row in rows), sum(row["tokens"] for row in rows)
            found.append(
                {
                    "perplexity": math.exp(nats / tokens),
                    "bits_per_byte": nats / math.log(2) / sum(row["bytes"] for row in rows),
                    "next_token": sum(row["hits"] for row in rows) / tokens,
                    "chrf": CHRF().corpus_score([row["prediction"] for row in rows], [[row["target"] for row in rows]]).score,
                }
            )
        for metric, score in told["scores"]["test"].items():
            assert score["value"] == pytest.approx(sum(one[metric] for one in found) / len(found), abs=1e-6), (file, metric)
    (frozen,) = [row for row in record["baselines"] if row["name"] == "frozen"]
    asked = [[(row["id"], row["tokens"]) for row in pq.read_table(PLACE / "finish-text" / file).to_pylist() if row["seed"] == 0]
             for file in ("predictions.parquet", "baselines/frozen.parquet")]  # fmt: skip
    assert asked[0] == asked[1] and record["seeds"] == 3
    assert record["scores"]["test"]["perplexity"]["value"] <= 0.85 * frozen["scores"]["test"]["perplexity"]["value"]
