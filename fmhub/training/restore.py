"""A trained network from a run's folder, with nothing in the folder trusted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmhub import backbones, hub
from fmhub.backbones.adapter import load_into, read_meta
from fmhub.backbones.load import load
from fmhub.errors import FmhubError, UntrustedFile
from fmhub.runs import folder as run_folder
from fmhub.training.network import Network
from fmhub.training.plan import recipe_from, replan, spec_from

if TYPE_CHECKING:
    from fmhub.task import Splits

ADAPTER = "adapter/adapter.safetensors"


def restore(folder: Path) -> Network:
    """The network of a complete run. Raises `UntrustedFile` where adapter, plan and backbone do not belong together."""
    stored, meta = run_folder.read_plan(folder), read_meta(folder / ADAPTER)
    if not {"stem", "head", "recipe", "backbone"} <= set(meta):
        raise UntrustedFile(f"{folder / ADAPTER} does not say which stem, head, recipe and backbone it belongs to.")
    task = _declared(stored)
    card = backbones.from_entry(stored["card"], str(folder / "plan.json"))
    if card.sha256 != meta["backbone"]["sha256"]:
        raise UntrustedFile(f"The adapter in {folder} was trained on other weights than backbone {card.name} has now.")
    network = Network(
        load(card.fetch(), card=card, sha256=card.sha256, random=bool(stored["options"].get("random_weights"))),
        spec_from(meta["stem"], getattr(task, "stem", None)),
        spec_from(meta["head"], getattr(task, "head", None)),
        recipe_from(meta["recipe"]),
    )
    load_into(network, folder / ADAPTER)
    return network


def data(folder: Path) -> Splits | None:
    """A run's data, read again; None where they are not to be had."""
    try:
        return replan(run_folder.read_plan(folder)).task.data.load()
    except FmhubError:  # without them ids are understood and given, but no names
        return None


def _declared(stored: dict[str, Any]) -> Any:
    """The task as its plugin declares it today, or None where the plugin is gone."""
    try:
        return hub.task(f"{stored['task']['plugin']}:{stored['task']['name']}")[0]
    except FmhubError:
        return None
