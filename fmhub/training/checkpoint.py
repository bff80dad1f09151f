"""What a killed run resumes from: the trainable tensors, the optimiser's, the best ones so far, and the step.

One safetensors file with its json in the header, written atomically: a reader sees the last whole one. Batches and random
states are functions of (seed, step), so nothing else has to be kept.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from fmhub.errors import UntrustedFile
from fmhub.home import atomic


@dataclass
class Progress:
    """How far training is: `step` optimiser steps done, and what validation said; `best_step` is the one that is kept."""

    step: int = 0
    best_step: int = 0
    best: float | None = None
    error: float = 0.0
    """The best reading's standard error."""
    worse: int = 0
    """Readings since the best one."""
    seconds: float = 0.0
    examples: int = 0
    finished: bool = False
    history: list[dict[str, float]] = field(default_factory=list)


def save(path: Path, progress: Progress, groups: dict[str, dict[str, torch.Tensor]]) -> None:
    """Write `groups` (`model`, `best`, and the optimiser's by name) and `progress` to `path`."""
    from safetensors.torch import save as to_bytes

    tensors = {f"{group}/{name}": tensor.detach().contiguous().cpu() for group, named in groups.items() for name, tensor in named.items()}
    with atomic(path) as file:
        file.write(to_bytes(tensors, {"progress": json.dumps(asdict(progress))}))


def load(path: Path) -> tuple[Progress, dict[str, dict[str, torch.Tensor]]] | None:
    """What `save` wrote, or None where there is no checkpoint. Raises `UntrustedFile`."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    groups: dict[str, dict[str, torch.Tensor]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            progress = Progress(**json.loads(file.metadata()["progress"]))
            for key in file.keys():  # noqa: SIM118 - not a mapping
                group, _, name = key.partition("/")
                groups.setdefault(group, {})[name] = file.get_tensor(key)
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise UntrustedFile(f"Checkpoint {path} cannot be read: {error}. Remove it to train from the start.") from None
    return progress, groups


def optimiser_groups(optimiser: torch.optim.Optimizer, names: list[str]) -> dict[str, dict[str, torch.Tensor]]:
    """The optimiser's tensors as `{state: {parameter: tensor}}`; empty before its first step."""
    groups: dict[str, dict[str, torch.Tensor]] = {}
    for name, parameter in zip(names, _parameters(optimiser), strict=True):
        for key, value in optimiser.state.get(parameter, {}).items():
            groups.setdefault(f"optimiser.{key}", {})[name] = torch.as_tensor(value)
    return groups


def restore_optimiser(optimiser: torch.optim.Optimizer, names: list[str], groups: dict[str, dict[str, torch.Tensor]]) -> None:
    """Put back what `optimiser_groups` took."""
    states: dict[str, Any] = {key.removeprefix("optimiser."): named for key, named in groups.items() if key.startswith("optimiser.")}
    for name, parameter in zip(names, _parameters(optimiser), strict=True):
        for key, named in states.items():
            optimiser.state[parameter][key] = named[name].to(parameter.device)  # a fused optimiser's step counter, too


def scaler_group(scaler: torch.amp.GradScaler | None) -> dict[str, dict[str, torch.Tensor]]:
    """What half precision's loss scaling has learnt; nothing without one."""
    if scaler is None:
        return {}
    state = scaler.state_dict()
    return {"scaler": {name: torch.tensor(state[name], dtype=torch.float64) for name in ("scale", "_growth_tracker")}}


def restore_scaler(scaler: torch.amp.GradScaler | None, groups: dict[str, dict[str, torch.Tensor]]) -> None:
    """Put back what `scaler_group` took; where there is nothing the scale of a new training, whatever an earlier one has left."""
    if scaler is not None:
        kept = groups.get("scaler", {"scale": torch.tensor(2.0**16), "_growth_tracker": torch.tensor(0)})
        scaler.load_state_dict({**scaler.state_dict(), "scale": float(kept["scale"]), "_growth_tracker": int(kept["_growth_tracker"])})


def _parameters(optimiser: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def seconds(path: Path) -> float:
    """How long the training that `path` belongs to has run so far, in seconds; 0 where there is no checkpoint."""
    found = load(path)
    return 0.0 if found is None else found[0].seconds
