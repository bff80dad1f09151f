"""A trained network from a run's folder, with nothing in the folder trusted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmhub import backbones, hub
from fmhub.backbones.adapter import load_into, read_meta
from fmhub.backbones.load import load
from fmhub.errors import FmhubError, UntrustedFile
from fmhub.runs import folder as run_folder
from fmhub.training.folds import Rows, load_rows
from fmhub.training.network import Network
from fmhub.training.plan import recipe_from, replan, spec_from
from fmhub.training.tables import with_target

if TYPE_CHECKING:
    import pyarrow as pa

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


def targets_of(folder: Path) -> dict[str, dict[str, Any]]:
    """{split: {id: target}} of a run, read again from the task's data. Raises `UntrustedFile` where the data have changed."""
    stored = run_folder.read_plan(folder)
    found: dict[str, dict[str, Any]] = {}
    for part in _rows(stored).parts:
        for name, table in part.items():
            if name != "train":
                found.setdefault(name, {}).update(zip(table.column("id").to_pylist(), table.column("target").to_pylist(), strict=True))
    return found


def with_targets(folder: Path, table: pa.Table) -> pa.Table:
    """A stored prediction table of the run in `folder` with its targets: as they are, or from the task's data where none were copied.

    Raises `UntrustedFile` where the data have changed since.
    """
    if "target" in table.column_names:
        return table
    return with_target(table, [rows for part in _rows(run_folder.read_plan(folder)).parts for rows in part.values()])


def _rows(stored: dict[str, Any]) -> Rows:
    rows = load_rows(replan(stored))
    if rows.fingerprint != stored["data"]["fingerprint"]:
        raise UntrustedFile(f"The data of run {stored['id']} are no longer the ones it was trained on.")
    return rows


def _declared(stored: dict[str, Any]) -> Any:
    """The task as its plugin declares it today, or None where the plugin is gone."""
    try:
        return hub.task(f"{stored['task']['plugin']}:{stored['task']['name']}")[0]
    except FmhubError:
        return None
