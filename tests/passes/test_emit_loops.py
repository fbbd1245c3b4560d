"""Loops as jumps: counts and conditions, states that change shape, and arguments in the order that they have."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax, te, tirx

from onnxkiln.contract import LOOP
from onnxkiln.passes.emit_loops import build, is_loop


def doubling() -> tvm.IRModule:
    """main(x, trip, condition): x with twice its rows after each iteration, while it has fewer than 20."""
    builder = relax.BlockBuilder()
    index, sizes = relax.Var("index", relax.ShapeType(ndim=1)), relax.Var("sizes", relax.ShapeType([]))
    trip, condition = relax.Var("trip", relax.TensorType([], "int64")), relax.Var("go", relax.TensorType([], "bool"))
    state = relax.Var("state", relax.TensorType(None, "float32", ndim=1))
    with builder.function("loop", [index, trip, condition, sizes, state], attrs={LOOP: True}):
        rows, number = tirx.Var("rows", "int64"), tirx.Var("number", "int64")
        builder.match_cast(index, relax.ShapeType([number]))
        known = builder.match_cast(state, relax.TensorType([rows], "float32"))
        twice = builder.emit_te(
            lambda x, n: te.compute([x.shape[0] * 2], lambda i: x[i // 2] + n.astype("float32")), known, number
        )
        go = builder.emit_te(lambda x: te.compute((), lambda: x.shape[0] < 20), twice)
        builder.emit_func_output(relax.Tuple([go, builder.match_cast(twice, state.ty)]))
    loop = builder.get().get_global_var("loop")
    n = tirx.Var("n", "int64")
    params = [
        relax.Var("x", relax.TensorType([n], "float32")),
        relax.Var("trip", relax.TensorType([], "int64")),
        relax.Var("condition", relax.TensorType([], "bool")),
    ]
    with builder.function("main", params):
        call = relax.Call(loop, [relax.ShapeExpr([0]), params[1], params[2], relax.ShapeExpr([]), params[0]])
        builder.emit_func_output(builder.emit(relax.TupleGetItem(builder.emit(call), 1)))
    return builder.finalize()


@pytest.fixture(scope="module")
def machine() -> relax.VirtualMachine:
    mod = doubling()
    assert [gv.name_hint for gv, function in mod.functions.items() if is_loop(function)] == ["loop"]
    executable = build(mod, tvm.target.Target("llvm"), relax.get_pipeline("default"), "default")
    return relax.VirtualMachine(executable, tvm.cpu())


@pytest.mark.parametrize(
    ("trip", "condition", "rows"),
    [(0, True, 3), (5, False, 3), (1, True, 6), (2, True, 12), (3, True, 24), (9, True, 24), (-1, True, 3)],
)
def test_iterations(machine, trip, condition, rows):
    x = np.arange(3, dtype=np.float32)
    arguments = (x, np.array(trip, np.int64), np.array(condition))
    result = machine["main"](*(tvm.runtime.tensor(value) for value in arguments)).numpy()
    iterations = int(np.log2(rows // 3))
    np.testing.assert_array_equal(result, np.repeat(x, rows // 3) + sum(range(iterations)))
