"""The backbone as it came, through the task's own stem and head: what training it has to be better than."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fmhub.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from fmhub.task import Setting


@dataclass(frozen=True)
class Untrained:
    """For heads that the checkpoint itself brings (a decoder).

    `changes` are of the recipe, such as another length of input, `stem` those of the stem.
    """

    name: str = "zero-shot"
    changes: Mapping[str, Any] = field(default_factory=dict)
    stem: Mapping[str, Any] = field(default_factory=dict)
    unread: tuple[str, ...] = ("train", "validation")
    """Parts that it is not asked about: nothing is chosen by it."""

    def fit(self, setting: Setting) -> FittedUntrained:
        """Nothing is learnt."""
        if setting.untrained is None:
            raise UsageError("A zero-shot baseline needs the run's own network: the setting has none.")
        return FittedUntrained(setting.untrained(self.changes, self.stem))


@dataclass(frozen=True)
class FrozenHead:
    """The task's head on frozen features, trained as the task says: what the adapter adds is the difference.

    `changes` are of the head, such as a shallower one: what the whole head adds is the difference then.
    """

    name: str = "frozen-head"
    changes: Mapping[str, Any] = field(default_factory=dict)

    def fit(self, setting: Setting) -> FittedUntrained:
        """Raises `UsageError` outside of a run."""
        if setting.frozen is None:
            raise UsageError("A head on frozen features needs the run's own network: the setting has none.")
        return FittedUntrained(setting.frozen(self.changes))


@dataclass(frozen=True)
class FittedUntrained:
    said: Callable[[pa.Table], dict[str, Any]]

    def predict(self, rows: pa.Table) -> dict[str, Any]:
        """What the network of that backbone says."""
        return self.said(rows)
