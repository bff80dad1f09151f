"""Backbones: cards, fetching weights by hash, loading, attaching LoRA. Only cards are light."""

from __future__ import annotations

from fmhub.artifacts import Debian, File, Hub, Local, Npm, Wheel
from fmhub.backbones.cards import Card, as_entry_of, builtin, card, from_entry

__all__ = ["Card", "Debian", "File", "Hub", "Local", "Npm", "Wheel", "as_entry_of", "builtin", "card", "from_entry"]
