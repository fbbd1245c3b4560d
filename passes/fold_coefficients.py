"""Entries of constant matrices by index: numbers where loops are unrolled, choices among all entries where not.

Written as choices from the start, each of a transform's thousand unrolled steps would carry the whole matrix through
every pass: most of the time that a kernel with Winograd's transforms took to compile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import tirx

from ..schedules.blocks import as_int
from ..schedules.coefficients import COEFFICIENT, MATRICES


def fold_coefficients() -> tvm.transform.Pass:
    """The pass, for functions whose loops are unrolled."""

    @tirx.transform.prim_func_pass(opt_level=0, name="kiln.fold_coefficients")
    def run(function: tirx.PrimFunc, _mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
        return tvm_ffi.structural_map(function, [(tvm.ir.Call, _folded)])

    return run


def _folded(call: tvm.ir.Call) -> Any:
    if not isinstance(call.op, tvm.ir.Op) or call.op.name != "tirx.call_pure_extern":
        return call
    name = str(call.args[0].value)
    if not name.startswith(COEFFICIENT):
        return call
    matrix, (row, column) = MATRICES[name.removeprefix(COEFFICIENT)], call.args[1:]
    i, j = as_int(row), as_int(column)
    return _chosen(matrix, row, column) if i is None or j is None else tirx.const(float(matrix[i, j]), "float32")


def _chosen(matrix: np.ndarray, row: Any, column: Any) -> Any:
    result: Any = tirx.const(float(matrix[-1, -1]), "float32")
    for i, j in reversed(list(np.ndindex(*matrix.shape))[:-1]):
        here = tirx.all(row == i, column == j)
        result = tirx.Select(here, tirx.const(float(matrix[i, j]), "float32"), result)
    return result
