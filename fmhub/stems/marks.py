"""Marks: what a text carries through unread and unchanged, such as placeholders and tags (`%1`, `$(ARG1)`, `{name}`, `<b>`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MARK = re.compile(
    r"(?<![0-9])%(?:\{[^{}\s]*\}|[A-Z][A-Z0-9_]+%?|[0-9]+(?:\$[sdn])?|[a-zA-Z](?![a-zA-Z]))"  # %{key} %NAME %1 %s
    r"|\$\([A-Za-z0-9_]+\)|\$\{[^{}\s]*\}|\$[A-Za-z][A-Za-z0-9_]*\$?|\$[0-9](?![0-9.,])"  # $(ARG1) ${x} $name $1
    r"|\{[A-Za-z0-9_]*\}|#[0-9](?![0-9])|&[a-z]+;|</?[A-Za-z][^<>]{0,80}>"  # {0} #1 &amp; <b>
)
WORDS = "αβγδεζηθ"
"""What is read in the place of a text's first mark, its second one, ...; further ones stay as they are."""


def marks(text: str) -> list[str]:
    """The different marks of a text in the order of their first places, at most as many as there are `WORDS`."""
    return list(dict.fromkeys(MARK.findall(text)))[: len(WORDS)]


def replaced(text: str, known: list[str], words: list[str]) -> str:
    """`text` with each mark that is `known` as the word of the same place."""
    return MARK.sub(lambda found: words[known.index(found[0])] if found[0] in known else found[0], text)


def copied(batch: Mapping[str, Any]) -> list[list[str]]:
    """The marks of every row of a batch that has `marks` (rows, marks, characters): code points, 0 beyond a mark's end."""
    return [["".join(map(chr, filter(None, mark))) for mark in row if any(mark)] for row in batch["marks"].tolist()]
