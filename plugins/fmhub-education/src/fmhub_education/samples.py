"""Made-up people for tests."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

SUBJECTS = {"sums": ("add two numbers", "multiply two numbers", "divide two numbers", "find a percentage", "solve an equation"),
            "words": ("spell a long word", "find a rhyme", "write a letter", "name the verb", "read a poem aloud")}  # fmt: skip


def answers(people: int = 60, seed: int = 3) -> pa.Table:
    """People who can do most things, or some, and those who are good at sums or at words."""
    import pyarrow as pa

    chance, rows = random.Random(seed), []
    for person in range(people):
        able = {"sums": chance.gauss(0, 1.6), "words": chance.gauss(0, 1.6)}
        for subject, tasks in SUBJECTS.items():
            for hard, task in enumerate(tasks):
                right = able[subject] + chance.gauss(0, 0.4) > 0.4 * hard - 0.8
                rows.append((f"p{person}", f"I can {task}.", "yes" if right else "no"))
    person, item, answer = (list(column) for column in zip(*rows, strict=True))
    return pa.table({"person": person, "item": item, "answer": answer})


def ratings(people: int = 40, things: int = 15, seed: int = 5) -> pa.Table:
    """Generous people and good courses get high ratings; an early hour costs one."""
    import pyarrow as pa

    chance = random.Random(seed)
    kind, good = ([chance.gauss(0, 0.9) for _ in range(count)] for count in (people, things))
    rows = []
    for person in range(people):
        for thing in range(things):
            early = chance.random() < 0.4
            given = 3.2 + kind[person] + good[thing] - early + chance.gauss(0, 0.4)
            rows.append((f"p{person}", f"course {thing}", "early" if early else "late", float(min(5, max(1, round(given))))))
    names = ("person", "item", "hour", "rating")
    return pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
