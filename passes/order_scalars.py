"""Give the sizes that are handed to kernels one order.

TVM collects them in sets, whose order changes from process to process; the same model has to give the same bytes.
"""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import relax, tirx

CALL_TIR = tvm.ir.Op.get("relax.call_tir")


def order_scalars(mod: tvm.IRModule) -> tuple[tvm.IRModule, int]:
    """Scalars of kernels, and shapes of fused functions, in the order in which the function itself uses them.

    Functions that differ in nothing but the order of their sizes are equal then. Returns the module and how many
    functions changed.
    """
    orders: dict[str, list[int]] = {}
    for function in _graphs(mod):
        for call in _calls(function):
            name = _callee(call)
            if name is not None and name not in orders:
                orders[name] = _own_order(mod[name])
    orders = {name: order for name, order in orders.items() if order != list(range(_count(mod[name])))}
    if not orders:
        return mod, 0
    permuted = {name: _permuted(mod[name], order) for name, order in orders.items()}
    # Variables of functions have types, which say what a call takes.
    variables = {name: relax.BlockBuilder().add_func(function, name) for name, function in permuted.items()}
    functions: dict[Any, Any] = {}
    for gv, function in mod.functions.items():
        function = permuted.get(gv.name_hint, function)
        if isinstance(function, relax.Function):
            function = tvm_ffi.structural_map(function, (tvm.ir.Call, lambda call: _reordered(call, orders, variables)))
        functions[variables.get(gv.name_hint, gv)] = function
    return tvm.IRModule(functions, attrs=mod.attrs), len(orders)


def _graphs(mod: tvm.IRModule) -> list[relax.Function]:
    return [function for function in mod.functions.values() if isinstance(function, relax.Function)]


def _calls(function: relax.Function) -> list[tvm.ir.Call]:
    bindings = [binding for block in function.body.blocks for binding in block.bindings]
    return [binding.value for binding in bindings if isinstance(binding.value, tvm.ir.Call)]


def _own_order(function: tvm.ir.BaseFunc) -> list[int]:
    """Places of the function's sizes in the order in which it uses them.

    A kernel does without those that it doesn't use; a fused function keeps them, by name, behind the others.
    """
    own = _sizes(function)
    if isinstance(function, tirx.PrimFunc):
        parts = [dim for param in function.params if tirx.is_buffer_var(param) for dim in param.shape]
    else:
        parts = [dim for param in function.params[:-1] for dim in _dims(param.ty)]
    rank: dict[Any, int] = {}

    def visit(var: Any) -> None:
        rank.setdefault(var, len(rank))

    for part in (*parts, function.body):
        tvm_ffi.structural_walk(part, (tvm.ir.Var, visit))
    if isinstance(function, tirx.PrimFunc):
        return sorted((i for i, var in enumerate(own) if var in rank), key=lambda i: rank[own[i]])
    return sorted(range(len(own)), key=lambda i: (rank.get(own[i], len(rank)), own[i].name))


def _sizes(function: tvm.ir.BaseFunc) -> list[Any]:
    """Empty for a function that fusion didn't make: its shape may have no names, and its makers sort those it has."""
    if isinstance(function, tirx.PrimFunc):
        return [param for param in function.params if tvm.ir.is_prim_expr(param)]
    return list(function.params[-1].ty.values) if function.attrs and "Primitive" in function.attrs else []


def _count(function: tvm.ir.BaseFunc) -> int:
    return len(_sizes(function))


def _dims(ty: relax.Type) -> list[Any]:
    return list(ty.shape.values) if isinstance(ty, relax.TensorType) and isinstance(ty.shape, relax.ShapeExpr) else []


def _callee(call: tvm.ir.Call) -> str | None:
    """The kernel that is called, or the fused function that takes sizes as a trailing shape."""
    if call.op == CALL_TIR:
        return call.args[0].name_hint
    if isinstance(call.op, tvm.ir.GlobalVar) and call.args and isinstance(call.args[-1], relax.ShapeExpr):
        return call.op.name_hint
    return None


def _placed(values: list[Any], order: list[int]) -> list[Any]:
    """``values`` with those scalars alone that ``order`` names, in its order; other values keep theirs."""
    places = [i for i, value in enumerate(values) if tvm.ir.is_prim_expr(value)]
    kept = iter([values[places[source]] for source in order])
    last = places[: len(order)]
    return [next(kept) if i in last else value for i, value in enumerate(values) if i not in places[len(order) :]]


def _permuted(function: Any, order: list[int]) -> Any:
    if isinstance(function, tirx.PrimFunc):
        params = _placed(list(function.params), order)
        return tirx.PrimFunc(params, function.body, function.ret_type, attrs=function.attrs)
    *params, shape = function.params
    dims = list(shape.ty.values)
    moved = relax.Var(shape.name, relax.ShapeType([dims[i] for i in order]))
    return relax.Function([*params, moved], function.body, function.ret_ty, function.is_pure, function.attrs)


def _reordered(call: tvm.ir.Call, orders: dict[str, list[int]], variables: dict[str, tvm.ir.GlobalVar]) -> tvm.ir.Call:
    name = _callee(call)
    if name not in orders:
        return call
    if call.op == CALL_TIR:
        arguments = [variables[name], relax.Tuple(_placed(list(call.args[1].fields), orders[name])), *call.args[2:]]
        return tvm.ir.Call(call.op, arguments, call.attrs, call.ty_args, call.span, call.ty)
    dims = list(call.args[-1].values)
    arguments = [*call.args[:-1], relax.ShapeExpr([dims[i] for i in orders[name]])]
    return tvm.ir.Call(variables[name], arguments, call.attrs, call.ty_args, call.span, call.ty)
