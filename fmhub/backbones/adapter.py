"""What a run trains inside and around the backbone: placing it, naming it, and a file format that trusts nobody.

LoRA: Hu et al. 2021 (arXiv:2106.09685); rsLoRA: Kalajdzievski 2023 (arXiv:2312.03732); DoRA: Liu et al. 2024
(arXiv:2402.09353); IA3: Liu et al. 2022 (arXiv:2205.05638).
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from fmhub.backbones.load import Backbone
from fmhub.errors import UntrustedFile, UsageError, nearest
from fmhub.home import atomic, read_json, strict_json, write_text
from fmhub.recipe import Recipe, layers

_JSON_LIMIT = 1 << 20
_HEADER_PER_TENSOR = 1024
_SCALES = {"ia3_l", "lora_magnitude_vector"}
"""What peft calls vectors that multiply."""


def attach(backbone: Backbone, recipe: Recipe, unread: int = 0) -> None:
    """Put the recipe's adapter into `backbone.model`, in place and once; every initial value is decided by `recipe.seed`.

    The last `unread` layers, which the head does not read, get none, and `last:K` counts below them.
    What the checkpoint contained is frozen (except for `full`: all of it, or the layers that would carry an adapter), what it
    lacked is trained in full. Raises `UsageError` for targets that the layers do not have.
    """
    model = backbone.model.requires_grad_(recipe.adapter.kind == "full" and recipe.lora.layers == "all")
    read = backbone.layer_count - unread
    count = layers(recipe.lora.layers, read)
    if count:
        chosen = backbone.structure.layers[read - count : read]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            inject(chosen, recipe, of=read)
    for name, parameter in model.named_parameters():
        if name.replace(".base_layer.", ".") in backbone.missing:
            parameter.requires_grad_(True)


def inject(chosen: nn.ModuleList, recipe: Recipe, of: int | None = None) -> None:
    """Put the recipe's adapter into the linear layers of `chosen`, the last ones `of` so many, or all; for `full` train `chosen` itself.

    Raises `UsageError` for targets that it does not have.
    """
    if recipe.adapter.kind == "full":
        chosen.requires_grad_(True)
        return
    linears = {name: module for name, module in chosen.named_modules() if isinstance(module, nn.Linear)}
    names = sorted({name.rpartition(".")[2] for name in linears})
    for target in recipe.lora.targets:
        if target != "all" and target not in names:
            raise UsageError(
                f"recipe.lora.targets: no linear layer is called {target!r}.{nearest(target, names)} Known: {', '.join(names)}."
            )
    targets = [name for name in linears if "all" in recipe.lora.targets or name.rpartition(".")[2] in recipe.lora.targets]

    from peft import IA3Config, LoraConfig, inject_adapter_in_model

    config: Any
    if recipe.adapter.kind == "ia3":
        # the paper rescales what enters the projection back down; elsewhere what a layer gives
        inward = [name for name in targets if linears[name].in_features > linears[name].out_features]
        config = IA3Config(target_modules=targets, feedforward_modules=inward)
    else:
        alpha = 16 * math.sqrt((of or len(chosen)) / len(chosen)) if recipe.lora.alpha is None else recipe.lora.alpha
        config = LoraConfig(
            r=recipe.lora.rank, lora_alpha=alpha, lora_dropout=recipe.lora.dropout, target_modules=targets,
            use_rslora=recipe.adapter.kind == "rslora", use_dora=recipe.adapter.kind == "dora",
        )  # fmt: skip
    inject_adapter_in_model(config, chosen)


def merge(network: nn.Module) -> None:
    """Fold LoRA into the weights that it stands beside, for predicting only: the same up to rounding, in a third of the products."""
    for module in network.modules():
        if hasattr(module, "lora_A") and not module.merged:
            cast("Any", module).merge()


def trainable(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that a run trains, by name, in the module's order."""
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


def pulled(named: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Of trainable parameters those that decay and L1 may pull to 0: matrices, whose neutral value it is.

    Not vectors (biases, norms); nor IA3's scales, neutral at 1, and DoRA's magnitudes, in whatever shape. One row or column makes
    no scale: a LoRA of rank 1 and the output layer of one number are added, and pulled.
    """
    return {name: one for name, one in named.items() if one.ndim > 1 and not _SCALES & set(name.split("."))}


def kept(network: nn.Module) -> dict[str, torch.Tensor]:
    """All that an adapter's file holds: the trained parameters, and what stem and head computed once (their persistent buffers)."""
    buffers = {name: tensor for name, tensor in network.named_buffers() if name.startswith(("stem.", "head."))}
    return {**trainable(network), **{name: buffers[name] for name in network.state_dict() if name in buffers}}


def save(path: Path, tensors: Mapping[str, torch.Tensor], meta: Mapping[str, Any]) -> None:
    """Write `tensors` to `path` (.safetensors) and, beside it, json with `meta` and the sha256 of those bytes; both atomically."""
    from safetensors.torch import save as to_bytes

    data = to_bytes({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    with atomic(path) as file:
        file.write(data)
    sidecar = {"format": 1, "sha256": hashlib.sha256(data).hexdigest(), "meta": dict(meta)}
    write_text(path.with_suffix(".json"), json.dumps(sidecar, indent=1, sort_keys=True, allow_nan=False) + "\n")


def load_into(network: nn.Module, path: Path) -> dict[str, Any]:
    """Put the tensors of `path` into the trainable parameters of `network` and return the file's `meta`.

    Names, shapes, dtypes and the hash must be exactly right and every value finite; nothing is changed unless all is.
    Raises `UntrustedFile`, before reading more than the network's own tensors could fill.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    wanted = kept(network)
    meta = _sidecar(path.with_suffix(".json"))
    data = _bytes(path, wanted)
    _check_header(path, data, wanted)
    if hashlib.sha256(data).hexdigest() != meta["sha256"]:
        raise UntrustedFile(f"Adapter {path} is not the file that its json describes (sha256 differs): it was changed or damaged.")
    try:
        tensors = from_bytes(data)
    except SafetensorError as error:
        raise UntrustedFile(f"Adapter {path} is not a valid safetensors file: {error}.") from None
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise UntrustedFile(f"Adapter {path}: tensor {name} holds values that are not finite.")
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(tensors[name])
    return dict(meta["meta"])


def read_meta(path: Path) -> dict[str, Any]:
    """The `meta` that was saved beside the tensors of `path`. Raises `UntrustedFile`."""
    return dict(_sidecar(path.with_suffix(".json"))["meta"])


def _sidecar(path: Path) -> dict[str, Any]:
    found = read_json(path, limit=_JSON_LIMIT)
    if not isinstance(found, dict) or found.get("format") != 1 or not isinstance(found.get("meta"), dict) or "sha256" not in found:
        raise UntrustedFile(f"{path} is not an adapter's json of format 1.")
    return found


def _bytes(path: Path, wanted: Mapping[str, torch.Tensor]) -> bytes:
    limit = sum(tensor.numel() * tensor.element_size() for tensor in wanted.values()) + _HEADER_PER_TENSOR * (len(wanted) + 1)
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise UntrustedFile(f"Adapter {path} cannot be read: {error.strerror}.") from None
    if len(data) > limit:
        raise UntrustedFile(f"Adapter {path} is larger than this network's adapter can be ({limit} bytes).")
    return data


def _check_header(path: Path, data: bytes, wanted: Mapping[str, torch.Tensor]) -> None:
    """Names, shapes and dtypes, read from the header alone; offsets are safetensors' own to check."""
    from safetensors.torch import _TYPES  # the format's names of dtypes

    size = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else 1 << 63
    if size > min(len(data) - 8, _HEADER_PER_TENSOR * (len(wanted) + 1)):
        raise UntrustedFile(f"Adapter {path} is not a safetensors file of this network's tensors.")
    try:
        header = strict_json(data[8 : 8 + size])
        found = {name: (tuple(entry["shape"]), _TYPES.get(entry["dtype"])) for name, entry in header.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UntrustedFile(f"Adapter {path} has no valid safetensors header: {error}.") from None
    expected = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in wanted.items()}
    for what, names in (("lacks", expected.keys() - found.keys()), ("has the unknown", found.keys() - expected.keys())):
        if names:
            raise UntrustedFile(f"Adapter {path} {what} tensor {min(names)}{f' and {len(names) - 1} more' if len(names) > 1 else ''}.")
    for name, (shape, dtype) in expected.items():
        if found[name] != (shape, dtype):
            got = f"{found[name][1]} {list(found[name][0])}"
            raise UntrustedFile(f"Adapter {path}: tensor {name} is {got}, it must be {dtype} {list(shape)}.")
