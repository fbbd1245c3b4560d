"""Loops as jumps in the virtual machine's code: any number of iterations in one frame.

Relax has no loop but recursion, which overflows the native stack past a thousand iterations. A function with the
attribute ``contract.LOOP`` is one iteration; its callers mean "until done". TVM compiles it under another name, and
its own name goes to a few instructions, written here, that call it over and over.

The function's parameters are (index, trip count, condition, sizes, states..., captured...), and it returns a tuple
(condition, states...); ``frontend.loops`` makes them.
"""

from __future__ import annotations

from collections.abc import Callable

import tvm
from tvm import relax
from tvm.relax import vm_build
from tvm.script import tirx as T

from ..contract import LOOP
from .order_shapes import order_shapes

INDEX, TRIP, CONDITION, SIZES, STATES = range(5)
"""Places of the parameters."""

_MORE, _NEXT = "onnxkiln_loop_more", "onnxkiln_loop_next"


@T.prim_func(s_tir=True)
def _more(
    trip: T.Buffer((), "int64", align=1),  # type: ignore[valid-type]
    condition: T.Buffer((), "bool", align=1),  # type: ignore[valid-type]
    index: T.int64,
) -> T.bool:
    T.func_attr({"tirx.is_host_func": True})
    return condition[()] and index < trip[()]


@T.prim_func(s_tir=True)
def _next(index: T.int64) -> T.int64:
    T.func_attr({"tirx.is_host_func": True})
    return index + T.int64(1)


def build(
    mod: tvm.IRModule,
    target: tvm.target.Target,
    relax_pipeline: tvm.transform.Pass,
    tir_pipeline: str | tvm.transform.Pass,
    link: Callable[..., relax.VMExecutable] | None = None,
) -> relax.VMExecutable:
    """``relax.build`` for modules that may hold loops.

    ``link(builder, functions)`` compiles the functions in TVM's place.
    """
    with target:
        mod = relax_pipeline(_trusting(mod))
    attributes = mod.attrs or {}
    builder = relax.ExecBuilder()
    loops = [gv for gv, function in mod.functions.items() if is_loop(function)]
    for gv in loops:
        once = f"{gv.name_hint}_once"
        _emit(builder, gv.name_hint, once, mod[gv])
        # Code is emitted under this name, while calls go by that of the variable.
        mod.update_func(gv, mod[gv].with_attr("global_symbol", once))
    rest = vm_build._vmcodegen(builder, mod)
    if loops:
        for name, function in ((_MORE, _more), (_NEXT, _next)):
            rest.update_func(tvm.ir.GlobalVar(name), function.with_attr("global_symbol", name))
    functions = vm_build._filter_tir(rest)
    if functions is not None:
        functions = order_shapes(functions)
    if link is not None:
        return link(builder, functions)
    return vm_build._vmlink(
        builder,
        target,
        functions,
        tir_pipeline,
        ext_libs=list(attributes.get("external_mods", [])),
        params=dict(attributes.get("const_name_to_constant", {})),
    )


def _trusting(mod: tvm.IRModule) -> tvm.IRModule:
    """Functions that only other functions call don't check the kinds of their arguments, at each call anew.

    TVM's attribute for that means weights, whose shapes are known; it crashes on others.
    """
    mod = mod.clone()
    for gv, function in mod.functions.items():
        if not isinstance(function, relax.Function) or gv.name_hint == "main":
            continue
        if not any(isinstance(param.ty, relax.TensorType) and param.ty.shape is None for param in function.params):
            mod.update_func(gv, function.with_attr("num_input", 0))
    return mod


def is_loop(function: tvm.ir.BaseFunc) -> bool:
    return isinstance(function, relax.Function) and function.attrs is not None and LOOP in function.attrs


def _emit(builder: relax.ExecBuilder, name: str, once: str, function: relax.Function) -> None:
    """``name``: while there is another iteration, call ``once`` and put its results in the place of the states."""
    count = len(function.params)
    results, number, flag = (builder.r(count + i) for i in range(3))
    state = [builder.r(CONDITION), *(builder.r(STATES + i) for i in range(len(function.ret_ty.fields) - 1))]
    builder.declare_function(once, relax.exec_builder.VMFuncKind.VM_FUNC)
    with builder.function(name, count, [param.name for param in function.params]):
        builder.emit_call("vm.builtin.make_tuple", state, results)
        builder.emit_call("vm.builtin.copy", [builder.imm(0)], number)
        builder.emit_call(_MORE, [builder.r(TRIP), builder.r(CONDITION), number], flag)
        body = 4 + len(state)
        builder.emit_if(flag, body + 1)
        builder.emit_call("ffi.Shape", [number], builder.r(INDEX))
        builder.emit_call(once, [builder.r(i) for i in range(count)], results)
        for i, register in enumerate(state):
            builder.emit_call("vm.builtin.tuple_getitem", [results, builder.imm(i)], register)
        builder.emit_call(_NEXT, [number], number)
        builder.emit_goto(-(body + 1))
        builder.emit_ret(results)
