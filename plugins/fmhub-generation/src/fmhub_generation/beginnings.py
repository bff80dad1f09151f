"""Texts cut into a beginning and the rest, near-duplicates kept together; and files of your own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmhub import data
from fmhub.data import near
from fmhub.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Beginnings:
    """`data.Random`, or the parts that are given, over texts cut after the first half of their words; near-duplicates never cross."""

    test: float = 0.26
    validation: float = 0.08
    seed: int = 0

    def split(self, given: Mapping[str, pa.Table], fields: tuple[str, ...]) -> tuple[dict[str, pa.Table], list[str]]:
        """Tables by split with `text`, `rest` and the rest again as `target`, and notes. Raises `DataError` for no text to cut."""
        import pyarrow as pa

        notes: list[str] = []
        tables = {name: cut(table, name, notes) for name, table in given.items()}
        wholes = [begin + rest for table in tables.values() for begin, rest in zip(*_pair(table), strict=True)]
        groups, at = [f"t{place}" for place in near.lines(wholes)], 0
        for name, table in tables.items():
            tables[name] = table.append_column("group", pa.array(groups[at : at + len(table)]))
            at += len(table)
        if list(tables) == [""]:
            rule: Any = data.Random(self.test, self.validation, stratify=False, group="group", seed=self.seed)
        else:
            rule = data.Given(validation=self.validation)
            tables = apart(tables, notes)
        parts, more = rule.split(tables, fields)
        return parts, [*notes, *more]


def apart(tables: dict[str, pa.Table], notes: list[str]) -> dict[str, pa.Table]:
    """Given parts without the rows of train (and validation) whose group is held out."""
    import pyarrow as pa

    held: set[str] = set()
    for name in sorted(tables, key=lambda name: {"train": 2, "validation": 1}.get(name, 0)):
        groups = tables[name]["group"].to_pylist()
        keep = [group not in held or name not in ("train", "validation") for group in groups]
        if left := keep.count(False):
            notes.append(f"{left} rows of {name} are near-duplicates of rows held out: left out")
        held |= set(groups)
        tables[name] = tables[name].filter(pa.array(keep))
    return tables


def _pair(table: pa.Table) -> tuple[list[str], list[str]]:
    return table["text"].to_pylist(), table["rest"].to_pylist()


def cut(table: pa.Table, name: str, notes: list[str]) -> pa.Table:
    """Its texts in two columns; where there is a column `rest`, texts stay as they are. Texts of one word are left out and counted."""
    import pyarrow as pa

    texts = table["text"].to_pylist()
    for row, text in zip(table["id"].to_pylist(), texts, strict=True):
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"row {row}: the text is empty. Fill or remove the row.")
    rests = table["rest"].to_pylist() if "rest" in table.column_names else [None] * len(texts)
    pairs = [halves(text) if rest is None else joined(text, str(rest)) for text, rest in zip(texts, rests, strict=True)]
    keep = [bool(rest.strip()) for _, rest in pairs]
    if left := keep.count(False):
        notes.append(f"{left} text{'s' * (left > 1)}{f' of {name}' if name else ''} of one word, which cannot be cut: left out")
    if not any(keep):
        raise DataError("no text has two words: there is nothing to finish.")
    others = {column: table[column] for column in table.column_names if column not in ("text", "rest", "target", "group")}
    made = {**others, "text": [begin for begin, _ in pairs], "rest": [rest for _, rest in pairs], "target": [rest for _, rest in pairs]}
    return pa.table(made).filter(pa.array(keep))


def halves(text: str) -> tuple[str, str]:
    """A text cut after the first half of its words; the second begins with the space between."""
    text = text.strip()
    ends = [found.end() for found in re.finditer(r"\S+", text)]
    at = ends[max(0, len(ends) // 2 - 1)]
    return text[:at], text[at:]


def joined(text: str, rest: str) -> tuple[str, str]:
    """A beginning and what follows, with white space between them."""
    return text, rest if text[-1].isspace() or rest[:1].isspace() else f" {rest}"


@dataclass(frozen=True)
class Texts:
    """Whole texts in column `text`; with `--data` also beginnings with their `rest`, or a .txt of one text a line."""

    texts: data.Data

    def load(self) -> data.Splits:
        """See `fmhub.data.Data.load`."""
        return self.texts.load()

    def opened(self, reference: str, columns: Mapping[str, str], test: str | None, stem: Any) -> Texts:
        """The user's own texts."""
        rule, files = self.texts.split, {"": reference} if test is None else {"train": reference, "test": test}
        if all(re.fullmatch(r".*\.txt(\.gz)?", path, re.IGNORECASE) for path in files.values()):
            return Texts(data.rows(partial(lines, files), split=rule, fields=("text", "rest"), text="text", target="text"))
        named = {"text": columns.get("text", "text"), **columns}
        own = self.texts.opened(reference, {"target": named.get("rest", named["text"]), **named}, test, stem)
        return Texts(replace(own, split=rule))


def lines(files: Mapping[str, str]) -> dict[str, pa.Table] | pa.Table:
    """A table a file of its lines, blank ones left out. Raises `DataError` for a file that is not there or not UTF-8."""
    import pyarrow as pa

    from fmhub.data.read import content

    tables = {}
    for name, path in files.items():
        if not Path(path).is_file():
            raise DataError(f"There is no file {path}.")
        found = content(Path(path)).decode().splitlines()
        tables[name] = pa.table({"text": [line.strip() for line in found if line.strip()]})
    return tables.get("", tables)
