"""Why a pass did or did not apply: what ``onnxkiln compile --explain`` and ``inspect --explain`` show.

Passes call ``explain`` where they decide; what they say goes to the list of the pipeline that runs, if one listens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import replace

from ..explanation import Explanation


class Explanations:
    """What was said, in order; the same words again only count."""

    def __init__(self) -> None:
        self._said: dict[Explanation, int] = {}

    def add(self, explanation: Explanation) -> None:
        self._said[explanation] = self._said.get(explanation, 0) + 1

    def all(self) -> list[Explanation]:
        return [replace(explanation, times=times) for explanation, times in self._said.items()]


_listening: ContextVar[tuple[Explanations, str] | None] = ContextVar("explanations", default=None)


@contextlib.contextmanager
def listening(explanations: Explanations, step: str) -> Iterator[None]:
    """What is explained inside goes to ``explanations``, as said by ``step``."""
    token = _listening.set((explanations, step))
    try:
        yield
    finally:
        _listening.reset(token)


def explain(subject: str, candidate: str, applied: bool, reason: str) -> None:
    """Say why; nobody listening, nothing happens. No addresses, no times: the same model gives the same words."""
    to = _listening.get()
    if to is not None:
        to[0].add(Explanation(to[1], subject, candidate, applied, reason))
