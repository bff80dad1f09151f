"""The processes of one run, as each of them sees the others: who is first, and what all agree on. Alone, nothing is asked of anybody."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from fmhub.errors import FmhubError, UsageError

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.state import PartialState

Made = TypeVar("Made")
PATIENCE = timedelta(days=7)
"""How long ranks wait for each other; one that died is noticed by whoever started it, at once."""
_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")


def asked() -> int:
    """How many ranks the environment of this process speaks of; 1 outside of any launcher."""
    return max(1, *(int(os.environ.get(name) or 1) for name in _SIZES))


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return all(int(os.environ.get(name) or 0) == 0 for name in _RANKS)


def join() -> PartialState:
    """Meet the other ranks, once a process. Raises `FmhubError` where fewer came up than were asked for."""
    import torch
    from accelerate.state import PartialState

    here = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
    forced = os.environ.get("ACCELERATE_USE_CPU", "").lower() in {"1", "true", "yes", "on"}
    if not forced and not torch.accelerator.is_available():
        forced, os.environ["ACCELERATE_USE_CPU"] = True, "true"
    if not forced and torch.accelerator.device_count() < here:
        count = torch.accelerator.device_count()
        raise UsageError(f"{here} processes need {here} accelerators, and here is {count}: set ACCELERATE_USE_CPU=true to use processors.")
    state = PartialState(cpu=forced, timeout=PATIENCE)
    if state.num_processes != asked():
        raise FmhubError(f"{asked()} processes were asked for, and {state.num_processes} came up. Start them with: --processes {asked()}")
    return state


def leave() -> None:
    """Part from the other ranks."""
    if asked() > 1:
        join().destroy_process_group()


def accelerator(precision: str = "no", **options: Any) -> Accelerator:
    """This process's Accelerator among all ranks. Raises `UsageError` where the device lacks `precision`."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if asked() > 1:
        join()
    AcceleratorState._reset_state()  # a process may run one task after another, each with its own precision
    problem = ""
    try:
        made = Accelerator(mixed_precision=precision, **options)
        if precision != "no" and not made.native_amp:  # on some devices Accelerate ignores the wish
            problem = f"the device {made.device.type} has no such arithmetic"
    except ValueError as error:
        problem = str(error).rstrip(".")
    if problem:
        AcceleratorState._reset_state()
        raise UsageError(f"recipe.precision={precision} is not possible here: {problem}. Leave it out.")
    return made


def from_first(make: Callable[[], Made]) -> Made:
    """What `make()` gives on rank 0, handed to every rank."""
    if asked() == 1:
        return make()
    from accelerate.utils import broadcast_object_list

    box: list[Any] = [make() if join().is_main_process else None]
    made: Made = broadcast_object_list(box)[0]
    return made


def from_all(value: Made) -> list[Made]:
    """Every rank's value, in order, on every rank."""
    if asked() == 1:
        return [value]
    from accelerate.utils import gather_object

    join()
    gathered: list[Made] = gather_object([value])
    return gathered


def one_first() -> contextlib.AbstractContextManager[None]:
    """Its body runs on rank 0 before it runs on the others: one fetches, the others find it fetched."""
    return join().main_process_first() if asked() > 1 else contextlib.nullcontext()
