"""Shared fixtures: a home of one's own, a tiny backbone for mechanics, the real one for what users see."""

from __future__ import annotations

import os
import signal

# one thread a process: two workers of two threads each wait for one another on two cores
os.environ.setdefault("OMP_NUM_THREADS", "1")
# a suite that a script starts in the background inherits "ignore Ctrl-C", and so would what it starts
signal.signal(signal.SIGINT, signal.default_int_handler)

from collections.abc import Callable, Iterator, Sequence
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


@pytest.fixture
def unshipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A board that begins empty: without the reference runs that every board begins with."""
    monkeypatch.setattr("fmhub.leaderboard.shipped.kept", dict)


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
    from hypothesis import HealthCheck, settings

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("busy")  # other work on the machine is no fault of what is tested


_TEXT_SHAPE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 100}
_IMAGE_SHAPE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 16, "patch_size": 4}
_SHAPES: dict[str, dict[str, Any]] = {
    "bert": {**_TEXT_SHAPE, "max_position_embeddings": 64},
    "roberta": {**_TEXT_SHAPE, "max_position_embeddings": 66, "pad_token_id": 1},
    "llama": {**_TEXT_SHAPE, "num_key_value_heads": 2, "max_position_embeddings": 64},
    "electra": {**_TEXT_SHAPE, "embedding_size": 16, "max_position_embeddings": 64},
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


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that holds the real minilm-l6 and nothing else, fetched once a session as users fetch it."""
    from fmhub import backbones

    place = tmp_path_factory.mktemp("weights") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FMHUB_HOME", str(place))
        patch.delenv("FMHUB_OFFLINE", raising=False)
        backbones.card("minilm-l6").fetch()
    return place


TASK = """
from fmhub import Recipe, Task, hookimpl
class Part:
    name = "part"
    def load(self): raise AssertionError
    def build(self, *a): raise AssertionError
def task(name, **more): return Task(name=name, title=name.title(), data=Part(), head=Part(), metrics=["accuracy"], **more)
"""
"""What the modules of made-up plugins begin with."""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path, also of child processes, that stands for site-packages; only its plugins are installed."""
    import importlib
    import sys

    from fmhub import hub

    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    before = set(sys.modules)
    importlib.invalidate_caches()
    hub.refresh()
    yield folder
    hub.refresh()
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture
def distribution(site: Path) -> Callable[..., str]:
    """`distribution("fmhub-sms", CODE)` puts a made-up plugin, metadata and module, into `site` and returns the module's name."""

    def make(name: str, code: str, *, version: str = "1.0", point: str = "", requires: Sequence[str] = (), group: str = "fmhub") -> str:
        module = name.lower().replace("-", "_").replace(".", "_")
        info = site / f"{module}-{version}.dist-info"
        info.mkdir()
        lines = [
            "Metadata-Version: 2.1",
            f"Name: {name}",
            f"Version: {version}",
            "Summary: made up",
            *(f"Requires-Dist: {one}" for one in requires),
        ]
        (info / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[{group}]\n{point or module} = {module}{':command' if 'command' in group else ''}\n")
        (site / f"{module}.py").write_text(TASK + code, encoding="utf-8")
        return module

    return make
