"""What ``--explain`` adds: for each candidate why it did or didn't apply."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..artifacts.explained import read_explanations
from ..artifacts.opening import OpenArtifact
from .output import format_table, print_section

_WIDEST = 100
"""Characters of a subject: a group of many operators would push the reason off every screen."""


def explanations_of(folder: Path) -> list[dict[str, Any]]:
    """Those of an artifact, in the order of the passes; none where an older onnxkiln or O0 made it."""
    with OpenArtifact(folder) as artifact:
        return [vars(explained) for explained in read_explanations(artifact)]


def show_explanations(explanations: list[dict[str, Any]]) -> None:
    """One section for each step, what applied first."""
    if not explanations:
        print("no explanations: an older onnxkiln made the artifact, or there was nothing to decide")
    for step in dict.fromkeys(item["step"] for item in explanations):
        said = sorted((item for item in explanations if item["step"] == step), key=lambda item: not item["applied"])
        print_section(f"why: {step}", format_table(("", "what", "candidate", "because"), map(_row, said)))


def _row(item: dict[str, Any]) -> tuple[str, str, str, str]:
    subject = item["subject"] if len(item["subject"]) <= _WIDEST else f"{item['subject'][: _WIDEST - 3]}..."
    times = f" ({item['times']} times)" if item["times"] > 1 else ""
    return "yes" if item["applied"] else "no", subject + times, item["candidate"], item["reason"]
