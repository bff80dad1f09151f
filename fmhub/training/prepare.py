"""A member's rows made ready: read by the stem, without those that nothing is learnt from, beside what frozen layers say of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fmhub.errors import DataError
from fmhub.training.encodings import take, within
from fmhub.training.network import Network, Part
from fmhub.training.prefix import frozen_below, open_or_fill

if TYPE_CHECKING:
    from fmhub.training.member import Member


def prepared(network: Network, member: Member, say: Callable[[str], None], cache: Path | None = None) -> dict[str, Part]:
    """Every split read once by the stem, with its targets; what is read at every epoch with what frozen layers say of it.

    `cache` is where that is kept; by default in the home, for later runs.
    """
    read = partial(network.prepare, encodings=member.encodings)
    parts = {name: read(table) for name, table in member.splits.items()}
    parts["train"] = _learnable(network, parts["train"], say)
    start, why = frozen_below(network)
    if not start:
        if network.recipe.lora.layers != "all":
            say(f"No prefix cache: {why}.")
        return parts
    keep = partial(open_or_fill, network, fingerprint=member.fingerprint, start=start, say=say, root=cache)
    pool = None if member.pool is None else keep(read(member.pool, targets=False).encoded)
    for name in ("train", "validation"):
        if name in parts and member.pool is not None:
            rows = pc.index_in(parts[name].table.column("id"), member.pool.column("id").combine_chunks()).to_numpy()
            parts[name].prefix = pool.take(rows) if pool is not None else None
        elif name in parts:
            parts[name].prefix = keep(parts[name].encoded, exact=name == "validation")
    return parts


def _learnable(network: Network, part: Part, say: Callable[[str], None]) -> Part:
    """The training part without the rows that the head can learn nothing from, where it says so of any."""
    asked = getattr(network.head_spec, "learnable", None)
    if asked is None:
        return part
    whole, rows = within(part.encoded, np.arange(len(part.table)))
    kept = asked(whole)[rows]
    if kept.all():
        return part
    why = f"longer than {network.recipe.length} {network.stem_spec.unit} (recipe.length), and nothing can be learnt from these"
    if not kept.any():
        raise DataError(f"All {len(kept)} examples of train are {why}.")
    say(f"Left out of train: {len(kept) - kept.sum()} of {len(kept)} examples, {why}.")
    table = part.table.filter(pa.array(kept))
    return Part(table, take(part.encoded, np.flatnonzero(kept)), network.head_spec.targets(table))


def to_predict(network: Network, member: Member, part: Part, say: Callable[[str], None], cache: Path | None) -> Part:
    """The part as its stored predictions are made: what frozen layers say is not halved to be kept, so that they are the whole model's."""
    start, _ = frozen_below(network)
    if member.pool is not None or not start:
        return replace(part, prefix=None)
    if part.prefix is not None:  # validation's
        return part
    return replace(
        part, prefix=open_or_fill(network, part.encoded, fingerprint=member.fingerprint, start=start, say=say, root=cache, exact=True)
    )


def truncated(parts: dict[str, Part], length: int, unit: str) -> list[str]:
    """Notes on examples of which not all is read."""
    return [
        f"{part.encoded.truncated} of {len(part.encoded.lengths)} examples of {name} are longer than {length} {unit} "
        "and were cut (recipe.length)."
        for name, part in parts.items()
        if part.encoded.truncated
    ] + [
        f"{part.encoded.unknown} of {len(part.encoded.lengths)} examples of {name} have characters that the backbone does not know."
        for name, part in parts.items()
        if part.encoded.unknown
    ]
