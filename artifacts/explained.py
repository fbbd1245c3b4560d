"""``explanations.json``: why passes and templates did or did not apply, for people to read.

A file of its own, because loading an artifact has no use for it: only ``inspect`` and ``compile --explain`` open it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import IntegrityError
from ..explanation import Explanation
from .decode import DecodeError, decode
from .opening import OpenArtifact

FILE_NAME = "explanations.json"


@dataclass(frozen=True)
class _Document:
    explanations: tuple[Explanation, ...]


def write_explanations(folder: Path, explanations: Sequence[Explanation]) -> None:
    """The same explanations give the same bytes."""
    document = {"explanations": [vars(explained) for explained in explanations]}
    (folder / FILE_NAME).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_explanations(artifact: OpenArtifact) -> tuple[Explanation, ...]:
    """Those of an artifact; none where it has no such file. Raises IntegrityError for a file that is damaged."""
    data = artifact.read(FILE_NAME)
    if data is None:
        return ()
    try:
        return decode(_Document, json.loads(data)).explanations
    except (ValueError, RecursionError, DecodeError) as error:
        raise IntegrityError(f"{FILE_NAME} is damaged: {error}", hint="compile the model anew") from error
