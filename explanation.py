"""Why a step did or didn't do something: what the passes say and an artifact keeps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Explanation:
    """``step`` decided whether ``candidate`` (an algorithm, a fusion, a template) applies to ``subject``, for this
    ``reason``, ``times``."""

    step: str
    subject: str
    candidate: str
    applied: bool
    reason: str
    times: int = 1
