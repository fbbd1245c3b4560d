"""What a child process does with one test: compile, run, compare as ONNX's own runner does, and say what went wrong."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.backend.test import runner

from conformance_check.cases import Case, subject
from conformance_check.engines import Engine, NotSupported, Refused

PASSED = "passed"
UNSUPPORTED, REFUSED, WRONG, ERROR = "unsupported operator", "refused", "wrong answer", "error"
CRASH, TIMEOUT = "crash", "time-out"
OUTCOMES = (PASSED, UNSUPPORTED, REFUSED, WRONG, ERROR, CRASH, TIMEOUT)
"""``error``: an exception of a kind that the engine does not promise. ``crash``: the process died."""

LONGEST_REASON = 600


def run_case(engine: Engine, case: Case) -> dict[str, Any]:
    """One test's result, ready for JSON: name, kind, operators, outcome, reason, seconds, external functions."""
    start = time.perf_counter()
    result: dict[str, Any] = {"name": case.name, "kind": case.kind, "operators": subject(case), "external": []}
    try:
        result["external"] = _run(engine, case)
        result |= {"outcome": PASSED, "reason": ""}
    except NotSupported as error:
        result |= {"outcome": UNSUPPORTED, "reason": _words(error)}
    except Refused as error:
        result |= {"outcome": REFUSED, "reason": _words(error)}
    except AssertionError as error:
        result |= {"outcome": WRONG, "reason": _words(error)}
    except Exception as error:
        result |= {"outcome": ERROR, "reason": f"{type(error).__name__}: {_words(error)}"}
    return {**result, "seconds": round(time.perf_counter() - start, 3)}


def _run(engine: Engine, case: Case) -> list[str]:
    model = case.model()
    with tempfile.TemporaryDirectory(prefix="onnxkiln-conformance-") as folder:
        prepared = engine.prepare(model, Path(folder))
        for inputs, expected in case.data_sets(model):
            found = prepared.run(dict(zip(_fed(model, len(inputs)), inputs, strict=True)))
            _compare(expected, found, case)
        return prepared.external()


def _compare(expected: list[Any], found: list[Any], case: Case) -> None:
    """As ONNX's runner, which stumbles over lists of scalars and over None, so those are taken apart here."""
    if len(found) != len(expected):
        raise AssertionError(f"{len(found)} values, expected {len(expected)}")
    for wanted, value in zip(expected, found, strict=True):
        if _kind(wanted) is not _kind(value):
            raise AssertionError(f"a value of {type(value).__name__}, expected {type(wanted).__name__}")
        if isinstance(wanted, list):
            _compare(wanted, value, case)
        elif wanted is not None:
            runner.Runner.assert_similar_outputs([wanted], [np.asarray(value)], case.rtol, case.atol)


def _kind(value: Any) -> type:
    return type(value) if value is None or isinstance(value, list) else np.ndarray


def _fed(model: onnx.ModelProto, count: int) -> list[str]:
    """The inputs that a test's values belong to: all, or all but those with a value in the model."""
    held = {tensor.name for tensor in model.graph.initializer}
    names = [value.name for value in model.graph.input]
    return names if count == len(names) else [name for name in names if name not in held]


def _words(error: Exception) -> str:
    lines = (line.strip() for line in str(error).splitlines())
    return " | ".join(line for line in lines if line)[:LONGEST_REASON]
