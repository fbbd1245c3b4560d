"""Constant matrices whose entries expressions name by index: ``passes/fold_coefficients.py`` puts the numbers in."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import tirx

from .winograd_plan import TRANSFORMS

COEFFICIENT = "kiln.coefficient."
MATRICES: dict[str, np.ndarray] = {
    f"winograd_{kind}_{step}": matrix
    for step, transform in TRANSFORMS.items()
    for kind, matrix in (("input", transform.input), ("output", transform.output))
}


def coefficient(name: str, row: Any, column: Any) -> Any:
    """The entry of ``MATRICES[name]``, float32."""
    return tirx.call_pure_extern("float32", COEFFICIENT + name, row, column)
