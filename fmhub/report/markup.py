"""HTML and SVG that cannot forget to escape: text is escaped unless it is `Markup` already."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Any value as escaped text; control characters and those that turn the direction of writing become spaces."""
    if isinstance(value, Markup):
        return value
    shown = "".join(" " if _hidden(character) else character for character in ("" if value is None else str(value)))
    return Markup(html.escape(shown))


def _hidden(character: str) -> bool:
    return not (character.isprintable() or character in "\n\t") and not character.isspace()


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """`<name attributes>children</name>`; `class_` is class, `_` in a name is `-`, an attribute that is None is left out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(value)}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Markup(f"<{name}{given}>{join(children)}</{name}>")


def join(parts: Iterable[object]) -> Markup:
    """One markup after the other."""
    return Markup("".join(text(part) for part in parts))


def table(head: Sequence[object], rows: Iterable[Sequence[object]], *, numbers: bool = True) -> Markup:
    """A table in a box that scrolls sideways; with `numbers` all columns but the first are right-aligned."""
    drawn = [tag("tr", *(tag("th", cell, scope="col") for cell in head))] if head else []
    body = [tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])) for row in rows]
    return tag("div", tag("table", tag("thead", *drawn), tag("tbody", *body), class_="numbers" if numbers else None), class_="scroll")
