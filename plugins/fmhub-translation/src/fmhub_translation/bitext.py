"""Pairs of lines: near-duplicate sources grouped, pairs whose marks differ left out, files of your own read as WMT gives them."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmhub import data
from fmhub.data import near
from fmhub.errors import DataError
from fmhub.stems.marks import MARK

if TYPE_CHECKING:
    import pyarrow as pa

ALIKE = 0.8
"""Share of their words (of both together) that two sources have in common from where on they never cross a split."""
EMPTY = frozenset("a an the of to in on for and or is are be this that with your you it by from as at".split())


@dataclass(frozen=True)
class BySource:
    """`data.Random`, or the parts that are given; no source or near-duplicate of one crosses them."""

    language: str = ""
    """Of the targets, where something can be said of it: swapped columns are noticed."""
    test: float = 0.12
    validation: float = 0.06
    seed: int = 0

    def split(self, given: Mapping[str, pa.Table], fields: tuple[str, ...]) -> tuple[dict[str, pa.Table], list[str]]:
        """Tables by split and notes; groups are made over all rows. Raises `DataError` for swapped columns or no pair."""
        import pyarrow as pa

        notes: list[str] = []
        tables = {name: self._clean(table, name, notes) for name, table in given.items()}
        sources = [text for table in tables.values() for text in table["source"].to_pylist()]
        groups, at = grouped(sources), 0
        for name, table in tables.items():
            column = pa.array([f"s{group}" for group in groups[at : at + len(table)]])
            at += len(table)
            tables[name] = table.drop_columns(["group"] if "group" in table.column_names else []).append_column("group", column)
        if list(tables) == [""]:
            rule: Any = data.Random(test=self.test, validation=self.validation, stratify=False, group="group", seed=self.seed)
        else:
            rule, held = data.Given(validation=0.1), set()
            for name in sorted(tables, key=lambda name: name != "test"):  # the test part stays whole
                keep = [group not in held for group in table_groups(tables[name])]
                if not all(keep):
                    notes.append(f"{keep.count(False)} rows of {name} have a source whose near-duplicate is held out: left out")
                held |= set(table_groups(tables[name]))
                tables[name] = tables[name].filter(pa.array(keep))
        parts, more = rule.split(tables, fields)
        notes += more
        return apart(parts, notes), notes

    def _clean(self, table: pa.Table, name: str, notes: list[str]) -> pa.Table:
        import pyarrow as pa

        for column in ("source", "target"):
            if column not in table.column_names:
                raise DataError(
                    f"there is no column {column!r}; name it with --columns {column}=..., there are {', '.join(table.column_names)}."
                )
        pairs = list(zip(*(table[column].to_pylist() for column in ("id", "source", "target")), strict=True))
        for row, source, target in pairs:
            for what, text in (("source", source), ("target", target)):
                if not isinstance(text, str) or not text.strip():
                    raise DataError(f"row {row}: the {what} is empty. Fill or remove the row.")
        if self.language and turned(pairs, self.language):
            raise DataError("source and target seem to be swapped: the targets are English. Use --columns source=target,target=source.")
        same = [sorted(MARK.findall(source)) == sorted(MARK.findall(target)) for _, source, target in pairs]
        whole = name not in ("", "train", "validation")  # what is given to test by is not ours to choose from
        if not all(same):
            of, what = f" of {name}" if name else "", "they stay" if whole else "left out"
            notes.append(f"{same.count(False)} pairs{of} whose two sides have other placeholders: {what}")
        return table if whole else table.filter(pa.array(same))


def apart(parts: dict[str, pa.Table], notes: list[str]) -> dict[str, pa.Table]:
    """Without the rows of train, then of validation, that are near-duplicates of held-out ones where marks count as words, as
    `fmhub check` counts them."""
    import pyarrow as pa

    order = {"train": 0, "validation": 1}
    rows = [(order.get(name, 2), name, row) for name, table in parts.items() for row in range(len(table))]
    bags = [near.bag(text) for table in parts.values() for text in table["source"].to_pylist()]
    out: dict[str, set[int]] = {name: set() for name in parts}
    for pair in near.alike(bags, ALIKE):
        (rank, name, row), (other, _, _) = sorted(rows[place] for place in pair)
        if rank < other:
            out[name].add(row)
    notes += [f"{len(some)} rows of {name} have a source that is nearly one held out: left out" for name, some in out.items() if some]
    return {name: table.filter(pa.array([row not in out[name] for row in range(len(table))])) for name, table in parts.items()}


def table_groups(table: pa.Table) -> list[str]:
    return table["group"].to_pylist()  # type: ignore[no-any-return]


def turned(pairs: list[tuple[Any, str, str]], language: str) -> bool:
    """Whether the targets look more like English than the sources do."""
    english = [
        sum(len(_COMMON & set(re.findall(r"\w+", text.casefold()))) for _, *both in pairs for text in both[side : side + 1])
        for side in (0, 1)
    ]
    return english[1] > 2 * english[0] and english[1] > len(pairs) / 10


_COMMON = frozenset("the of is are and with your you this that from not".split())


def grouped(sources: list[str]) -> list[int]:
    """Of each source the first one that it is a near-duplicate of, marks put aside."""
    return near.lines([MARK.sub(" x ", source) for source in sources], share=ALIKE, small=EMPTY)


@dataclass(frozen=True)
class Bitext:
    """Pairs in columns `source` and `target`; with `--data` also a .tsv without a header line, as WMT has them."""

    pairs: data.Data

    def load(self) -> data.Splits:
        """See `fmhub.data.Data.load`."""
        return self.pairs.load()

    def opened(self, reference: str, columns: Mapping[str, str], test: str | None, stem: Any) -> Bitext:
        """The user's own pairs, split by source where they come in one file."""
        rule = self.pairs.split
        files = {"": reference} if test is None else {"train": reference, "test": test}
        if not columns and all(bare(path) for path in files.values()):
            return Bitext(data.rows(partial(lines, files), split=rule, source="source", target="target"))
        return Bitext(replace(self.pairs.opened(reference, columns, test, stem), split=rule))


def bare(path: str) -> bool:
    """Whether a .tsv has two columns of text from its first line on."""
    if not Path(path).name.lower().removesuffix(".gz").endswith((".tsv", ".tab")) or not Path(path).is_file():
        return False
    head = next(iter(_read(path))).split("\t")
    return len(head) == 2 and not {word.strip().casefold() for word in head} & {"source", "target", "src", "tgt", "en"}


def lines(files: Mapping[str, str]) -> dict[str, pa.Table] | pa.Table:
    """A table a file; each line is a source, a tab, a target. Raises `DataError` naming the line that is not."""
    import pyarrow as pa

    tables = {}
    for name, path in files.items():
        rows = [line.split("\t") for line in _read(path)]
        for number, row in enumerate(rows, 1):
            if len(row) != 2 or not row[0].strip() or not row[1].strip():
                raise DataError(f"{path}, line {number}: a source, a tab and a target are needed.")
        tables[name] = pa.table({"source": [row[0] for row in rows], "target": [row[1] for row in rows]})
    return tables.get("", tables)


def _read(path: str) -> Iterator[str]:
    """Its lines without their ends, gunzipped and decoded. Raises `DataError` for a file that cannot be."""
    from fmhub.data.read import content

    try:
        text = content(Path(path)).decode()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None
    return (line.rstrip("\n") for line in io.StringIO(text, newline=None))
