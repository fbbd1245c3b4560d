"""What calibration found out, as a JSON file that is tied to its model: ranges by value, layers left in floating point.

Later builds of the same model, on any machine and for any target, read it instead of running the model again.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .parameters import Range

FORMAT = "onnxkiln-calibration"
SCHEMA = 1
REMAKE = "calibrate again: give --calibrate the data instead of the file"


@dataclass(frozen=True)
class Calibration:
    """``sha256`` and ``external`` are the model's (see ``frontend.ModelSource``); ``ranges`` by value's name.

    ``in_float`` lists layers that went back to floating point, ``notes`` what the user should know. ``improve`` names
    the rewrites that ranges were measured behind, of which ``smoothing`` has factors by value, ``shifts`` what to take
    from biases by layer.
    """

    sha256: str
    external: Mapping[str, str]
    calibrator: str
    samples: int
    ranges: Mapping[str, Range]
    in_float: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    improve: tuple[str, ...] = ()
    smoothing: Mapping[str, Sequence[float]] = field(default_factory=dict)
    shifts: Mapping[str, Sequence[float]] = field(default_factory=dict)


def is_calibration_file(data: Any) -> bool:
    """Whether ``--calibrate`` names such a file: a ``.json`` that exists."""
    return isinstance(data, (str, os.PathLike)) and Path(data).suffix == ".json" and Path(data).is_file()


def write_calibration(calibration: Calibration, path: Path) -> None:
    """Write atomically: a reader sees the old file or the whole new one."""
    document = {"format": FORMAT, "schema": SCHEMA, **asdict(calibration)}
    document["ranges"] = {name: [r.low, r.high] for name, r in sorted(calibration.ranges.items())}
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise UsageError(f"the calibration can't be written to {path}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def read_calibration(path: Path, sha256: str, external: Mapping[str, str]) -> Calibration:
    """The calibration in ``path``, for the model with these digests.

    Raises UsageError when the file is damaged, of another schema, or another model's.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not a readable calibration: {error}", hint=REMAKE) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise UsageError(f"{path} is not a calibration (no format {FORMAT!r})", hint=REMAKE)
    if document.get("schema") != SCHEMA:
        raise UsageError(f"{path} has schema {document.get('schema')!r}; this onnxkiln reads {SCHEMA}", hint=REMAKE)
    try:
        found = _decoded(document)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} is damaged: {error!r}", hint=REMAKE) from error
    if (found.sha256, dict(found.external)) != (sha256, dict(external)):
        raise UsageError(
            f"{path} is another model's calibration (sha256 {found.sha256[:12]}... instead of {sha256[:12]}...)",
            hint=REMAKE,
        )
    return found


def _decoded(document: Mapping[str, Any]) -> Calibration:
    return Calibration(
        str(document["sha256"]),
        {str(k): str(v) for k, v in document["external"].items()},
        str(document["calibrator"]),
        int(document["samples"]),
        {str(name): _range(*pair) for name, pair in document["ranges"].items()},
        tuple(str(name) for name in document["in_float"]),
        tuple(str(note) for note in document["notes"]),
        tuple(str(name) for name in document["improve"]),
        _vectors(document["smoothing"]),
        _vectors(document["shifts"]),
    )


def _vectors(found: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    vectors = {str(name): tuple(float(x) for x in values) for name, values in found.items()}
    if not all(math.isfinite(x) for values in vectors.values() for x in values):
        raise ValueError("a factor is not finite")
    return vectors


def _range(low: float, high: float) -> Range:
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"[{low}, {high}] is not a range")
    return Range(float(low), float(high))
