"""Graphs whose kernels take sizes as scalars."""

from __future__ import annotations

from tvm import relax, te, tirx

O = relax.op  # noqa: E741


def weighted(*orders: list[int]):
    """A graph over x: [n, m, k] with kernels that take the three sizes as scalars, each in its order."""
    sizes = [tirx.Var(name, "int64") for name in "nmk"]
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(sizes, "float32"))
    with builder.function("main", [x]):
        results = []
        for order in orders:
            gv = builder.add_func(_kernel(order), "weigh")
            call = O.call_tir(gv, relax.Tuple([sizes[i] for i in order]), relax.TensorType([sizes[0]], "int64"))
            results.append(builder.emit(call))
        builder.emit_func_output(builder.emit(relax.Tuple(results)))
    return builder.finalize()


def _kernel(order: list[int]) -> tirx.PrimFunc:
    n, m, k = sizes = [tirx.Var(name, "int64") for name in "abc"]
    out = te.compute((n,), lambda i: i * 0 + n + m * 10 + k * 100, name="out")
    return te.create_prim_func([*(sizes[i] for i in order), out]).without_attr("global_symbol")
