"""How rows are split: declared as plain data, applied by `fmhub.data.splitting`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fmhub.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    Tables = dict[str, pa.Table]


class Rule(Protocol):
    """Any object with this method splits; a plugin may bring its own."""

    def split(self, given: Mapping[str, pa.Table], fields: tuple[str, ...]) -> tuple[Tables, list[str]]:
        """Tables by split, and notes; `given` has the data's own parts, or all rows under an empty name."""


@dataclass(frozen=True)
class Given:
    """The parts that the data declares; where there is no validation part, that share of train (stratified, by group)."""

    validation: float = 0.1
    seed: int = 0

    def split(self, given: Mapping[str, pa.Table], fields: tuple[str, ...]) -> tuple[Tables, list[str]]:
        from fmhub.data.splitting import given as apply

        return apply(self, given, fields)


@dataclass(frozen=True)
class Random:
    """Shares of all rows, by seed. `group` is the column that must not cross (by default `group`, where there is one)."""

    test: float = 0.2
    validation: float = 0.1
    stratify: bool = True
    group: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.test, self.validation) <= 0 or self.test + self.validation >= 1:
            raise UsageError(f"Random(test={self.test}, validation={self.validation}): both must be above 0 and their sum below 1.")

    def split(self, given: Mapping[str, pa.Table], fields: tuple[str, ...]) -> tuple[Tables, list[str]]:
        from fmhub.data.splitting import random as apply

        return apply(self, given, fields)


@dataclass(frozen=True)
class Temporal:
    """train < first cutoff <= validation < second cutoff <= test, by the `time` column (numbers, dates or ISO text).

    Rows within `embargo` (days, or units of a numeric time) before a cutoff are left out, so that windows do not overlap.
    """

    cutoffs: tuple[float | str, float | str]
    embargo: float = 0

    def split(self, given: Mapping[str, pa.Table], fields: tuple[str, ...]) -> tuple[Tables, list[str]]:
        from fmhub.data.splitting import temporal as apply

        return apply(self, given, fields)


@dataclass(frozen=True)
class KFold:
    """`k` parts, each test once; as the rule of a task the first one is test, or all with `always`. See `splitting.folds`."""

    k: int = 5
    group: str | None = None
    stratify: bool = True
    validation: float = 0.1
    seed: int = 0
    always: bool = False
    """Every run of the task is cross-validated, as with `--folds k`: its rows are too few for one test part."""

    def __post_init__(self) -> None:
        if self.k < 2:
            raise UsageError(f"KFold(k={self.k}): k must be at least 2.")

    def split(self, given: Mapping[str, pa.Table], fields: tuple[str, ...]) -> tuple[Tables, list[str]]:
        from fmhub.data.splitting import first_fold as apply

        return apply(self, given, fields)
