"""Backbones: cards, fetching weights by hash, loading, attaching LoRA. Only cards are light."""

from __future__ import annotations

from fmhub.artifacts import Debian, File, Hub, Local, Npm, Wheel
from fmhub.backbones.cards import Card, builtin, card

__all__ = ["Card", "Debian", "File", "Hub", "Local", "Npm", "Wheel", "builtin", "card"]
