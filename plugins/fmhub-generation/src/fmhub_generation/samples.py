"""Made-up questions for tests: what is told can be looked up, or is about the same thing."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

TOPICS = {
    "bread": ("How long is the bread baked?", "The loaf stays in the oven for {} minutes."),
    "train": ("When does the train leave?", "The express departs from platform {}."),
    "rain": ("Will it rain tomorrow?", "The forecast says showers for {} hours."),
    "printer": ("Why does the printer not print?", "Its paper tray needs {} more sheets."),
    "doctor": ("Where is the doctor?", "The clinic is {} streets from here."),
    "football": ("Who won the football match?", "The home team scored {} goals."),
    "guitar": ("How is a guitar tuned?", "Turn the peg of string {} slowly."),
    "garden": ("When are tomatoes planted?", "Put the seedlings into soil in week {}."),
}
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
THINGS = ("key", "map", "lamp", "book", "coin", "cup", "ring", "bell")
PLACES = ("kitchen", "garden", "cellar", "tower", "harbour", "library", "stable", "chapel")
PEOPLE = ("Anna", "Boris", "Clara", "David", "Emma", "Felix", "Greta", "Hugo")


def talk() -> pa.Table:
    """`question` and `answer`: eight topics, ten answers each."""
    import pyarrow as pa

    rows = [(f"{question} ({topic} {number})", answer.format(number)) for topic, (question, answer) in TOPICS.items() for number in NUMBERS]
    questions, answers = zip(*rows, strict=True)
    return pa.table({"question": questions, "answer": answers})


def passages() -> pa.Table:
    """`question`, `passage` and `target`: two questions on each of 80 passages."""
    import pyarrow as pa

    rows: list[dict[str, Any]] = []
    for number, (thing, place) in enumerate(itertools.product(THINGS, PLACES[:5] * 2)):
        other, person = THINGS[(number + 3) % 8], PEOPLE[number % 8]
        where, day = PLACES[(number * 5 + number // 8) % 8], NUMBERS[number % 10]
        passage = f"On day {day} {person} put the {thing} into the {place}. The {other} of number {number} is in the {where}."
        rows.append({"question": f"Who put the {thing} there?", "passage": passage, "target": [person]})
        rows.append({"question": f"Where is the {thing}?", "passage": passage, "target": [place, f"the {place}"]})
    return pa.Table.from_pylist(rows)
