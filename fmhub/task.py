"""The contract: what a plugin declares. Standard library only; nothing here imports torch.

A task is a stem, a pretrained backbone with LoRA and a head, plus data and metrics. The four kinds of part are
described below as protocols of *specs*: light frozen dataclasses that are named in a plugin at import time, are
stored in a run's plan, and import torch only inside `build()`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from fmhub.errors import UsageError
from fmhub.home import valid_name
from fmhub.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch

    from fmhub.backbones.load import Backbone

API_VERSION = (1, 0)
"""(major, minor): a plugin that names another major, or a later minor, in its `fmhub_api` is quarantined."""


@dataclass(frozen=True)
class Reads:
    """What a head reads of the backbone: `tokens` of each of `layers`.

    `first` and `mean` give (examples, width): the first token, or the mean over real tokens. `last` is the last real
    token. `all` gives (examples, tokens, width) with a mask. A tuple of `layers` counts hidden states from the end
    (-1 is the last layer's); more than one gives a tuple of tensors.

    `summary` is the token whose state is to stand for all: the first, or the last of a causal model, whose first knows no other.
    Classification and regression read it through a pooler (see `fmhub.heads.linear`).
    """

    tokens: Literal["first", "mean", "last", "all", "summary"] = "mean"
    layers: tuple[int, ...] = (-1,)


@dataclass
class Encoded:
    """What a stem made of one split, once: `lengths` in the stem's unit an example, and whatever it keeps in `values`."""

    lengths: np.ndarray
    values: Any
    cut: np.ndarray | None = None
    """(examples,) bool: which are longer than what is read of them; None: none."""
    strange: np.ndarray | None = None
    """(examples,) bool: which have something that the backbone has no token for; None: none."""
    alike: bool = False
    """Only examples of equal length share a forward pass: the backbone takes no mask, and would hear another's padding."""

    @property
    def truncated(self) -> int:
        """How many examples are cut."""
        return 0 if self.cut is None else int(self.cut.sum())

    @property
    def unknown(self) -> int:
        """How many are strange to the backbone."""
        return 0 if self.strange is None else int(self.strange.sum())


@dataclass
class Features:
    """What a head gets: `x` as its `Reads` asks, for `all` the mask of real tokens (examples, tokens), and the stem's `batch`."""

    x: Any
    mask: torch.Tensor | None = None
    batch: Mapping[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Splits:
    """A task's data: one Arrow table a split (`train`, `validation`, `test`, `shift:NAME`), with columns
    `id` (string), the stem's fields, `target` and, where they exist, `group` and `time`."""

    tables: Mapping[str, pa.Table]
    fingerprint: str
    notes: tuple[str, ...] = ()
    """What a user should know: rows dropped, duplicates removed."""
    rule: str = ""
    """The class of the rule that made the parts (`Given`, `Random`, ...): `--folds` mixes only what chance has cut."""
    catalogue: pa.Table | None = None
    """What examples name by `id` (items, products), known to every split."""

    def known(self, train: pa.Table | None = None) -> Known:
        """What may be learnt from before training, with these training rows or its own."""
        return Known(train=self.tables["train"] if train is None else train, catalogue=self.catalogue)


@dataclass(frozen=True, kw_only=True)
class Known:
    """What may be learnt from before training: the training rows and, where examples name things by id, all those things."""

    train: pa.Table
    catalogue: pa.Table | None = None

    def things(self, who: object) -> pa.Table:
        """The catalogue. Raises `UsageError` where the data have none."""
        if self.catalogue is None:
            raise UsageError(f"{type(who).__name__} needs data with a catalogue of items, such as data.Histories(...).")
        return self.catalogue


@dataclass(frozen=True, kw_only=True)
class Setting(Known):
    """What a baseline is fitted in: the parts, the fitted head and the seed of the training it stands beside."""

    validation: pa.Table
    head: HeadSpec
    seed: int = 0
    features: Callable[[pa.Table], np.ndarray] | None = None
    """(rows, 2 * width) float32: what the run's own backbone, untouched, says of rows: its first token beside the mean of all."""
    tokenizer: Callable[[], Any] | None = None
    """The raw tokenizer of the run's own backbone."""
    untrained: Callable[[Mapping[str, Any], Mapping[str, Any]], Callable[[pa.Table], dict[str, Any]]] | None = None
    """From changes of the recipe and of the stem to what the run's own stem, backbone and head say of rows before any training."""
    frozen: Callable[[Mapping[str, Any]], Callable[[pa.Table], dict[str, Any]]] | None = None
    """From changes of the run's own head: trains it on the untouched backbone, with the task's recipe, and gives what it says of rows."""


class DataSpec(Protocol):
    """Where rows come from and how they are split."""

    def load(self) -> Splits:
        """Raises `DataError` naming the file and the row or column that cannot be used."""

    def opened(self, reference: str, columns: Mapping[str, str], test: str | None, stem: StemSpec | None) -> DataSpec:
        """The same kind of data from the user's own files (`--data`, `--columns`, `--test`), for the task's stem (None: the backbone's)."""


class StemSpec(Protocol):
    """What turns an example into the backbone's input. Never sees the target.

    It may also have `files`, the suffixes of the files that its examples are, and `typed(value, splits)`, its reading of
    what a person types to `predict`: the fields of one row. `splits` are the run's data, None where they are not to be had. Once
    fitted it may have `notes`, what users should know of what it found. `augments = False` says that it changes nothing at random,
    so that `recipe.augment` is refused.
    """

    @property
    def unit(self) -> str:
        """What lengths count: tokens, pixels, frames, events."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The columns it reads."""

    def fit(self, known: Known) -> StemSpec:
        """A copy that knows what can be learnt before training (vocabularies, scales); it is stored as json beside the adapter."""

    def encode(self, table: pa.Table, backbone: Backbone, recipe: Recipe) -> Encoded:
        """Read every example once: tokenise, decode, resample. Raises `DataError` naming the row.

        What it makes of one follows from this stem, the row (without its target and group), the backbone and `recipe.length`
        alone: who asks again may be given what was made among other rows.
        """

    def batch(self, encoded: Encoded, rows: np.ndarray, *, random: np.random.Generator | None, strength: float) -> dict[str, torch.Tensor]:
        """Tensors of some rows, padded; with `random`, augmented at `strength` 0 to 1."""

    def build(self, backbone: Backbone, recipe: Recipe, known: Known | None) -> torch.nn.Module | None:
        """The trainable part, from a batch to keyword arguments of the backbone's forward; None: they are the same.

        What it computes once from `known` it keeps in persistent buffers: a restored run has no `known`, and fills them from its file.
        """


class HeadSpec(Protocol):
    """Output layer, loss, decoding and what a prediction looks like.

    It may also have `labels`, the names of its classes in the order of the scores, `readable(prediction, catalogue)`, a prediction
    as people read it, `learnable(encoded)`, which of the training rows (bool) teach it anything, `merges`, whether a loaded
    run predicts with the adapter folded into the weights (the same but for rounding), `drawn(prediction, source, truth)`
    or `painted(row, source)`, a PNG of what was said over what it was said of, `notes`, what the record, the report and
    `predict` are to say with every answer, and `becomes`, the other classes that its `fit` may give.
    """

    @property
    def reads(self) -> Reads: ...

    def fit(self, known: Known, recipe: Recipe) -> HeadSpec:
        """A copy that knows what can be learnt from the training targets (labels, scale). Raises `DataError`."""

    def targets(self, table: pa.Table) -> dict[str, Any]:
        """The truth, by name, as arrays or lists with one entry an example. Raises `DataError` naming the row."""

    def build(self, backbone: Backbone, stem: torch.nn.Module | None, recipe: Recipe) -> torch.nn.Module:
        """The trainable layers, from `Features` to outputs; trained in full."""

    def loss(self, outputs: Any, targets: dict[str, Any], recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor]:
        """(sum of losses, sum of weights) over the batch; the loop divides by the weight of the whole step."""

    def decode(self, outputs: Any) -> dict[str, Any]:
        """Columns of predictions, one entry an example: `prediction` and, where there are any, `scores`."""


class BaselineSpec(Protocol):
    """A classical method, run through the same split and the same evaluator.

    It may also have `unread`, the parts that it is not asked about (by default train alone).
    """

    @property
    def name(self) -> str: ...

    def fit(self, setting: Setting) -> FittedBaseline: ...


class FittedBaseline(Protocol):
    def predict(self, rows: pa.Table) -> dict[str, Any]:
        """The same columns as `HeadSpec.decode`. Never reads `rows["target"]`."""


@dataclass(frozen=True)
class Reference:
    """Frozen ends of the normalised score of one metric: floor -> 0, reference run -> 1."""

    metric: str
    floor: float
    reference: float


@dataclass(frozen=True, kw_only=True)
class Task:
    """A named, versioned downstream problem. Raise `version` whenever a score could change."""

    name: str
    title: str
    data: DataSpec
    head: HeadSpec
    metrics: Sequence[Any]
    """Names of fmhub's metrics or `Metric` objects; the first one ranks."""
    backbone: str = "minilm-l6"
    stem: StemSpec | None = None
    """None: the backbone's own (its tokenizer, its patches, its log-mel)."""
    recipe: Recipe = field(default_factory=Recipe)
    baselines: Sequence[BaselineSpec] = ()
    version: str = "1"
    family: str = "other"
    summary: str = ""
    licence: str = ""
    source: str = ""
    citation: str = ""
    group: str = ""
    """What the `group` column stands for (document, patient, user, ...); it never crosses a split."""
    expects: Literal["skill", "chance"] = "skill"
    references: Sequence[Reference] = ()
    redistribute: bool = True
    """False where the licence forbids copies: inputs and targets then stay out of run folders (`fmhub runs targets RUN` rebuilds them)."""
    slices: Sequence[str] = ()
    """Columns of the data by whose values the test score is also shown (`--groups` names others)."""
    sample: DataSpec | None = None
    """A small set for tests, made up where the licence forbids copying."""

    def __post_init__(self) -> None:
        valid_name(self.name, "Task")
        for name in ("metrics", "baselines", "references", "slices"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.metrics:
            raise UsageError(f"Task {self.name!r} names no metric: the first of `metrics` ranks.")
        for name, method in (("data", "load"), ("head", "build"), ("recipe", "lora")):
            if not hasattr(getattr(self, name), method):
                raise UsageError(f"Task {self.name!r}: `{name}` is {getattr(self, name)!r}, which has no `{method}`.")
