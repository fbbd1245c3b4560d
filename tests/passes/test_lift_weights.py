"""Constants become elements of one argument, numbered over all functions, equal ones once."""

from __future__ import annotations

import numpy as np
import tvm
from pass_graphs import const, constants_of, data, graph, imported, operators
from tvm import relax

from onnxkiln.passes.bindings import relax_functions
from onnxkiln.passes.lift_weights import digest, lift_weights
from onnxkiln.passes.outline_branches import outline_branches

O = relax.op  # noqa: E741
A, B = data(3, 4), data(4)
IN_BRANCHES = """<ir_version: 10, opset_import: ["" : 20]>
f (bool c, float[n, 2] x) => (float[n, 2] y) <float[2] w = {1, 2}, float[2] v = {3, 4}> {
    shifted = Add(x, w)
    y = If(c) <then_branch = t () => (float[p, 2] p0) { p0 = Mul(shifted, v) },
               else_branch = e () => (float[q, 2] q0) { q1 = Mul(shifted, w)  q0 = Add(q1, v) }>
}"""


def run(mod: tvm.IRModule, weights: list, *arrays: np.ndarray) -> list[np.ndarray]:
    machine = relax.VirtualMachine(tvm.compile(mod, target="llvm"), tvm.cpu())
    held = tvm.runtime.convert([tvm.runtime.tensor(array) for _, array in weights])
    return [result.numpy() for result in machine["main"](*[tvm.runtime.tensor(a) for a in arrays], held)]


def test_weights_are_an_argument() -> None:
    mod = graph(lambda x: [O.add(O.matmul(x, const(A)), const(B)), O.multiply(x, const(A[:, 0]))], ("n", 3))
    after, weights = lift_weights(mod)
    assert [name for name, _ in weights] == ["w0", "w1", "w2"]
    for (_, array), want in zip(weights, (A, B, A[:, 0]), strict=True):
        np.testing.assert_array_equal(array, want)
    assert not constants_of(after)
    assert [param.name for param in after["main"].params] == ["p0", "weights"]
    assert len(constants_of(mod)) == 3  # the input module is as it was
    x = data(5, 3)
    first, second = run(after, weights, x)
    np.testing.assert_allclose(first, x @ A + B, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(second, x * A[:, 0], rtol=1e-6)


def test_equal_constants_are_one_weight() -> None:
    row = B.reshape(1, 4)
    mod = graph(lambda x: [O.add(x, const(B)), O.multiply(x, const(B.copy())), O.add(x, const(row))], (2, 4))
    _, weights = lift_weights(mod)
    assert [array.shape for _, array in weights] == [(4,), (1, 4)]


def test_digest_tells_dtype_shape_and_content_apart() -> None:
    arrays = [np.zeros(4, "float32"), np.zeros(4, "int32"), np.zeros((2, 2), "float32"), np.float32([0, 0, 0, -0.0])]
    assert len({digest(array) for array in arrays}) == 4
    assert digest(A.T) == digest(np.ascontiguousarray(A.T))
    digest(np.float32(1.0).reshape(()))


def test_branches_get_the_argument(tmp_path) -> None:
    mod, _ = outline_branches(imported(IN_BRANCHES, tmp_path))
    after, weights = lift_weights(mod)
    assert len(weights) == 2
    assert not any(constants_of(after, name) for name in relax_functions(after))
    x = data(3, 2)
    w, v = np.float32([1, 2]), np.float32([3, 4])
    np.testing.assert_allclose(run(after, weights, np.array(True), x)[0], (x + w) * v, rtol=1e-6)
    np.testing.assert_allclose(run(after, weights, np.array(False), x)[0], (x + w) * w + v, rtol=1e-6)


def test_a_graph_without_constants_gets_an_empty_argument() -> None:
    mod = graph(lambda x: O.exp(x), (2, 3))
    after, weights = lift_weights(mod)
    assert not weights and len(after["main"].params) == 2
    assert operators(after) == operators(mod)
    x = data(2, 3)
    np.testing.assert_allclose(run(after, [], x)[0], np.exp(x), rtol=1e-5)
