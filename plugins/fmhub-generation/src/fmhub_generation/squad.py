"""Questions whose answers stand in a passage: SQuAD's JSON, the hub's rows, or a table of your own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmhub import data
from fmhub.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]


@dataclass(frozen=True)
class ByPassage:
    """`data.Random`, or the parts that are given, over questions; a passage never crosses them."""

    test: float = 0.2
    validation: float = 0.1
    seed: int = 0

    def split(self, given: Mapping[str, pa.Table], fields: tuple[str, ...]) -> tuple[dict[str, pa.Table], list[str]]:
        """Tables by split with `target` (lists of answers) and, where it is known, `start`, and notes. Raises `DataError`."""
        import pyarrow as pa

        notes: list[str] = []
        tables = {name: _checked(table, name, notes) for name, table in given.items()}
        if list(tables) == [""]:
            parts, more = data.Random(self.test, self.validation, stratify=False, group="group", seed=self.seed).split(tables, fields)
            return parts, [*notes, *more]
        held = {group for name, table in tables.items() if name != "train" for group in table["group"].to_pylist()}
        keep = [group not in held for group in tables["train"]["group"].to_pylist()] if "train" in tables else []
        if left := keep.count(False):
            notes.append(f"{left} questions of train are about passages that are held out: left out")
            tables["train"] = tables["train"].filter(pa.array(keep))
        parts, more = data.Given(validation=self.validation).split(tables, fields)
        return parts, [*notes, *more]


def _checked(table: pa.Table, name: str, notes: list[str]) -> pa.Table:
    """Its questions with an answer. Raises `DataError` naming a row whose answer does not stand in its passage."""
    import pyarrow as pa

    names = ", ".join(table.column_names)
    for column in ("question", "passage"):
        if column not in table.column_names:
            raise DataError(f"there is no column {column!r}; name it with --columns {column}=..., there are {names}.")
    rows = table.to_pylist()
    kept: list[Row] = []
    for row in rows:
        answers = row["target"] if isinstance(row["target"], list) else [row["target"]]
        question, passage, answers = row["question"], row["passage"], [one for one in answers if isinstance(one, str) and one.strip()]
        if not (isinstance(question, str) and question.strip() and isinstance(passage, str) and passage.strip()):
            raise DataError(f"row {row['id']}: the question or the passage is empty. Fill or remove the row.")
        if not answers:
            continue
        at = row.get("start")
        if strange := next((one for one in answers if one not in passage), None):
            raise DataError(f"row {row['id']}: the answer {strange[:40]!r} does not stand in its passage.")
        if at is not None and (not isinstance(at, int) or passage[at : at + len(answers[0])] != answers[0]):
            raise DataError(f"row {row['id']}: at character {at} of its passage there is no {answers[0][:40]!r}.")
        same = {"id": row["id"], "question": question, "passage": passage, "group": " ".join(passage.split())}
        kept.append({**same, "target": answers, "start": passage.find(answers[0]) if at is None else at})
    if left := len(rows) - len(kept):
        notes.append(f"{left} questions{f' of {name}' if name else ''} without an answer: left out")
    if not kept:
        raise DataError("no question has an answer.")
    return pa.Table.from_pylist(kept)


@dataclass(frozen=True)
class Questions:
    """No data of its own, or made-up ones; `--data` takes SQuAD's .json, the hub's rows (`hf:squad`, .jsonl, .parquet) or a table with
    the columns question, passage and answer.
    """

    own: data.Data | None = None

    def load(self) -> data.Splits:
        """See `fmhub.data.Data.load`. Raises `UsageError` where there are no data."""
        return (self.own or data.Required("squad.json|FILE.csv|.jsonl|.parquet|hf:NAME")).load()

    def opened(self, reference: str, columns: Mapping[str, str], test: str | None, stem: Any) -> Questions:
        """The user's own questions."""
        files = {"": reference} if test is None else {"train": reference, "test": test}
        if not columns and all(Path(path).suffix.lower() in (".json", ".jsonl") for path in files.values()):
            read: data.Data = data.rows(partial(squads, files), question="question", passage="passage", target="target")
        else:
            own = data.Required().opened(reference, {}, test, stem)
            read = replace(own, columns=tuple({"question": "question", "passage": "passage", "target": columns.get("answer", "answer"),
                                               **{role: name for role, name in columns.items() if role != "answer"}}.items()))  # fmt: skip
            if reference.startswith("hf:"):
                read = data.rows(partial(hub, own), question="question", passage="passage", target="target")
        return Questions(replace(read, split=ByPassage(), fields=("question", "passage")))


def squads(files: Mapping[str, str]) -> dict[str, pa.Table] | pa.Table:
    """A table a file of SQuAD's JSON, or of the hub's rows one a line. Raises `DataError` naming the file, and what it lacks."""
    from fmhub.data.read import content

    tables = {}
    for name, path in files.items():
        if not Path(path).is_file():
            raise DataError(f"There is no file {path}.")
        tables[name] = _table(path, _parsed(content(Path(path)).decode(), lines=not path.lower().endswith(".json")))
    return tables.get("", tables)


def hub(own: data.Data) -> dict[str, pa.Table]:
    """The parts of a set of the hub in SQuAD's columns."""
    from fmhub.data.read import read

    return {name: _table(name, map(_flat, table.to_pylist())) for name, table in read(own).items()}


def _parsed(text: str, *, lines: bool) -> Iterator[Row]:
    told = [json.loads(line) for line in text.splitlines() if line.strip()] if lines else json.loads(text)
    yield from _nested(told["data"]) if isinstance(told, dict) else map(_flat, told)


def _table(where: str, rows: Iterable[Row]) -> pa.Table:
    """The rows, read here. Raises `DataError` saying where, and what of it is not SQuAD's."""
    import pyarrow as pa

    kinds = {"id": pa.string(), "question": pa.string(), "passage": pa.string(), "target": pa.list_(pa.string()), "start": pa.int64()}
    try:
        table = pa.Table.from_pylist(list(rows), pa.schema(list(kinds.items())))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error).splitlines()[0][:100]
        raise DataError(f"{where} is not in SQuAD's format: {what}.") from None
    if not len(table):
        raise DataError(f"{where} has no question.")
    return table


def _nested(articles: list[Any]) -> Iterator[Row]:
    """SQuAD 1.1 and 2.0: articles of paragraphs of questions."""
    for article in articles:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                answers = asked.get("answers", []) if not asked.get("is_impossible") else []
                found = [(one["text"], one.get("answer_start")) for one in answers]
                yield _row(asked["id"], asked["question"], paragraph["context"], found)


def _flat(row: Mapping[str, Any]) -> Row:
    """The hub's: id, question, context, and answers as {text: [...], answer_start: [...]}."""
    answers = row["answers"]
    return _row(row["id"], row["question"], row["context"], list(zip(answers["text"], answers["answer_start"], strict=True)))


def _row(name: Any, question: Any, passage: Any, answers: list[tuple[Any, Any]]) -> Row:
    """Raises `TypeError` for what is neither null nor of its kind."""
    start = answers[0][1] if answers else None
    for what, value, kind in (("question", question, str), ("context", passage, str), ("answer_start", start, int),
                              *(("answer", text, str) for text, _ in answers)):  # fmt: skip
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"the {what} of {str(name)[:40]!r} is {str(value)[:40]!r}, no {'text' if kind is str else 'whole number'}")
    texts = list(dict.fromkeys(text for text, _ in answers))
    return {"id": str(name), "question": question, "passage": passage, "target": texts or [""], "start": start}
