"""fmhub: a hub of downstream tasks for foundation models.

`fmhub.run("sentiment", limit=2000)` gives a record, `fmhub.load(record["id"]).predict(["What a fine day."])` uses its run.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fmhub.errors import DataError, FetchError, FmhubError, UntrustedFile, UsageError
from fmhub.hookspecs import hookimpl
from fmhub.recipe import Adapter, Lora, Recipe
from fmhub.task import API_VERSION, Reads, Reference, Task

if TYPE_CHECKING:
    from fmhub import backbones, data, evaluation, heads, stems
    from fmhub.api import Predictor, load, plan, run

__version__ = "0.1.0"
__all__ = [
    "API_VERSION", "Adapter", "DataError", "FetchError", "FmhubError", "Lora", "Predictor", "Reads", "Recipe",
    "Reference", "Task", "UntrustedFile", "UsageError", "backbones", "data", "evaluation", "heads", "hookimpl",
    "load", "plan", "run", "stems",
]  # fmt: skip

_API = ("Predictor", "load", "plan", "run")
_ROOMS = ("backbones", "data", "evaluation", "heads", "stems")


def __getattr__(name: str) -> Any:
    """Rooms and the API load when they are first named, so that `import fmhub` costs what pluggy costs."""
    if name in _API:
        return getattr(importlib.import_module("fmhub.api"), name)
    if name in _ROOMS:
        return importlib.import_module(f"fmhub.{name}")
    raise AttributeError(f"module 'fmhub' has no attribute {name!r}")
