"""Checks of a task's data: what must not be shared between splits, must not change, and must not give the answer away."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from fmhub.data import near as alike
from fmhub.data.histories import events
from fmhub.data.parts import keys
from fmhub.testing import Seen
from fmhub.testing.subject import Subject
from fmhub.training.folds import BY_TIME

ALIKE, LEAST_WORDS = 0.8, 2
"""Share of their words (of both together) from where on sources are near-duplicates, and how many those are at least: a word
alone and its plural are answered differently."""
MOST_LABELS, LEAST_ROWS = 20, 5
"""Of which a probe for single words means something."""
LEARNT = {"group": {"train", "validation"}, "example": {"train"}}
"""Splits of real data that share nothing with others; parts held out may share groups, and by chance an example."""
ENDS = (1, 2, 3, 4, 6, 8, 12)
"""Characters at the beginning and the end of an input that are looked at like a word."""


def splits_disjoint(it: Subject) -> Seen:
    """No example of one split, its case and white space folded, is in another; no id, no group and no user's event either.

    Examples that differ in marks only are too many to be chance where they are a tenth of those held out. Where a text is answered
    with a text (the head names its `source`), not even near-duplicates may cross: the one's answer is nearly the other's. Where a
    sample stands for the declared data, and these are here, no id, group, event or training example of theirs may cross, either.
    """
    tables = it.whole.tables
    if leaked := [note for note in it.whole.notes if "identical to examples held out" in note]:
        return False, f"{leaked[0]}: the declared parts share examples"
    if shared := _shared(it, {}):
        return False, shared
    held = sum(len(table) for name, table in tables.items() if name != "train")
    alike = _in_two((split, tuple(_tokens(str(key)))) for split, key in _examples(it))
    if 10 * len(alike) > held:
        return False, f"{len(alike)} examples are in more than one split but for marks, of {held} held out"
    if near := _near(it):
        return (
            False,
            f"{len(near)} pairs of sources in different splits are near-duplicates, such as {near[0][0][:60]!r} and {near[0][1][:60]!r}",
        )
    own = getattr(it, "own", None)
    if own and (shared := _shared(own, LEARNT)):
        return False, f"the declared data: {shared}"
    if it.declared.sample is None:
        return True, _sizes(it)
    return True, f"{_sizes(it)}; " + (
        f"the declared data: {_sizes(own)}" if own else "the declared data are not here, the sample alone was seen"
    )


def _sizes(it: Subject) -> str:
    tables = it.whole.tables
    groups = len({group for _, group in _groups(tables)})
    return ", ".join(f"{name} {len(table)}" for name, table in tables.items()) + (f"; {groups} groups" if groups else "")


def _shared(it: Subject, learnt: Mapping[str, set[str]]) -> str:
    """What is in more than one split; of the kinds that are in `learnt`, only what one of the splits named there has."""
    tables = it.whole.tables
    for what, found in (("id", _ids(tables)), ("group", _groups(tables)), ("event", _events(it)), ("example", _examples(it))):
        if shared := [(one, splits) for one, splits in _in_two(found) if what not in learnt or splits & learnt[what]]:
            one, splits = shared[0]
            return f"{len(shared)} {what}s are in more than one split, such as {str(one)[:80]!r} in {' and '.join(sorted(splits))}"
    return ""


def _near(it: Subject) -> list[tuple[str, str]]:
    """Sources of `LEAST_WORDS` and more in two splits that have nearly all their words in common."""
    column = getattr(it.declared.head, "source", None)
    rows = [(split, text) for split, table in it.whole.tables.items() if column in table.column_names for text in table[column].to_pylist()]
    bags = [alike.bag(text) for _, text in rows]
    pairs = alike.alike(bags, ALIKE)
    return [(rows[i][1], rows[j][1]) for i, j in pairs if rows[i][0] != rows[j][0] and len(bags[i] | bags[j]) >= LEAST_WORDS]


def _in_two(found: Iterator[tuple[str, object]]) -> list[tuple[object, set[str]]]:
    where: dict[object, set[str]] = {}
    for split, value in found:
        where.setdefault(value, set()).add(split)
    return [(value, splits) for value, splits in where.items() if len(splits) > 1]


def _ids(tables: Any) -> Iterator[tuple[str, object]]:
    return ((split, name) for split, table in tables.items() for name in table["id"].to_pylist())


def _groups(tables: Any) -> Iterator[tuple[str, object]]:
    for split, table in tables.items():
        if "group" in table.column_names:
            yield from ((split, group) for group in set(table["group"].to_pylist()) - {None})


def _events(it: Subject) -> Iterator[tuple[str, object]]:
    """Who met what, where that is asked: of a user, the training part holds no event that another part asks for."""
    if it.whole.rule == "Histories":
        yield from events(it.whole.tables)


def _examples(it: Subject) -> Iterator[tuple[str, object]]:
    """What the stem reads of every row. In time, or where each user's last event is held out, what comes again is no leak."""
    if it.whole.rule in BY_TIME:
        return
    for split, table in it.whole.tables.items():
        if fields := _fields(it, table):
            yield from ((split, _hashable(key)) for key in keys(table, fields))


def _hashable(key: object) -> object:
    return key if isinstance(key, str | bytes | tuple) else repr(key)


def _fields(it: Subject, table: pa.Table) -> tuple[str, ...]:
    """The columns that the stem reads and the table has; `path` stands for a file."""
    named = tuple(name for name in it.stem.fields if name in table.column_names)
    return named or tuple(name for name in ("path",) if name in table.column_names)


def same_in_another_process(it: Subject) -> Seen:
    """The fingerprint of the data is the same when they are loaded again, also by a process with another hash seed."""
    again = (it.declared.sample or it.declared.data).load().fingerprint
    there = it.again.get("fingerprint", again) if again == it.whole.fingerprint else again
    if len({it.whole.fingerprint, again, there}) > 1:
        shown = f"{it.whole.fingerprint[:12]}, then {again[:12]}, in another process {there[:12]}"
        return False, f"{shown}: what is drawn at random needs a seed"
    return True, it.whole.fingerprint[:12]


def answer_hidden(it: Subject) -> Seen:
    """Two classical probes of what the stem reads: it holds the text of its target no more often than that of another one, and no
    single words, beginnings or ends give every label away.
    """
    if it.is_likelihood:
        return None, "what is read is what is to be told: a likelihood hides no answer"
    parts = [table.select(["target", *_fields(it, table)]) for table in it.splits.tables.values()]
    rows = pa.concat_tables(parts, promote_options="permissive")
    names = rows.column_names[1:]
    targets = rows["target"].to_pylist()
    if not all(isinstance(target, str | int | float) for target in targets):
        return None, f"no probe for targets of type {rows['target'].type}"
    words = [_words(target) for target in targets]
    inputs = [[value for value in row if not _is_file(value)] for row in zip(*(rows[name].to_pylist() for name in names), strict=True)]
    texts = [" ".join(f" {' '.join(_tokens(str(value)))} " for value in row) for row in inputs]
    own = [_holds(text, word) for word, text in zip(words, texts, strict=True)]
    other = [_holds(text, word) for target, text in zip(words, texts, strict=True) for word in _another(target, words)]
    share, chance = sum(own) / len(own), sum(other) / max(1, len(other))
    figure = f"the target's text is in {share:.0%} of the inputs, another target's in {chance:.0%}"
    seen = [set(text.split()).union(*(_ends(str(value)) for value in row)) for text, row in zip(texts, inputs, strict=True)]
    if marks := _marks(words, seen):
        return False, f"{figure}; single words give the label away: {marks}"
    return not (share > 0.6 and share - chance > 0.4), figure


def _holds(text: str, word: str) -> bool:
    """Whether the word stands in the text; a longer one also as a part of others, as in moves or sequences without spaces."""
    return f" {word} " in text or (len(word) >= 4 and word in text)


def _ends(value: str) -> set[str]:
    """Beginnings and ends of an input, for a mark may be glued on."""
    return {f"{value[:size]}..." for size in ENDS if len(value) > size} | {f"...{value[-size:]}" for size in ENDS if len(value) > size}


def _marks(labels: list[str], seen: list[set[str]]) -> str:
    """A word for every label but one at most that nearly all of its inputs have and nearly no other; empty where there are none."""
    sizes = Counter(labels)
    if not 2 <= len(sizes) <= MOST_LABELS or min(sizes.values()) < LEAST_ROWS:
        return ""
    within, overall = defaultdict[str, Counter[str]](Counter), Counter[str]()
    for label, words in zip(labels, seen, strict=True):
        within[label].update(words)
        overall.update(words)
    found = {}
    for label, size in sizes.items():
        rest = len(labels) - size
        telling = [word for word, count in within[label].items() if count >= 0.98 * size and overall[word] - count <= 0.02 * rest]
        if telling:
            found[label] = min(telling, key=lambda word: ("..." in word, len(word), word))
    return ", ".join(f"{word!r} is {label}" for label, word in found.items()) if len(found) >= len(sizes) - 1 else ""


def _is_file(value: Any) -> bool:
    """A path is not what the model sees."""
    return isinstance(value, bytes) or (isinstance(value, str) and len(value) < 4096 and "/" in value and Path(value).is_file())


def _tokens(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())


def _words(target: str | int | float) -> str:
    return " ".join(_tokens(str(target))) or str(target)


def _another(target: str, words: list[str]) -> list[str]:
    """One other row's target that differs, the next in order."""
    order = sorted(set(words))
    return [order[(order.index(target) + 1) % len(order)]] if len(order) > 1 else []
