"""What the frozen layers say of every example, computed once and kept on disk.

With an adapter in the last k layers, the input of the first of them never changes: it is computed in a pass of its own,
over batches made from the data alone, and read back from the file whether it was there before or not, so that a warm cache
changes no bit. Later epochs, seeds, heads and evaluations start there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fmhub import cache
from fmhub.backbones.products import fast_products
from fmhub.home import make_folder
from fmhub.training.batching import evaluation_batches

if TYPE_CHECKING:
    from fmhub.task import Encoded
    from fmhub.training.network import Network

FORMAT = 3
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Arithmetic of `recipe.precision`; stored is what comes out, as ever."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Prefix:
    """A filled cache: `states` (tokens of all examples, width), and where each example's begin and how many they are.

    Where the head reads layers below `start`, a state is wider: what they say stands beside it.
    """

    start: int
    states: np.ndarray
    offsets: np.ndarray
    counts: np.ndarray
    uniform: bool
    """All rows of the input have equally many tokens and all of them count, padding too (the model decides what it attends to)."""
    tokens: int = 0
    """Of one such row: an example may be several (`windows` of its batch). 0: each is one, as long as its own count."""

    def batch(self, rows: np.ndarray, device: torch.device) -> torch.Tensor:
        """The input of layer `start` for some rows, float32: their tokens one after another (tokens, width), or
        (rows, tokens, width) where uniform, a row's windows in turn. What `Encoder.forward` takes as `hidden`."""
        pieces = [self.states[at : at + count] for at, count in zip(self.offsets[rows], self.counts[rows], strict=True)]
        flat = torch.from_numpy(np.concatenate(pieces).astype(np.float32, copy=False))
        return (flat.view(-1, self.tokens or len(flat) // len(rows), flat.shape[1]) if self.uniform else flat).to(device)

    def take(self, rows: np.ndarray) -> Prefix:
        """The same cache for a part of its examples (a fold): row i is then `rows[i]` of before."""
        return replace(self, offsets=self.offsets[rows], counts=self.counts[rows])


def frozen_below(network: Network) -> tuple[int, str]:
    """(the first layer that training changes, "") or (0, why nothing can be cached). Raises `UsageError` for a wrong limit."""
    if cache.limit() == 0:
        return 0, "FMHUB_CACHE_LIMIT is 0"
    structure = network.encoder.structure
    if network.stem is not None and any(parameter.requires_grad for parameter in network.stem.parameters()):
        return 0, "the stem is trained"
    trained = [any(parameter.requires_grad for parameter in layer.parameters()) for layer in structure.layers]
    inside = {id(parameter) for parameter in structure.layers.parameters()}
    if any(parameter.requires_grad and id(parameter) not in inside for parameter in structure.core.parameters()):
        return 0, "parts of the backbone outside its layers are trained"
    start = trained.index(True) if True in trained else len(trained)
    if start == 0:
        return 0, "all layers are trained (recipe.lora.layers=last:K leaves some frozen)"
    reads = network.reads
    start = min(start, len(trained) + 1 + max(reads.layers))  # nothing above is read
    if network.recipe.augment:
        return 0, "recipe.augment changes every example at random before them"
    return start, ""


def open_or_fill(
    network: Network, encoded: Encoded, *, fingerprint: str, start: int, say: Say, root: Path | None = None, exact: bool = False
) -> Prefix | None:
    """The cache of what the layers below `start` say of `encoded`, filled first where it is not there or damaged.

    `fingerprint` is the data's; `root` is another place than the home's, for what is not to last; `exact` keeps float32, from
    which a prediction is the whole model's but for rounding. None where it would not fit `FMHUB_CACHE_LIMIT` or the disk,
    which `say` is told.
    """
    identity = {**_identity(network, encoded, fingerprint, start), "exact": exact}
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]
    folder = make_folder(root or cache.root()) / key
    try:
        with cache.locked(folder):
            if cache.size(folder) > cache.limit():
                cache.remove(folder)  # under this limit a cold run would not make it, so a warm one does not read it
            cache.make_room(folder, say)
            found = _open(folder, start, say)
            if found is None:
                say(f"Computing {start} frozen layer{'s' * (start > 1)} once for {len(encoded.lengths)} examples.")
                _fill(network, encoded, folder, start, identity, (np.float32,) if exact else (np.float16, np.float32))
                cache.make_room(folder, say)
                found = _open(folder, start, say)
            with suppress(OSError):  # removed by hand: what is mapped can still be read
                os.utime(folder)
    except OSError as error:
        say(f"The prefix cache is left out, frozen layers are computed at every step: {error.strerror or error}.")
        return None
    return found


def _too_large() -> OSError:
    return OSError(f"it would be larger than FMHUB_CACHE_LIMIT ({cache.limit() / 1e9:.3g} GB)")


def _identity(network: Network, encoded: Encoded, fingerprint: str, start: int) -> dict[str, Any]:
    """All that decides a cached bit."""
    import transformers

    backbone, stem = network.backbone, network.stem_spec
    return {
        "format": FORMAT, "backbone": backbone.sha256, "model": type(backbone.model).__name__, "start": start,
        "reads": network.reads.layers, "options": {name: repr(value) for name, value in sorted(backbone.options.items())},
        "weights": _weights(network, start), "data": fingerprint, "encoded": _digest([encoded.lengths, encoded.values]),
        "stem": f"{type(stem).__module__}.{stem!r}", "length": network.recipe.length, "budget": network.recipe.budget,
        "precision": network.recipe.precision, "device": next(network.parameters()).device.type,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }  # fmt: skip


def _weights(network: Network, start: int) -> str:
    """A random-weight twin has another hash: the frozen layers' first values speak for them."""
    layers = network.encoder.structure.layers
    return _digest([parameter.detach().flatten()[:64].cpu().numpy() for layer in list(layers)[:start] for parameter in layer.parameters()])


def _digest(value: Any) -> str:
    sha = hashlib.sha256()

    def add(one: Any) -> None:
        if isinstance(one, torch.Tensor):
            one = one.detach().cpu().numpy()
        if isinstance(one, np.ndarray) and one.dtype != object:
            sha.update(f"array {one.dtype} {one.shape} ".encode())
            sha.update(np.ascontiguousarray(one).tobytes())
        elif isinstance(one, Mapping):
            sha.update(f"mapping {len(one)} ".encode())
            for name in sorted(one):
                add(str(name))
                add(one[name])
        elif isinstance(one, list | tuple | np.ndarray):
            sha.update(f"list {len(one)} ".encode())
            for item in one:
                add(item)
        else:
            data = one if isinstance(one, bytes) else repr(one).encode()
            sha.update(f"{type(one).__name__} {len(data)} ".encode() + data)

    add(value)
    return sha.hexdigest()


def _open(folder: Path, start: int, say: Say) -> Prefix | None:
    """The cache in `folder`, if it is whole; sizes and hashes are compared with its meta.json."""
    if not folder.exists():
        return None
    try:
        meta = cache.meta_of(folder)
        index = np.fromfile(folder / "index", dtype=np.int64).reshape(2, meta["rows"])
        states = np.memmap(folder / "states", dtype=np.dtype(meta["dtype"]), mode="r").reshape(-1, meta["width"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        if folder.exists():  # else it was removed by hand, and is only not there
            say(f"The prefix cache {folder.name} is damaged ({error}); it is built again.")
            cache.remove(folder)
        return None
    return Prefix(start, states, index[0], index[1], meta["uniform"], meta.get("tokens", 0))


def _fill(
    network: Network, encoded: Encoded, folder: Path, start: int, identity: dict[str, Any], dtypes: tuple[type[np.floating[Any]], ...]
) -> None:
    """The first of `dtypes` that holds every value is kept. Raises `OSError` where there is no room."""
    half = cache.half(folder)
    training = network.training
    network.eval()
    try:
        for dtype in dtypes:
            shutil.rmtree(half, ignore_errors=True)  # whatever a killed process left is ours: the key is locked
            half.mkdir()
            if _write(network, encoded, half, start, np.dtype(dtype), identity):
                if cache.size(half) > cache.limit():
                    raise _too_large()
                half.rename(folder)
                return
        raise AssertionError("float32 never overflows")
    finally:
        shutil.rmtree(half, ignore_errors=True)
        network.train(training)


def _write(network: Network, encoded: Encoded, folder: Path, start: int, dtype: np.dtype[Any], identity: dict[str, Any]) -> bool:
    """One pass over all examples, longest first. False, with nothing whole, where half precision cannot hold a value."""
    rows, allowed = len(encoded.lengths), cache.limit()
    index, at, width, uniform, tokens = np.zeros((2, rows), np.int64), 0, 0, False, 0
    with (folder / "states").open("wb") as file:
        for batch in evaluation_batches(encoded.lengths, network.recipe.budget, encoded.alike):
            hidden, mask, uniform, owner = _states(network, encoded, batch, start)
            if len(hidden) != len(owner):
                raise OSError("an example is more than one row of the backbone's input")
            flat = hidden[mask].float().cpu().numpy()
            if not (np.abs(flat) <= np.finfo(dtype).max).all() and dtype == np.float16:
                return False
            flat = flat.astype(dtype)
            counts = np.bincount(owner, mask.sum(1).cpu().numpy(), len(batch)).astype(np.int64)
            tokens = hidden.shape[1] if uniform and not encoded.alike else 0
            index[0, batch], index[1, batch] = at + np.cumsum(counts) - counts, counts
            at, width = at + len(flat), flat.shape[1]
            if at * width * dtype.itemsize + index.nbytes > allowed:
                raise _too_large()
            file.write(flat.tobytes())
        file.flush()
        os.fsync(file.fileno())
    (folder / "index").write_bytes(index.tobytes())
    meta: dict[str, Any] = {
        "rows": rows, "width": width, "dtype": dtype.name, "uniform": uniform, "tokens": tokens, "identity": identity,
    }  # fmt: skip
    for name in cache.PARTS:
        with (folder / name).open("rb") as file:
            meta[name] = hashlib.file_digest(file, "sha256").hexdigest()
    (folder / "meta.json").write_text(json.dumps(meta, indent=1))
    return True


@torch.inference_mode()
@fast_products()
def _states(network: Network, encoded: Encoded, rows: np.ndarray, start: int) -> tuple[torch.Tensor, torch.Tensor, bool, np.ndarray]:
    """(input of layer `start`, mask of tokens to keep, whether all are kept, of which of `rows` each row of the input is)."""
    device = next(network.parameters()).device
    batch = network.batch(encoded, rows)
    inputs = {name: tensor.to(device) for name, tensor in batch.items()}
    with torch.autocast(device.type, HALF.get(network.recipe.precision), enabled=network.recipe.precision in HALF):
        hidden, mask = network.encoder.prefix(network.stem(inputs) if network.stem is not None else inputs, start, network.reads)
    given = inputs.get("attention_mask")
    # a model that shortens its input, or takes no mask, sees padding as it is: then every token is kept
    uniform = given is None or given.shape != hidden.shape[:2]
    owner = inputs["windows"][:, 0].cpu().numpy() if uniform and "windows" in inputs else np.arange(len(rows))
    return hidden, torch.ones_like(mask) if uniform else mask, uniform, owner
