"""Runs from the command line on pairs of one's own: WMT's files, an encoder-decoder from a folder, and scores computed again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fmhub_translation import fmhub_tasks
from sacrebleu.metrics import BLEU, CHRF

from fmhub.evaluation.metrics.translations import SIGNATURES
from fmhub.home import registry
from fmhub.stems.marks import MARK

NOUNS = {"day": "jour", "film": "film", "book": "livre", "news": "nouvelle", "cell": "cellule", "page": "page"}
SIGNS = {"good": "bon", "bad": "mauvais", "fine": "beau", "sad": "triste", "red": "rouge"}
PAIRS = [(f"the {sign} {noun} %1", f"le {NOUNS[noun]} {SIGNS[sign]} %1") for noun in NOUNS for sign in SIGNS]
PLACE = registry() / "leaderboard" / "fmhub-translation"
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
TASKS = {task.name: task for task in fmhub_tasks()}
KEPT = {path.stem: json.loads(path.read_text()) for path in sorted(PLACE.glob("*.json"))}


def folder(path: Path, kind: str) -> Path:
    """A tiny random T5 or BERT with a tokenizer of words."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    words = dict.fromkeys(" ".join(text.replace("%1", "α") for pair in PAIRS for text in pair).split())
    tokenizer = Tokenizer(
        models.WordLevel({word: place for place, word in enumerate(["<pad>", "</s>", "<unk>", *words])}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    tokenizer.post_processor = processors.TemplateProcessing(single="</s> $A </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens(["<pad>", "</s>"])
    size, ends = tokenizer.get_vocab_size(), {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1}
    torch.manual_seed(0)
    model: object
    if kind == "t5":
        config = transformers.T5Config(vocab_size=size, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, **ends)
        model = transformers.T5ForConditionalGeneration(config)
    else:
        shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
        model = transformers.BertModel(transformers.BertConfig(vocab_size=size, **shape), add_pooling_layer=False)
    model.save_pretrained(path)
    tokenizer.save(str(path / "tokenizer.json"))
    return path


def again(rows: list[dict], *, chinese: bool = False) -> dict[str, float]:
    """sacrebleu's own scores of each seed's rows, and the share of rows with marks that keep them; the mean over seeds."""
    found, bleu = [], BLEU(tokenize="zh" if chinese else "13a")
    for seed in sorted({row["seed"] for row in rows}):
        said, true = ([row[name] for row in rows if row["seed"] == seed] for name in ("prediction", "target"))
        marks = [(MARK.findall(one), MARK.findall(other)) for one, other in zip(said, true, strict=True)]
        kept = [sorted(one) == sorted(other) for one, other in marks if other]
        scores = {"chrf": CHRF().corpus_score(said, [true]).score, "marks_kept": sum(kept) / len(kept)}
        found.append({**scores, "bleu_zh" if chinese else "bleu": bleu.corpus_score(said, [true]).score})
    return {name: sum(one[name] for one in found) / len(found) for name in found[0]}


@pytest.mark.parametrize("kind", ["t5", "bert"])
def test_wmts_files_with_a_backbone_from_a_folder_and_the_scores_are_sacrebleus(kind, tmp_path):
    """An encoder-decoder writes with its own decoder, an encoder with a new one."""
    (tmp_path / "pairs.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in PAIRS), encoding="utf-8")
    command = ["run", "translate-en-fr", "--data", "pairs.tsv", "--backbone", str(folder(tmp_path / kind, kind)), "--output", "out"]
    options = ["--set", "recipe.epochs=2", "--set", "recipe.length=12", "--json", "--quiet"]
    variables = {**os.environ, "FMHUB_HOME": str(tmp_path / "home"), "FMHUB_PLUGIN_SECONDS": "60"}
    done = subprocess.run([sys.executable, "-m", "fmhub", *command, *options], cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    files = {"predictions.parquet": record} | {f"baselines/{row['name']}.parquet": row for row in record["baselines"]}
    assert set(files) == {"predictions.parquet", *(f"baselines/{name}.parquet" for name in ("copy", "memory", "phrases"))}
    for file, told in files.items():
        rows = [row for row in pq.read_table(tmp_path / "out" / file).to_pylist() if row["split"] == "test"]
        for name, value in again(rows).items():
            assert told["scores"]["test"][name]["value"] == pytest.approx(value, abs=1e-6), (file, name)
    assert record["scores"]["test"]["marks_kept"]["value"] == 1
    assert {name: record["units"][name].partition("sacrebleu ")[2] for name in ("chrf", "bleu")} == {
        name: SIGNATURES[name] for name in ("chrf", "bleu")
    }


@pytest.mark.parametrize("name", KEPT)
def test_the_scores_of_reference_runs_are_sacrebleus(name):
    record = KEPT[name]
    files = {"predictions.parquet": record} | {f"baselines/{row['name']}.parquet": row for row in record["baselines"]}
    for file, told in files.items():
        mine = again(pq.read_table(PLACE / name / file).to_pylist(), chinese=name.endswith("zh"))
        for metric, score in told["scores"]["test"].items():
            assert score["value"] == pytest.approx(mine[metric], abs=1e-6), (file, metric)
    assert record["scores"]["test"]["marks_kept"]["value"] >= 0.99
    (memory,) = [row for row in record["baselines"] if row["name"] == "memory"]
    assert memory["difference"]["low"] > 0


def ends(score: dict, sign: str = "") -> str:
    return f"{score['value']:{sign}.1f} [{score['low']:{sign}.1f}, {score['high']:{sign}.1f}]"


def rows_of(name: str, record: dict):
    """The lines of the README's table of figures on one language."""
    for who, row in [("**the network**", record), *((row["name"], row) for row in record["baselines"])]:
        scores, gap = row["scores"]["test"], ends(row["difference"], "+") if row is not record else ""
        bleu = scores["bleu_zh" if name.endswith("zh") else "bleu"]["value"]
        yield f"| `{name}` | {who} | {ends(scores['chrf'])} | {bleu:.1f} | {gap} |".replace("  |", " |")


def test_the_figures_of_the_readme_and_the_references_are_those_of_the_committed_runs():
    lines = [line for line in README.splitlines() if line.startswith("| `")]
    assert sorted(lines) == sorted(line for name, record in KEPT.items() for line in rows_of(name, record))
    for name, record in KEPT.items():
        (reference,) = TASKS[name].references
        floor = next(row["scores"]["test"]["chrf"]["value"] for row in record["baselines"] if row["name"] == "copy")
        told = floor, record["scores"]["test"]["chrf"]["value"]
        assert record["seeds"] == 3 and (reference.floor, reference.reference) == pytest.approx(told, abs=5e-3)
