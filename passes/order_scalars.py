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
    """Scalars of kernels, and shapes of fused functions, in the order in which the graph binds its dims.

    Returns the module and how many functions changed.
    """
    orders: dict[str, list[int]] = {}
    for function in _graphs(mod):
        rank = _binding_order(function)
        for call in _calls(function):
            name = _callee(call)
            if name is not None and name not in orders:
                orders[name] = _order(_scalars(call), rank)
    orders = {name: order for name, order in orders.items() if order != sorted(order)}
    if not orders:
        return mod, 0
    result = mod.clone()
    for gv, function in mod.functions.items():
        if gv.name_hint in orders:
            function = _permuted(function, orders[gv.name_hint])
        if isinstance(function, relax.Function):
            function = tvm_ffi.structural_map(function, (tvm.ir.Call, lambda call: _reordered(call, orders)))
        result.update_func(gv, function)
    return result, len(orders)


def _graphs(mod: tvm.IRModule) -> list[relax.Function]:
    return [function for function in mod.functions.values() if isinstance(function, relax.Function)]


def _calls(function: relax.Function) -> list[tvm.ir.Call]:
    bindings = [binding for block in function.body.blocks for binding in block.bindings]
    return [binding.value for binding in bindings if isinstance(binding.value, tvm.ir.Call)]


def _binding_order(function: relax.Function) -> dict[Any, int]:
    """Each dim's number: inputs' dims first, then those of matches as they come."""
    rank: dict[Any, int] = {param: i for i, param in enumerate(function.params) if tvm.ir.is_prim_expr(param)}
    types = [param.ty for param in function.params]
    for block in function.body.blocks:
        types += [binding.ty for binding in block.bindings if isinstance(binding, relax.MatchCast)]
    for ty in types:
        for dim in _dims(ty):
            for var in sorted(tirx.analysis.undefined_vars(dim), key=lambda var: var.name):
                rank.setdefault(var, len(rank))
    return rank


def _dims(ty: relax.Type) -> list[Any]:
    if isinstance(ty, relax.ShapeType):
        return list(ty.values or [])
    if isinstance(ty, relax.TensorType) and isinstance(ty.shape, relax.ShapeExpr):
        return list(ty.shape.values)
    return []


def _callee(call: tvm.ir.Call) -> str | None:
    """The kernel that is called, or the fused function that takes sizes as a trailing shape."""
    if call.op == CALL_TIR:
        return call.args[0].name_hint
    if isinstance(call.op, tvm.ir.GlobalVar) and call.args and isinstance(call.args[-1], relax.ShapeExpr):
        return call.op.name_hint
    return None


def _scalars(call: tvm.ir.Call) -> list[Any]:
    if call.op == CALL_TIR:
        return [argument for argument in call.args[1].fields if tvm.ir.is_prim_expr(argument)]
    return list(call.args[-1].values)


def _order(scalars: list[Any], rank: dict[Any, int]) -> list[int]:
    return sorted(range(len(scalars)), key=lambda i: (rank.get(scalars[i], len(rank)), str(scalars[i])))


def _placed(values: list[Any], order: list[int]) -> list[Any]:
    """``values`` with the scalars among them in another order, each kind at the places that its kind had."""
    places = [i for i, value in enumerate(values) if tvm.ir.is_prim_expr(value)][: len(order)]
    result = list(values)
    for place, source in zip(places, order, strict=True):
        result[place] = values[places[source]]
    return result


def _permuted(function: Any, order: list[int]) -> Any:
    if isinstance(function, tirx.PrimFunc):
        params = _placed(list(function.params), order)
        return tirx.PrimFunc(params, function.body, function.ret_type, attrs=function.attrs)
    *params, shape = function.params
    dims = list(shape.ty.values)
    moved = relax.Var(shape.name, relax.ShapeType([dims[i] for i in order]))
    return relax.Function([*params, moved], function.body, function.ret_ty, function.is_pure, function.attrs)


def _reordered(call: tvm.ir.Call, orders: dict[str, list[int]]) -> tvm.ir.Call:
    name = _callee(call)
    if name not in orders:
        return call
    if call.op == CALL_TIR:
        arguments = [call.args[0], relax.Tuple(_placed(list(call.args[1].fields), orders[name])), *call.args[2:]]
    else:
        dims = list(call.args[-1].values)
        arguments = [*call.args[:-1], relax.ShapeExpr([dims[i] for i in orders[name]])]
    return tvm.ir.Call(call.op, arguments, call.attrs, call.ty_args, call.span, call.ty)
