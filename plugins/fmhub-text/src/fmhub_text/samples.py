"""Made-up texts that stand in tests for sets whose licence forbids copying."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

_NEWS = {
    "acq": (
        "agreed to buy a stake in",
        "completed its takeover of",
        "raised its tender offer for",
        "will acquire all shares of",
    ),
    "crude": (
        "cut its posted price for crude oil per barrel",
        "said opec output of oil rose",
        "will pump more crude from the field",
        "saw oil stocks fall",
    ),
    "earn": (
        "reported a net profit per share",
        "declared a quarterly dividend",
        "posted a loss and lower revenues",
        "said annual earnings rose",
    ),
    "grain": (
        "sold wheat and maize to buyers",
        "expects a larger corn harvest",
        "shipped tonnes of barley and wheat",
        "lowered its soybean crop estimate",
    ),
    "interest": (
        "raised its prime lending rate",
        "cut the discount rate by a quarter point",
        "left base rates unchanged",
        "set higher repurchase rates",
    ),
    "money-fx": (
        "intervened to support the dollar against the yen",
        "bought marks in the currency market",
        "gave money market assistance",
        "saw sterling rise",
    ),
    "ship": (
        "reopened the port to tankers and vessels",
        "said dockers ended their strike at the harbour",
        "rerouted cargo ships",
        "insured vessels in the gulf",
    ),
    "trade": (
        "imposed tariffs on imports",
        "reported a wider trade deficit",
        "protested against export subsidies",
        "signed a trade agreement on quotas",
    ),
}
_MAIL = {
    "ham": (
        "could you look at the patch before friday",
        "the build fails on my machine since the upgrade",
        "thanks for the notes from the meeting",
        "my train is late so start without me",
        "the server ran out of memory again last night",
        "i wrote a small script that sorts the logs",
    ),
    "spam": (
        "claim your free prize now before it is gone",
        "lowest mortgage rates guaranteed, click here",
        "lose weight fast with this miracle pill",
        "earn money from home, no experience needed",
        "your account was chosen for a cash bonus",
        "buy cheap software licences today only",
    ),
}
_WHO = ("the company", "a spokesman", "the group", "the ministry", "the bank", "an official", "the agency", "the board")
_WHERE = ("in london", "in tokyo", "this week", "last month", "on monday", "in the first half", "yesterday", "after talks")


def news() -> pa.Table:
    """320 headlines, 40 a topic."""
    return _table(_NEWS, 40)


def mails() -> pa.Table:
    """240 messages, half of them spam."""
    return _table(_MAIL, 120)


def comments() -> pa.Table:
    """240 remarks on a visit, good or bad."""
    good = ("the food was lovely", "friendly and quick service", "a wonderful view", "we will gladly come back", "great value")
    bad = ("the food was cold", "rude and slow service", "a dirty room", "we will never come back", "far too expensive")
    return _table({"bad": bad, "good": good}, 120)


def stars() -> pa.Table:
    """The remarks with a mark: good ones around 4, bad ones around 2."""
    import pyarrow as pa

    table = comments()
    marks = [(4.0 if label == "good" else 2.0) + number % 5 / 5 for number, label in enumerate(table["label"].to_pylist())]
    return table.drop_columns(["label"]).append_column("target", pa.array(marks))


def _table(phrases: Mapping[str, Sequence[str]], count: int) -> pa.Table:
    """`count` distinct texts a label, each of two phrases of its label, in an order that does not depend on the label."""
    import pyarrow as pa

    draw = random.Random(0)
    rows: dict[str, str] = {}
    for label, choices in phrases.items():
        made: set[str] = set()
        while len(made) < count:
            first, second = draw.sample(choices, 2)
            made.add(f"{draw.choice(_WHO)} {draw.choice(_WHERE)}: {first}; {second}")
        rows.update(dict.fromkeys(sorted(made), label))
    texts = sorted(rows)
    draw.shuffle(texts)
    return pa.table({"text": texts, "label": [rows[text] for text in texts]})
