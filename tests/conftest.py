"""Shared fixtures: a home of one's own, a tiny backbone for mechanics, the real one for what users see."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WORDS = "good bad fine awful happy sad day film book news the a was it is not very i we they red blue".split()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh FMHUB_HOME for every test, so that none sees the user's or another's."""
    monkeypatch.setenv("FMHUB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FMHUB_OFFLINE", raising=False)
    return tmp_path / "home"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random BERT of 3 layers, 32 wide, with a word tokenizer: `--backbone PATH`."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: number for number, word in enumerate(special + WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """A csv of 120 short texts whose label shows in one word."""
    rows = ["review,stars"]
    for number in range(120):
        good = number % 2 == 0
        words = [WORDS[(number * 7 + i) % 8 + 6] for i in range(1 + number % 9)]
        words.insert(number % (len(words) + 1), ("good", "fine", "happy")[number % 3] if good else ("bad", "awful", "sad")[number % 3])
        rows.append(f"{' '.join(words)} {number},{'up' if good else 'down'}")
    path = tmp_path / "reviews.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def pytest_configure() -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


_TEXT_SHAPE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 100}
_IMAGE_SHAPE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 16, "patch_size": 4}
_SHAPES: dict[str, dict[str, Any]] = {
    "bert": {**_TEXT_SHAPE, "max_position_embeddings": 64},
    "roberta": {**_TEXT_SHAPE, "max_position_embeddings": 66, "pad_token_id": 1},
    "llama": {**_TEXT_SHAPE, "num_key_value_heads": 2, "max_position_embeddings": 64},
    "vit": {**_IMAGE_SHAPE, "intermediate_size": 64},
    "dinov2": {**_IMAGE_SHAPE, "mlp_ratio": 2},
    "whisper": {
        "vocab_size": 100, "num_mel_bins": 8, "d_model": 32, "encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_source_positions": 10, "max_target_positions": 16,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
    },
}  # fmt: skip


@pytest.fixture
def shaped(tmp_path: Path) -> Callable[..., Any]:
    """`shaped("vit")`: a random backbone of that architecture, 3 layers, 32 wide; `save=True` reads its weights from a file."""

    def make(kind: str, *, save: bool = False, **changes: Any) -> Any:
        import transformers

        from fmhub.backbones.load import load

        config = transformers.AutoConfig.for_model(kind, **{**_SHAPES[kind], **changes})
        folder = tmp_path / kind
        config.save_pretrained(folder)
        if save:
            transformers.AutoModel.from_config(config).save_pretrained(folder)
        return load(folder, sha256="0" * 64, random=not save)

    return make
