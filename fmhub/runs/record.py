"""The record: what ran, what came out, what it cost. Its keys are a contract; other tools read them.

Seconds are wall seconds unless named cpu; memory and sizes are bytes; latency is milliseconds for one example alone.
`units` says of each metric what it counts, and by which named folding texts were compared.
Every score is {value, low, high, n}: a 95 % bootstrap interval over the `n` examples of its split, low <= value <= high,
or null ends where the data cannot give one.
"""

from __future__ import annotations

from typing import Any


def record(plan: dict[str, Any], **measured: Any) -> dict[str, Any]:
    """The record of a complete run, from its stored plan and what was measured."""
    return {
        "id": plan["id"],
        "status": "done",
        "started": plan["started"],
        "task": plan["task"],
        "backbone": plan["backbone"],
        "data": plan["data"],
        "recipe": plan["recipe"],
        "seed": plan["recipe"]["seed"],
        "seeds": plan["options"]["seeds"],
        "scores": measured["scores"],
        "units": plan["units"],
        "primary": measured["primary"],
        "normalised": measured["normalised"],
        "baselines": measured["baselines"],
        "folds": measured["folds"],
        "groups": measured["groups"],
        "curve": measured["curve"],
        "decisions": plan["decisions"],
        "saved": measured["saved"],
        "privacy": None,
        "cost": measured["cost"],
        "environment": measured["environment"],
        "test_readings": measured["test_readings"],
        "notes": measured["notes"],
    }
