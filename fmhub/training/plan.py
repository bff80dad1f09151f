"""What is about to run: a task with the user's changes applied, resolved before anything is trained.

A plan is stored as plain data in `plan.json`: what the user asked for (`options`, from which the same plan is made again on
`--resume`), and what came of it (recipe, fitted stem and head, hashes), from which the run is loaded when its plugin is gone.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fmhub import hub
from fmhub.data.rules import KFold
from fmhub.errors import UntrustedFile, UsageError
from fmhub.recipe import Adapter, Lora, Recipe, override
from fmhub.task import Task


@dataclass(frozen=True)
class Options:
    """What a user may ask of a run, as typed; the CLI's options have the same names."""

    backbone: str | None = None
    data: str | None = None
    test: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    set: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    seeds: int = 1
    folds: int | None = None
    curve: tuple[int, ...] = ()
    groups: str | None = None
    limit: int | None = None
    baseline: bool = True
    fast: bool = False
    budget: str | None = None
    random_weights: bool = False


@dataclass(frozen=True)
class Plan:
    """A task with every override applied, where it came from and what was asked for."""

    task: Task
    plugin: str
    plugin_version: str
    options: Options

    @property
    def full_name(self) -> str:
        return f"{self.plugin}:{self.task.name}"

    @property
    def slices(self) -> tuple[str, ...]:
        """Columns by whose values scores are shown, too."""
        return tuple(dict.fromkeys([*self.task.slices, *([self.options.groups] if self.options.groups else [])]))

    @property
    def folds(self) -> int:
        """How many folds the rows are cut into; 0 where the task's own parts are used."""
        rule = getattr(self.task.data, "split", None)
        declared = rule.k if isinstance(rule, KFold) and rule.always and not self.options.curve else 0
        return self.options.folds or declared

    @property
    def seeds(self) -> tuple[int, ...]:
        first = self.task.recipe.seed
        return tuple(range(first, first + self.options.seeds))


def make(name: str, options: Options) -> Plan:
    """Look the task up and apply `options`. Raises `UsageError` for anything unknown or that cannot be combined."""
    task, plugin = hub.task(name)
    options = replace(
        options, backbone=_folder(options.backbone), data=_absolute(options.data), test=_absolute(options.test), curve=tuple(options.curve)
    )
    changes = {key.removeprefix("recipe."): value for key, value in options.set.items()}
    if options.seed is not None:
        changes["seed"] = options.seed
    _check(options, changes)
    if options.budget is not None:
        changes.setdefault("lora.layers", "auto")
    task = replace(task, recipe=override(task.recipe, changes))
    if task.recipe.augment and not getattr(task.stem, "augments", True):
        raise UsageError(f"recipe.augment={task.recipe.augment:g}: nothing in {task.name} can be changed at random. Leave it at 0.")
    if options.backbone:
        task = replace(task, backbone=options.backbone)
    if options.data:
        task = _with_data(task, options)
    elif options.columns or options.test:
        raise UsageError("--columns and --test describe your own data: name it with --data PATH.")
    plan = Plan(task, plugin.name, plugin.version, options)
    if options.fast:
        _check_fast(plan)
    return plan


def _check_fast(plan: Plan) -> None:
    """Refuse pilots whose rows are scored as test later on, and pilots that learn nothing."""
    if plan.folds:
        raise UsageError(
            f"--fast would choose by rows that {plan.task.name}'s {plan.folds} folds score as test: use --budget, which looks at times "
            "alone, or name the layers with --set recipe.lora.layers=last:K."
        )
    if not plan.task.recipe.epochs:
        raise UsageError("--fast compares what pilots learn, and with recipe.epochs=0 they learn nothing: leave one of them out.")


def _check(options: Options, changes: dict[str, Any]) -> None:
    """Refuse numbers out of range and options that contradict each other, before anything is read."""
    numbers = [("limit", options.limit, 1), ("seeds", options.seeds, 1), ("folds", options.folds, 2)]
    for what, value, least in [*numbers, *(("curve", size, 2) for size in options.curve)]:
        if value is not None and value < least:
            raise UsageError(
                f"--{what} {value} is not allowed: it takes {'whole numbers' if what == 'curve' else 'a whole number'} from {least}."
            )
    if options.budget is not None:
        seconds(options.budget)
    pairs = (("fast", "budget"), ("folds", "curve"))
    for one, other in pairs:
        if getattr(options, one) and getattr(options, other):
            raise UsageError(f"--{one} and --{other} cannot be combined: give one of them.")
    if options.fast and changes.get("lora.layers", "auto") != "auto":
        raise UsageError(f"--fast chooses recipe.lora.layers itself: leave out --set recipe.lora.layers={changes['lora.layers']}.")


def seconds(text: str) -> float:
    """`90s`, `10m` or `1.5h` as seconds. Raises `UsageError`."""
    found = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)([smh])", text.strip())
    if found is None or not float(found[1]):
        raise UsageError(f"--budget {text} is not a time: write it like 90s, 10m or 1.5h.")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def _folder(backbone: str | None) -> str | None:
    """A backbone's folder by its absolute path; a card's name as it is."""
    is_path = backbone is not None and not backbone.startswith("hub:") and (backbone.startswith((".", "~")) or Path(backbone).is_dir())
    return _absolute(backbone) if is_path else backbone


def _absolute(path: str | None) -> str | None:
    """Where a file lies whatever the folder that a later resume is started from; what stands before it (`KIND:FILE`) stays."""
    if path is None or path.startswith("hf:"):
        return path
    kind, colon, rest = path.partition(":")
    if colon and kind.isidentifier() and not Path(path).exists():
        return f"{kind}:{Path(rest).expanduser().absolute()}"
    return str(Path(path).expanduser().absolute())


def _with_data(task: Task, options: Options) -> Task:
    """The task on the user's own rows: its labels are the data's, and so is a scale of whole numbers."""
    if not hasattr(task.data, "opened"):
        raise UsageError(f"Task {task.name} reads only its own data: its plugin does not say what --data would be.")
    source = task.data.opened(str(options.data), options.columns, options.test, task.stem)
    head: Any = task.head
    names = {entry.name for entry in dataclasses.fields(head)}
    head = replace(head, labels=()) if "labels" in names else head
    head = replace(head, low=None, high=None) if getattr(head, "whole", False) and {"low", "high"} <= names else head
    return replace(task, data=source, head=head, references=(), slices=())


def replan(stored: dict[str, Any]) -> Plan:
    """The plan of a stored run, made again from what its user asked for."""
    known = {entry.name for entry in dataclasses.fields(Options)}
    options = {name: value for name, value in stored["options"].items() if name in known}
    return make(f"{stored['task']['plugin']}:{stored['task']['name']}", Options(**options))


def describe(spec: Any) -> dict[str, Any]:
    """A spec as plain data: its kind and its fields, without those marked `stored: False` (data, which is read again)."""
    fields = {entry.name: _plain(getattr(spec, entry.name)) for entry in dataclasses.fields(spec) if entry.metadata.get("stored", True)}
    return {"kind": kind(type(spec)), **fields}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {entry.name: _plain(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, Path):
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else f"{type(value).__module__}:{type(value).__qualname__}"


def recipe_from(stored: dict[str, Any]) -> Recipe:
    """A recipe as `describe` stored it; unknown keys of another version are refused by name."""
    values = {key: value for key, value in stored.items() if key not in ("kind", "lora", "adapter")}
    try:
        lora = {**stored["lora"], "targets": tuple(stored["lora"]["targets"])}
        return Recipe(**values, lora=Lora(**lora), adapter=Adapter(**stored["adapter"]))
    except (TypeError, KeyError) as error:
        raise UntrustedFile(f"plan.json: the recipe cannot be read: {error}.") from None


def spec_from(stored: dict[str, Any], declared: Any) -> Any:
    """A stem or head as `describe` stored it: fmhub's own kinds from their fields, a plugin's from the spec it declares.

    `declared` is the task's spec where the plugin is still there, else None. Only kinds that fmhub, the task or its spec's `becomes`
    names are made.
    """
    from fmhub import heads, stems

    wanted = str(stored.get("kind", ""))
    known = {kind(cls): cls for room in (heads, stems) for cls in map(room.__dict__.get, room.__all__) if isinstance(cls, type)}
    for made in () if declared is None else (type(declared), *getattr(declared, "becomes", ())):
        known.setdefault(kind(made), made)
    if wanted not in known:
        raise UntrustedFile(f"This run needs {wanted}, which no installed plugin declares: install the plugin that made it.")
    cls: Any = known[wanted]
    hints = {entry.name: entry for entry in dataclasses.fields(cls)}
    return cls(**{name: _rebuild(hints[name], value) for name, value in stored.items() if name in hints})


def kind(cls: type) -> str:
    """`package:Class`, with the module left out where it is named like the class."""
    return f"{cls.__module__.removesuffix('.' + cls.__name__.lower())}:{cls.__name__}"


def _rebuild(entry: dataclasses.Field[Any], value: Any) -> Any:
    default: Any = entry.default
    if dataclasses.is_dataclass(default) and isinstance(value, dict):
        cls: Any = type(default)
        return cls(**{key: tuple(one) if isinstance(one, list) else one for key, one in value.items()})
    return _tuples(value)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value
