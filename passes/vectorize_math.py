"""Replace calls of elementary functions in kernels by arithmetic that LLVM compiles to vector instructions.

TVM lowers ``exp`` and its kin to one library call per element, 2 to 8 ns each, also inside vectorised loops.

``vectorize_math`` marks the functions that want it; ``expand_math`` does it in the lowering pipeline, behind every
simplification: TVM's analysis puts each binding's value in place of its variable, again and again, which takes
minutes on the expressions that fusion makes. For the same reason a function's argument goes through a small buffer,
which LLVM turns into a register.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

from ..schedules.vector_expressions import lanes_of, typed_like
from ..schedules.vector_math import FUNCTIONS, has_short_form, power

MARK = "kiln.vector_math"
"""Attribute of functions whose calls ``expand_math`` replaces."""

_LIBRARY = ("erf", "log1p")
"""Of ``FUNCTIONS`` those that TVM calls the C library for, one element at a time."""


def vectorize_math(mod: tvm.IRModule) -> tuple[tvm.IRModule, int]:
    """Returns the module and how many calls are going to be replaced.

    float32 calls are; float16 and bfloat16 ones are computed in float32; float64 ones stay.
    """
    total = 0
    result = mod.clone()
    for gv, function in mod.functions.items():
        if isinstance(function, tirx.PrimFunc):
            calls: list[tvm.ir.Call] = []
            tvm_ffi.structural_walk(function.body, (tvm.ir.Call, calls.append))
            count = sum(_is_replaced(call) for call in calls)
            total += count
            if count:
                result.update_func(gv, function.with_attr(MARK, True))
    return result, total


def register() -> None:
    """Tell TVM which functions may stand in vectorised loops: of these it doesn't know, and leaves scalar loops."""
    for name in (*_LIBRARY, "isnan", "rsqrt"):
        tvm.ir.register_op_attr(f"tirx.{name}", "TVectorizable", True)


def keep_scalar() -> tvm.transform.Pass:
    """The pass, before vectorisation, for calls of the C library that ``expand_math`` won't replace."""

    @tirx.transform.prim_func_pass(opt_level=0, name="kiln.keep_scalar")
    def run(function: tirx.PrimFunc, _mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
        marked = bool(function.attrs and MARK in function.attrs)
        return tvm_ffi.structural_map(function, (tvm.ir.Call, lambda call: _library_call(call, marked)))

    return run


def _library_call(call: tvm.ir.Call, marked: bool) -> Any:
    suffix = {"float64": "", "float32": "f"}.get(str(getattr(call.ty, "dtype", "")))
    if _name(call) not in _LIBRARY or suffix is None or (marked and _is_replaced(call)):
        return call
    return tirx.call_pure_extern(str(call.ty.dtype), _name(call) + suffix, *call.args)


def expand_math() -> tvm.transform.Pass:
    """The pass that replaces the calls in marked functions, after vectorisation and simplification."""

    @tirx.transform.prim_func_pass(opt_level=0, name="kiln.expand_math")
    def run(function: tirx.PrimFunc, _mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
        if not function.attrs or MARK not in function.attrs:
            return function
        leaves = (tirx.BufferStore, tirx.Bind, tirx.Evaluate)
        expanded = tvm_ffi.structural_map(function, [(leaves, _expand_statement), (tirx.SeqStmt, _flatten)])
        return expanded.without_attr(MARK)

    return run


def _flatten(block: tirx.SeqStmt) -> tirx.SeqStmt:
    """Bindings have to stand beside the statements that read them."""
    statements: list[tirx.Stmt] = []
    for statement in block.seq:
        statements += list(statement.seq) if isinstance(statement, tirx.SeqStmt) else [statement]
    return block if len(statements) == len(block.seq) else tirx.SeqStmt(statements)


def _expand_statement(statement: tirx.Stmt) -> tirx.Stmt:
    return _Expander().run(statement)


class _Expander:
    """Expands the calls in one statement; ``before`` gets the statements that store arguments."""

    def __init__(self) -> None:
        self.before: list[tirx.Stmt] = []
        self.guards = 0

    def run(self, statement: tirx.Stmt) -> tirx.Stmt:
        callbacks = [(tvm.ir.Call, self._call), (tirx.Let, self._guarded)]
        expanded = tvm_ffi.structural_mutate(statement, callbacks)
        return tirx.SeqStmt([*self.before, expanded]) if self.before else expanded

    def _call(self, call: tvm.ir.Call, mutator: Any) -> Any:
        if _name(call) == "if_then_else":
            return self._guarded(call, mutator)
        call = mutator.default_mutate(call)
        if not _is_replaced(call):
            return call
        function, x = _split(call)
        dtype = str(call.ty.dtype)
        x = x if dtype.startswith("float32") else x.astype(typed_like(x, "float32"))
        result = function(x if self.guards else self._stored(x))
        return result if dtype.startswith("float32") else result.astype(dtype)

    def _guarded(self, node: Any, mutator: Any) -> Any:
        """What lies under a guard, or reads a binding, can't be computed ahead of the statement."""
        self.guards += 1
        result = mutator.default_mutate(node)
        self.guards -= 1
        return result

    def _stored(self, x: Any) -> Any:
        lanes = lanes_of(x)
        buffer = tirx.decl_buffer([lanes], "float32", name="argument")
        zero = tirx.const(0, "int32")
        index = zero if lanes == 1 else tirx.Ramp(zero, tirx.const(1, "int32"), lanes)
        self.before += [tirx.AllocBuffer(buffer), tirx.BufferStore(buffer, x, [index])]
        return tirx.BufferLoad(buffer, [index])


def _name(call: tvm.ir.Call) -> str:
    return call.op.name.rpartition(".")[2] if isinstance(call.op, tvm.ir.Op) else ""


def _is_replaced(call: tvm.ir.Call) -> bool:
    dtype = str(getattr(call.ty, "dtype", ""))  # an address has none
    narrow = dtype.partition("x")[0] in ("float32", "float16", "bfloat16")
    return narrow and (_name(call) in FUNCTIONS or _power_of(call) is not None)


def _power_of(call: tvm.ir.Call) -> float | None:
    """The constant exponent, if ``call`` is a power with a short form."""
    if _name(call) != "pow":
        return None
    exponent = _scalar(call.args[1])
    return exponent if exponent is not None and has_short_form(exponent) else None


def _scalar(value: Any) -> float | None:
    value = value.value if isinstance(value, tirx.Broadcast) else value
    return float(value.value) if isinstance(value, tirx.FloatImm) else None


def _split(call: tvm.ir.Call) -> tuple[Callable[[Any], Any], Any]:
    """(function, its argument); ``log(1 + y)`` is ``log1p(y)``, which keeps small y."""
    name, x = _name(call), call.args[0]
    if name == "pow":
        return lambda base: power(base, _power_of(call) or 0.0), x
    if name == "log" and isinstance(x, tirx.Add):
        for one, other in ((x.a, x.b), (x.b, x.a)):
            if _scalar(one) == 1.0:
                return FUNCTIONS["log1p"], other
    return FUNCTIONS[name], x
