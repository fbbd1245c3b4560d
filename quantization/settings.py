"""What a user asks for when a model is to be quantized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import UsageError
from .accuracy import COMPARISONS, Budget, Metric, parse_budget
from .calibration_data import FORMS
from .calibration_file import is_calibration_file
from .calibrators import CALIBRATORS
from .plan import Selection

STATIC, DYNAMIC = "int8", "int8-dynamic"
SCHEMES = (STATIC, DYNAMIC)
SPEED, SIZE = "speed", "size"
PREFERENCES = (SPEED, SIZE)
"""For size, tables that rows are taken from become integers too, in which nothing is computed faster."""
EQUALIZE, SMOOTH, CORRECT = "equalize", "smooth", "bias"
IMPROVEMENTS = (EQUALIZE, SMOOTH, CORRECT)
"""Cross-layer equalization, SmoothQuant, bias correction: in the order in which they are done."""


@dataclass(frozen=True)
class Settings:
    """``scheme`` is one of ``SCHEMES``; ``calibrate`` the data, or a calibration file; ``selection`` what stays in
    floating point; ``budget`` what accuracy must hold, None for any; ``improve`` names of ``IMPROVEMENTS``; ``prefer``
    one of ``PREFERENCES``."""

    scheme: str
    calibrate: Any = None
    calibrator: str = "min-max"
    selection: Selection = field(default_factory=Selection)
    budget: Budget | None = None
    improve: tuple[str, ...] = ()
    prefer: str = SPEED


def settings_of(
    quantize: str | None,
    calibrate: Any = None,
    calibrator: str | None = None,
    exclude: Sequence[str] = (),
    max_drop: str | float | None = None,
    metric: str | Metric | None = None,
    improve: Sequence[str] = (),
    prefer: str | None = None,
) -> Settings | None:
    """The settings of a call; None where it asks for no quantization. ``exclude`` holds names of nodes (with ``*`` and
    ``?``) and ``op:Name`` for operators.

    Raises UsageError for what doesn't exist or doesn't go together.
    """
    if quantize is None:
        given = {"calibrate": calibrate, "calibrator": calibrator, "exclude": list(exclude) or None}
        given |= {"max_drop": max_drop, "metric": metric, "improve": list(improve) or None, "prefer": prefer}
        stray = [name for name, value in given.items() if value is not None]
        if stray:
            raise UsageError(f"{stray[0]} is for quantization only", hint="add --quantize int8 (quantize='int8')")
        return None
    _among("quantize", quantize, SCHEMES)
    if quantize == DYNAMIC and calibrator is not None:
        raise UsageError(f"a calibrator is for --quantize {STATIC}: dynamic quantization has no ranges to choose")
    calibrator = calibrator or next(iter(CALIBRATORS))
    _among("calibrator", calibrator, tuple(CALIBRATORS))
    if quantize == STATIC and calibrate is None:
        raise UsageError(
            f"--quantize {quantize} needs calibration data",
            hint=f"give --calibrate {FORMS}, or a calibration file",
        )
    operators = tuple(item.removeprefix("op:") for item in exclude if item.startswith("op:"))
    selection = Selection(tuple(item for item in exclude if not item.startswith("op:")), operators)
    _check_improvements(quantize, calibrate, improve)
    prefer = prefer or SPEED
    _among("preference", prefer, PREFERENCES)
    budget = _budget(calibrate, max_drop, metric)
    return Settings(quantize, calibrate, calibrator, selection, budget, tuple(dict.fromkeys(improve)), prefer)


def _check_improvements(quantize: str, calibrate: Any, improve: Sequence[str]) -> None:
    for name in improve:
        _among("improvement", name, IMPROVEMENTS)
    if improve and is_calibration_file(calibrate):
        raise UsageError(f"{calibrate} has improvements of its own", hint="leave --improve out")
    if quantize == DYNAMIC and CORRECT in improve:
        raise UsageError(f"bias correction is for --quantize {STATIC}: dynamic quantization keeps biases as they are")
    if SMOOTH in improve and calibrate is None:
        raise UsageError("smoothing needs calibration data", hint=f"give --calibrate {FORMS}")


def _budget(calibrate: Any, max_drop: str | float | None, metric: str | Metric | None) -> Budget | None:
    if max_drop is None:
        if metric is not None:
            raise UsageError("a metric needs a bound", hint="add --max-drop 1% (max_drop='1%')")
        return None
    if is_calibration_file(calibrate):
        raise UsageError(
            f"{calibrate} says already which layers stay in floating point",
            hint="leave --max-drop out, or calibrate again: give --calibrate the data instead of the file",
        )
    budget = parse_budget(max_drop, metric)
    if calibrate is None and budget.metric in COMPARISONS:
        raise UsageError(f"--metric {budget.metric} compares on calibration data", hint=f"give --calibrate {FORMS}")
    return budget


def _among(what: str, found: str, known: Sequence[str]) -> None:
    if found not in known:
        raise UsageError(f"{what} {found!r} is not known", hint=f"use one of {', '.join(known)}")
