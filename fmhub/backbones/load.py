"""A pretrained transformer from a local folder of config.json and safetensors; never the network, remote code or a pickle."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fmhub.backbones.structure import Structure, find
from fmhub.errors import FmhubError, UsageError, nearest

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from fmhub.backbones.cards import Card


@dataclass
class Backbone:
    """A frozen float32 model in eval mode. An adapter is attached to it in place, so every run loads its own."""

    name: str
    sha256: str
    model: Any
    folder: Path
    missing: frozenset[str] = frozenset()
    """Parameters that the checkpoint lacked or had in another shape: they start at random and are trained in full."""
    options: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def structure(self) -> Structure:
        return find(self.model)

    @property
    def width(self) -> int:
        """Size of a hidden state."""
        return self.structure.width

    @property
    def layer_count(self) -> int:
        return len(self.structure.layers)

    @property
    def max_length(self) -> int:
        """The most tokens that have a position; 2**20 where the model sets no limit."""
        limit = getattr(self.model.config, "max_position_embeddings", None)
        if not isinstance(limit, int) or limit <= 0:
            return 1 << 20
        table = getattr(getattr(self.structure.core, "embeddings", None), "position_embeddings", None)
        offset = getattr(table, "padding_idx", None)  # RoBERTa's positions start behind its padding token
        return limit if offset is None else limit - offset - 1

    def tokenizer(self) -> Tokenizer:
        """The raw tokenizer of tokenizer.json, read once. Raises `FmhubError` where the backbone has none."""
        return self._tokenizer

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer

        path = self.folder / "tokenizer.json"
        if not path.is_file():
            raise FmhubError(f"Backbone {self.name!r} has no tokenizer.json in {self.folder}: it cannot read text.")
        return Tokenizer.from_file(str(path))


def load(
    folder: Path, *, sha256: str, card: Card | None = None, options: Mapping[str, Any] | None = None, random: bool = False
) -> Backbone:
    """Load the model of `folder`, whose weights were checked against `sha256` before.

    `options` override the card's and fields of the config (image size, context); `random` leaves the weights at a random start of the
    same shape and needs no weights file. Raises `FmhubError`, or `UsageError` for an unknown option.
    """
    import transformers

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    name = card.name if card is not None else folder.name
    options = {**(card.options if card is not None else {}), **(options or {})}
    config = _config(folder, name, options)
    kind = _class(config, name)
    extra = {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(kind.__init__).parameters else {}
    # what the checkpoint lacks starts at random: the same random numbers for every run, whatever the state of the caller's
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, missing = _random(kind, config, extra) if random else _pretrained(kind, folder, config, extra, name)
    model.eval().requires_grad_(False)
    return Backbone(name=name, sha256=sha256, model=model, folder=folder, missing=missing, options=options)


def _config(folder: Path, name: str, options: Mapping[str, Any]) -> Any:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise FmhubError(f"Backbone {name!r}: no usable config.json in {folder}: {_line(error)}") from None
    for option, value in options.items():
        if not hasattr(config, option):
            raise UsageError(f"Backbone {name!r} has no option {option!r}.{nearest(option, vars(config))}")
        setattr(config, option, value)
    return config


def _class(config: Any, name: str) -> Any:
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    if type(config) not in MODEL_MAPPING:
        raise FmhubError(f"Backbone {name!r} is of type {getattr(config, 'model_type', '?')!r}, which transformers cannot load as a model.")
    kind = MODEL_MAPPING[type(config)]
    return kind[0] if isinstance(kind, tuple) else kind


def _random(kind: Any, config: Any, extra: dict[str, Any]) -> tuple[Any, frozenset[str]]:
    return kind(config, **extra).to(torch.float32), frozenset()


def _pretrained(kind: Any, folder: Path, config: Any, extra: dict[str, Any], name: str) -> tuple[Any, frozenset[str]]:
    if not any(folder.glob("*.safetensors")):
        raise FmhubError(f"Backbone {name!r}: no .safetensors weights in {folder}; other formats are never read.")
    if (folder / "adapter_config.json").exists():
        raise FmhubError(f"Backbone {name!r}: {folder} holds an adapter, not a whole model. Name the model that it was trained on.")
    try:
        model, info = kind.from_pretrained(
            folder, config=config, dtype=torch.float32, local_files_only=True, use_safetensors=True, trust_remote_code=False,
            ignore_mismatched_sizes=True, output_loading_info=True, **extra,
        )  # fmt: skip
    except Exception as error:  # whatever a broken file makes a loader raise
        raise FmhubError(f"Backbone {name!r} in {folder} cannot be loaded: {_line(error)}") from None
    mismatched = {key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]}
    named = dict(model.named_parameters())
    missing = frozenset((set(info["missing_keys"]) | mismatched) & named.keys())
    if missing == named.keys():
        raise FmhubError(f"Backbone {name!r}: the weights in {folder} hold nothing that {kind.__name__} knows.")
    return model, missing


def _line(error: BaseException) -> str:
    """The first line of a message, at most 200 characters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
