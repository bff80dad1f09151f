"""Who is better than whom: ranks as groups that a paired bootstrap cannot tell apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Entry = TypeVar("Entry")


def ranks(ordered: Sequence[Entry], apart: Callable[[Entry, Entry], bool]) -> list[int]:
    """Ranks of entries given best first: one that cannot be told `apart` from its group's best shares that one's rank.

    Groups are compared with their best only, so that ties do not chain: 1, 1, 3, ...
    """
    found: list[int] = []
    for place, entry in enumerate(ordered, start=1):
        leads = not found or apart(ordered[found[-1] - 1], entry)
        found.append(place if leads else found[-1])
    return found
