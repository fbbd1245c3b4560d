"""How much a user lets a tuner do: ``60s``, ``15m`` or ``200t`` (trials), for the whole model."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import UsageError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Budget:
    """One of the two is set: ``seconds`` of searching, or ``trials``, measurements."""

    seconds: float | None = None
    trials: int | None = None


def parse_budget(text: str) -> Budget:
    """Raises UsageError for a text that is no budget."""
    match = re.fullmatch(r"(\d{1,7}(?:\.\d{1,3})?)([smht])", text, re.ASCII)
    if match is None or float(match[1]) <= 0 or (match[2] == "t" and "." in match[1]):
        raise UsageError(
            f"tuning budget {text!r} is neither a time nor a number of trials",
            hint="write 60s, 15m, 1h, or 200t for 200 measurements",
        )
    if match[2] == "t":
        return Budget(trials=int(match[1]))
    return Budget(seconds=float(match[1]) * _UNITS[match[2]])
