"""What a user asks for when a model is to be quantized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import UsageError
from .calibration_data import FORMS
from .calibrators import CALIBRATORS
from .plan import Selection

STATIC = "int8"
SCHEMES = (STATIC,)


@dataclass(frozen=True)
class Settings:
    """``scheme`` is one of ``SCHEMES``; ``calibrate`` the data, or a calibration file; ``selection`` what stays."""

    scheme: str
    calibrate: Any = None
    calibrator: str = "min-max"
    selection: Selection = field(default_factory=Selection)


def settings_of(
    quantize: str | None, calibrate: Any = None, calibrator: str | None = None, exclude: Sequence[str] = ()
) -> Settings | None:
    """The settings of a call; None where it asks for no quantization. ``exclude`` holds names of nodes (with ``*`` and
    ``?``) and ``op:Name`` for operators.

    Raises UsageError for what doesn't exist or doesn't go together.
    """
    if quantize is None:
        given = {"calibrate": calibrate, "calibrator": calibrator, "exclude": list(exclude) or None}
        stray = [name for name, value in given.items() if value is not None]
        if stray:
            raise UsageError(f"{stray[0]} is for quantization only", hint="add --quantize int8 (quantize='int8')")
        return None
    _among("quantize", quantize, SCHEMES)
    calibrator = calibrator or next(iter(CALIBRATORS))
    _among("calibrator", calibrator, tuple(CALIBRATORS))
    if quantize == STATIC and calibrate is None:
        raise UsageError(
            f"--quantize {quantize} needs calibration data",
            hint=f"give --calibrate {FORMS}, or a calibration file",
        )
    operators = tuple(item.removeprefix("op:") for item in exclude if item.startswith("op:"))
    selection = Selection(tuple(item for item in exclude if not item.startswith("op:")), operators)
    return Settings(quantize, calibrate, calibrator, selection)


def _among(what: str, found: str, known: Sequence[str]) -> None:
    if found not in known:
        raise UsageError(f"{what} {found!r} is not known", hint=f"use one of {', '.join(known)}")
