"""Plan the buffers of all activations, and say how much memory they take together.

TVM plans: tensors that are never alive at once share a buffer of the same size, also where the size is an expression
in open dims. The virtual machine keeps every buffer in its pool between runs, so their sum is what a session holds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import tvm
import tvm_ffi
from tvm import relax
from tvm.relax.expr_functor import PyExprVisitor, visitor
from tvm.sym import Analyzer

from .bindings import relax_functions
from .constants import as_int, op_name, shape_of

T = relax.transform


def plan_memory() -> tvm.transform.Pass:
    """From calls of functions to buffers that are allocated, shared, and passed to them."""
    return tvm.transform.Sequential(
        [
            T.ToNonDataflow(),
            T.RemovePurityChecking(),
            T.CallTIRRewrite(),
            T.StaticPlanBlockMemory(),
            T.LowerAllocTensor(),
        ]
    )


def activation_bytes(mod: tvm.IRModule, shapes: Sequence[Sequence[int | str]]) -> int | str | None:
    """What activations and outputs take together: bytes, or a formula that gives them, over the dims of ``shapes``.

    These are the inputs' shapes by names, in the order of the parameters. Each branch and body of a loop counts once.
    None where a size is computed while running. Scratch memory of kernels is not in it.
    """
    planned = plan_memory()(mod)
    finder = _StorageFinder()
    for name in relax_functions(planned):
        finder.visit_expr(planned[name])
    total: Any = 0
    for size in finder.sizes:
        total = total + size
    total = total if isinstance(total, int) else Analyzer().simplify(total)
    known = as_int(total)
    if known is not None:
        return known
    names = _names(planned["main"], shapes)
    variables = tvm.tirx.analysis.undefined_vars(total)
    return _text(total, names) if all(var in names for var in variables) else None


def _names(main: relax.Function, shapes: Sequence[Sequence[int | str]]) -> dict[Any, str]:
    """The open dims of the parameters by the names that the model gives them."""
    pairs = zip(main.params, shapes, strict=False)  # the weights follow
    dims = ((dim, name) for param, shape in pairs for dim, name in zip(shape_of(param) or [], shape, strict=False))
    return {dim: name for dim, name in dims if isinstance(dim, tvm.tirx.Var) and isinstance(name, str)}


@visitor
class _StorageFinder(PyExprVisitor):
    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[Any] = []

    def visit_call_(self, call: relax.Call) -> None:
        if op_name(call) == "relax.memory.alloc_storage":
            self.sizes.append(call.args[0].values[0])


def _text(size: Any, names: dict[Any, str]) -> str:
    """The expression in Python's operators, dims by their names."""
    order = list(names)
    # TVM prints names with dots and the like changed, so dims go by numbers until then.
    numbered = tvm_ffi.structural_map(size, (tvm.ir.Var, lambda var: tvm.tirx.Var(f"D{order.index(var)}_", "int64")))
    plain = re.sub(r"T\.int64\((-?\d+)\)", r"\1", str(numbered).strip())
    return re.sub(r"\bD(\d+)_", lambda found: names[order[int(found[1])]], plain)
