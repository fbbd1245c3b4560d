"""Outputs own their memory: views of inputs and weights, and repeated outputs, are copied; nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from pass_graphs import assert_same, const, data, emit, graph, operators
from tvm import relax

from onnxkiln.passes.copy_aliased_outputs import copy_aliased_outputs

O = relax.op  # noqa: E741
A = data(2, 3)


def twice(x: relax.Expr) -> list[relax.Expr]:
    y = emit(O.exp(x))
    return [y, y]


def views_of_one(x: relax.Expr) -> list[relax.Expr]:
    y = emit(O.exp(x))
    return [O.reshape(y, (3, 2)), O.reshape(O.expand_dims(y, [0]), (6,))]


def item(x: relax.Expr) -> relax.Expr:
    held = emit(O.call_pure_packed("ffi.List", x, ty_args=[relax.ObjectType()]))
    return O.call_pure_packed("ffi.ListGetItem", held, tvm.tirx.const(0, "int64"), ty_args=[x.ty])


COPIED = {
    "an input": (lambda x: x, 1),
    "a view of an input": (lambda x: O.reshape(x, (6,)), 1),
    "views of views": (lambda x: O.squeeze(O.expand_dims(O.flatten(x), [0]), [0]), 1),
    "a weight": (lambda x: [const(A), O.exp(x)], 1),
    "a view of a weight": (lambda x: O.reshape(const(A), (3, 2)), 1),
    "twice the same": (twice, 1),
    "two views of one value": (views_of_one, 1),
    "an input twice": (lambda x: [x, x], 2),
    "an item of a sequence": (item, 1),
}


@pytest.mark.parametrize("name", COPIED)
def test_shared_memory_is_copied(name: str) -> None:
    build, copies = COPIED[name]
    mod = graph(build, (2, 3))
    after, count = copy_aliased_outputs(mod)
    assert count == copies
    assert sum("copy" in op for op in operators(after)) == copies


def test_values_stay() -> None:
    """All cases as one module; TVM's own passes must not undo the copies either."""
    mod = graph(lambda x: [value for build, _ in COPIED.values() for value in _list(build(x))], (2, 3))
    after, _ = copy_aliased_outputs(mod)
    assert_same(mod, after, [data(2, 3)])
    x = tvm.runtime.tensor(data(2, 3))
    outputs = relax.VirtualMachine(tvm.compile(after, target="llvm"), tvm.cpu())["main"](x)
    places = [np.from_dlpack(output).ctypes.data for output in outputs]
    assert len({*places, np.from_dlpack(x).ctypes.data}) == len(places) + 1


def _list(value) -> list:
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize(
    "build",
    [lambda x: O.exp(x), lambda x: [O.exp(x), O.negative(x)], lambda x: O.reshape(O.exp(x), (6,))],
    ids=["computed", "two values", "a view of a computed value"],
)
def test_own_memory_is_left_alone(build) -> None:
    mod = graph(build, (2, 3))
    after, count = copy_aliased_outputs(mod)
    assert count == 0
    assert operators(after) == operators(mod)
