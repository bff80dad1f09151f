"""How to train: plain frozen data, typed by users as `--set recipe.lora.rank=16`."""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

from fmhub.errors import UsageError, nearest


@dataclass(frozen=True, kw_only=True)
class Lora:
    """The shape of the low-rank update (Hu et al. 2021, arXiv:2106.09685)."""

    rank: int = 8
    alpha: float | None = None
    """The update counts alpha / rank times; by default 16 where all layers carry LoRA, and 16 sqrt(N / K) where K of N do: each of
    them has to change more."""
    dropout: float = 0.0
    layers: str = "all"
    """`all`, `last:K`, `head` (no LoRA, only what the checkpoint lacked) or `auto` (chosen from data size and budget)."""
    targets: tuple[str, ...] = ("all",)
    """Names of linear layers, as the last part of their module path, or `all`."""


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """What is trained of a layer: peft's LoRA, rsLoRA, DoRA or IA3, or (`full`) the layer itself; of all layers, the backbone."""

    kind: Literal["lora", "rslora", "dora", "ia3", "full"] = "lora"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides how a task is trained. Tuned per task on validation, never on test."""

    epochs: float = 3.0
    lr: float = 1e-3
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: float = 0.06
    """Share of all steps over which the learning rate rises from 0."""
    batch: int = 32
    """Examples in one optimiser step, at most."""
    budget: int = 4096
    """Units (tokens, pixels, frames: what the stem counts) in one forward pass, padding included; a larger batch is cut into parts."""
    accumulate: int = 1
    """Batches whose gradients are summed before one optimiser step."""
    length: int = 256
    """Units of one example that are read; longer ones are truncated, counted and said."""
    clip: float = 1.0
    """Largest norm of the gradient; 0 switches clipping off."""
    weight_decay: float = 0.01
    l1: float = 0.0
    dropout: float = 0.1
    """Dropout before the head's output layer."""
    label_smoothing: float = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    augment: float = 0.0
    """Strength of the stem's random augmentation, 0 (off) to 1."""
    evaluations: int = 1
    """Validation readings an epoch."""
    patience: int = 2
    """Validation readings without a new best before training stops; 0 never stops early, nor does any number with `keep=last`."""
    keep: Literal["best", "last"] = "best"
    """Which step is kept: of the latest validation reading within one standard error of the best one, or the last."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Arithmetic of the frozen layers and of training; what is trained is kept in single precision, whatever it is."""
    seed: int = 0
    adapter: Adapter = field(default_factory=Adapter)
    lora: Lora = field(default_factory=Lora)


_LIMITS: dict[str, tuple[float, float]] = {
    "epochs": (0, 10_000), "lr": (0, 10), "warmup": (0, 1), "batch": (1, 65_536), "budget": (1, 1 << 30),
    "accumulate": (1, 10_000), "length": (1, 1 << 24), "clip": (0, 1e6), "weight_decay": (0, 100), "l1": (0, 100), "dropout": (0, 0.99),
    "label_smoothing": (0, 0.99), "augment": (0, 1), "evaluations": (1, 1000), "patience": (0, 10_000), "seed": (0, 2**32 - 1),
    "lora.rank": (1, 1024), "lora.alpha": (0, 1e5), "lora.dropout": (0, 0.99),
}  # fmt: skip


def keys(recipe: Any = None, prefix: str = "") -> list[str]:
    """Every settable key, dotted, without the leading `recipe.`."""
    names = []
    for entry in dataclasses.fields(recipe or Recipe()):
        value = getattr(recipe or Recipe(), entry.name)
        names += keys(value, f"{prefix}{entry.name}.") if dataclasses.is_dataclass(value) else [prefix + entry.name]
    return names


def override(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """A copy of `recipe` with dotted keys set, e.g. `{"lora.rank": "16"}`; text is parsed to the field's type.

    Raises `UsageError` for an unknown key (with the nearest names) or a value of the wrong type or range.
    """
    for dotted, value in changes.items():
        key = dotted.removeprefix("recipe.")
        if key not in keys(recipe):
            raise UsageError(f"Unknown recipe key {dotted!r}.{nearest(key, keys(recipe))} Known: {', '.join(keys(recipe))}.")
        recipe = _set(recipe, key.split("."), key, value)
    return recipe


def _set(node: Any, path: list[str], key: str, value: Any) -> Any:
    if len(path) > 1:
        return dataclasses.replace(node, **{path[0]: _set(getattr(node, path[0]), path[1:], key, value)})
    kind = typing.get_type_hints(type(node))[path[0]]
    return dataclasses.replace(node, **{path[0]: _parse(kind, key, value)})


def _parse(kind: Any, key: str, value: Any) -> Any:
    origin = typing.get_origin(kind)
    try:
        if origin is Literal:
            if value not in typing.get_args(kind):
                raise ValueError(f"one of {', '.join(typing.get_args(kind))}")
            return value
        if origin is tuple:
            return tuple(value.split("+")) if isinstance(value, str) else tuple(value)
        if origin in (typing.Union, types.UnionType):
            kind = next(option for option in typing.get_args(kind) if option is not type(None))
        parsed = kind(value) if kind is not int else int(str(value))
        low, high = _LIMITS.get(key, (float("-inf"), float("inf")))
        if kind in (int, float) and not low <= parsed <= high:
            raise ValueError(f"a number from {low:g} to {high:g}")
        if key == "lora.layers":
            layers(str(parsed), 1 << 30)
        return parsed
    except ValueError as error:
        wanted = str(error) if str(error).startswith(("one of", "a number")) else f"a value of type {getattr(kind, '__name__', kind)}"
        raise UsageError(f"recipe.{key}={value} is not allowed: it takes {wanted}.") from None


def layers(value: str, count: int) -> int:
    """How many of the last of `count` layers carry LoRA: `all` -> count, `last:3` -> 3, `head` -> 0.

    Raises `UsageError` for anything else; `auto` must have been decided before (see `fmhub.training.choose`).
    """
    if value in ("all", "auto"):
        return count
    if value == "head":
        return 0
    kind, _, number = value.partition(":")
    if kind == "last" and number.isascii() and number.isdigit() and int(number) > 0:
        return min(int(number), count)
    raise UsageError(f"recipe.lora.layers={value} is not allowed: it takes all, last:K, head or auto.")
