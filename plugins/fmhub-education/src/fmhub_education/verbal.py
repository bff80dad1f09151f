"""Verbal aggression: 316 students of psychology say of 24 reactions whether they would show them (De Boeck & Wilson 2004)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fmhub_education import pinned

if TYPE_CHECKING:
    import pyarrow as pa

SITUATIONS = {
    "1": "A bus fails to stop for me.",
    "2": "I miss a train because a clerk gave me faulty information.",
    "3": "The grocery store closes just as I am about to enter.",
    "4": "The operator disconnects me when I had used up my last 10 cents for a call.",
}
ROWS, TEXTS = 7584, 7
"""Answers, and columns of text: gender, item, answer, behaviour, situation, mode, answer in two levels."""


def answers() -> pa.Table:
    """`person`, `item` (its text), `answer`: `no`, or `yes` where it was yes or perhaps, as is usual with these data."""
    import pyarrow as pa

    texts, numbers = pinned.constants("VerbAgg")
    start = next(place for place, text in enumerate(texts) if text in "MF" and set(texts[place : place + ROWS]) == {"M", "F"})
    _, codes, *_, said = (texts[start + column * ROWS : start + (column + 1) * ROWS] for column in range(TEXTS))
    person = numbers.reshape(3, ROWS)[2]  # after the row's number and the person's score of anger
    items = {code: text(code) for code in dict.fromkeys(codes)}
    return pa.table(
        {
            "person": [str(one) for one in person],
            "item": [items[code] for code in codes],
            "answer": ["yes" if one == "Y" else "no" for one in said],
        }
    )


def text(code: str) -> str:
    """`S1WantCurse` as people read it: the situation, and what one would want to do or do."""
    situation, mode, behaviour = re.fullmatch(r"S(\d)(Want|want|Do)(\w+)", code).groups()  # type: ignore[union-attr]
    return f"{SITUATIONS[situation]} I would {'want to ' if mode.lower() == 'want' else ''}{behaviour.lower()}."
