"""Give each composite dim of a fused function a name of its own.

A kernel behind three strided convolutions knows its height as ``((h - 1) // 8) + 1``. Every index would carry that
expression, in front of TVM's analyses and then of LLVM (seconds for one kernel). The height is a dim of some argument:
a fresh variable bound there serves as well.
"""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.sym import Analyzer


def name_dims(mod: tvm.IRModule) -> tuple[tvm.IRModule, int]:
    """Returns the module and how many dims got names."""
    result, count = mod.clone(), 0
    for gv, function in mod.functions.items():
        if not isinstance(function, tirx.PrimFunc):
            continue
        count += len(_composite_dims(function))
        result.update_func(gv, name_dims_of(function))
    return result, count


def name_dims_of(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """One function with a variable for each composite dim of its arguments."""
    names = _composite_dims(function)
    return _rename(function, names) if names else function


def _composite_dims(function: tirx.PrimFunc) -> list[tuple[Any, tirx.Var]]:
    """(dim, variable) for each distinct argument dim that is neither a number nor a variable."""
    names: list[tuple[Any, tirx.Var]] = []
    for param in function.params:
        if not tirx.is_buffer_var(param):
            continue
        for dim in param.shape:
            if isinstance(dim, tirx.IntImm | tirx.Var):
                continue
            if not any(tvm_ffi.structural_equal(dim, known) for known, _ in names):
                names.append((dim, tirx.Var(f"r{len(names)}", "int64")))
    return names


def _rename(function: tirx.PrimFunc, names: list[tuple[Any, tirx.Var]]) -> tirx.PrimFunc:
    analyzer = Analyzer()
    symbols = {var for dim, _ in names for var in tirx.analysis.undefined_vars(dim)}
    variables = {var for _, var in names}
    # The result's dims come last: windows are expressed in them.
    shifted = [(dim, var) for dim, var in reversed(names) if isinstance(dim, _SUMS) and not _divisors(dim)]

    def whole(expr: Any) -> Any:
        return next((var for dim, var in names if tvm_ffi.structural_equal(expr, dim)), expr)

    def parts(expr: Any) -> Any:
        used = set(tirx.analysis.undefined_vars(expr))
        if isinstance(expr, tirx.FloorDiv):
            return _in_terms_of(analyzer, expr, names) if symbols & used else expr
        if variables & used:
            return analyzer.simplify(expr)
        return _offset(analyzer, expr, shifted) if symbols & used else expr

    renamed = tvm_ffi.structural_map(function, (_ARITHMETIC, whole), order="pre")
    return tvm_ffi.structural_map(renamed, ((*_SUMS, tirx.FloorDiv), parts))


_SUMS = (tirx.Add, tirx.Sub)
_ARITHMETIC = (tirx.Add, tirx.Sub, tirx.Mul, tirx.FloorDiv, tirx.FloorMod, tirx.Select, tirx.Min, tirx.Max)


def _offset(analyzer: Analyzer, expr: Any, shifted: list[tuple[Any, tirx.Var]]) -> Any:
    """``expr`` as a named dim plus a constant: what a window without strides makes of a dim."""
    for dim, var in shifted:
        difference = analyzer.simplify(expr - dim)
        if isinstance(difference, tirx.IntImm):
            return var + difference
    return expr


def _in_terms_of(analyzer: Analyzer, expr: tirx.FloorDiv, names: list[tuple[Any, tirx.Var]]) -> Any:
    """``expr`` as a named dim plus a constant, or as a named dim in tiles, where simplification has merged them."""
    for dim, var in names:
        difference = analyzer.simplify(expr - dim)
        if isinstance(difference, tirx.IntImm):
            return var + difference
        tile = _tile(expr, dim)
        for less in (0, 1) if tile is not None else ():
            # Written as rounding up, the form in which tiles cover the dim provably.
            if analyzer.can_prove_equal(expr, tirx.floordiv(dim + tile - 1, tile) - less):
                return tirx.floordiv(var + tile - 1, tile) - less
    return expr


def _tile(expr: tirx.FloorDiv, dim: Any) -> int | None:
    """How many times coarser ``expr`` divides than the division inside ``dim``, or than a ``dim`` without one."""
    whole = int(expr.b.value) if isinstance(expr.b, tirx.IntImm) else 0
    return next((whole // d for d in _divisors(dim) or [1] if whole > d > 0 and whole % d == 0), None)


def _divisors(dim: Any) -> list[int]:
    found: list[int] = []

    def visit(node: tirx.FloorDiv) -> None:
        if isinstance(node.b, tirx.IntImm):
            found.append(int(node.b.value))

    tvm_ffi.structural_walk(dim, (tirx.FloorDiv, visit))
    return found
