"""Constants met by operators are evaluated at compile time, with NumPy's answers."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from pass_graphs import assert_same, const, constants_of, data, graph, operators
from tvm import relax

from onnxkiln.passes import fold_constants as module
from onnxkiln.passes.fold_constants import fold_constants

O = relax.op  # noqa: E741
A, B = np.abs(data(2, 3)) + 0.5, np.abs(data(2, 3)) + 0.5

FOLDED = {
    "permute_dims": (lambda: O.permute_dims(const(A)), A.T),
    "permute_dims by axes": (lambda: O.permute_dims(const(A[None]), [1, 2, 0]), A[None].transpose(1, 2, 0)),
    "reshape": (lambda: O.reshape(const(A), (3, 2)), A.reshape(3, 2)),
    "broadcast_to": (lambda: O.broadcast_to(const(A), (4, 2, 3)), np.broadcast_to(A, (4, 2, 3))),
    "astype": (lambda: O.astype(const(A * 3), "int32"), (A * 3).astype("int32")),
    "expand_dims": (lambda: O.expand_dims(const(A), [0, 3]), A[None, :, :, None]),
    "add": (lambda: O.add(const(A), const(B)), A + B),
    "subtract": (lambda: O.subtract(const(A), const(B)), A - B),
    "multiply": (lambda: O.multiply(const(A), const(B[:1])), A * B[:1]),
    "divide": (lambda: O.divide(const(A), const(B)), A / B),
    "maximum": (lambda: O.maximum(const(A), const(B)), np.maximum(A, B)),
    "minimum": (lambda: O.minimum(const(A), const(B)), np.minimum(A, B)),
    "power": (lambda: O.power(const(A), const(B)), A**B),
    "sqrt": (lambda: O.sqrt(const(A)), np.sqrt(A)),
    "rsqrt": (lambda: O.rsqrt(const(A)), 1 / np.sqrt(A)),
    "negative": (lambda: O.negative(const(A)), -A),
    "exp": (lambda: O.exp(const(A)), np.exp(A)),
    "a chain": (lambda: O.sqrt(O.add(O.multiply(const(A), const(B)), const(np.float32(1)))), np.sqrt(A * B + 1)),
}


@pytest.mark.parametrize("name", FOLDED)
def test_an_operator_on_constants_becomes_its_value(name: str) -> None:
    build, want = FOLDED[name]
    after, count = fold_constants(graph(lambda x: [x, build()], (1,)))
    assert count == (3 if name == "a chain" else 1)
    assert operators(after) == []
    got = constants_of(after)[-1]
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert got.dtype == want.dtype and got.shape == want.shape


def test_results_equal_those_of_the_operators() -> None:
    """Every folder at once, against TVM's own kernels."""
    values = [build() for build, _ in FOLDED.values()]
    mod = graph(lambda x: [x, *values], (1,))
    after, count = fold_constants(mod)
    assert count == len(FOLDED) + 2 and operators(after) == []
    assert_same(mod, after, [data(1)])


@pytest.mark.parametrize(
    "build",
    [
        lambda x: O.add(x, const(A)),
        lambda x: O.divide(const(np.int32([7])), const(np.int32([2]))),  # integers divide by rules of their own
        lambda x: O.tanh(const(A)),
        lambda x: O.concat([const(A), const(B)]),
    ],
    ids=["an input", "integer division", "no folder", "a tuple"],
)
def test_other_operators_stay(build) -> None:
    mod = graph(build, (2, 3))
    after, count = fold_constants(mod)
    assert count == 0
    tvm.ir.assert_structural_equal(after, mod)


def test_large_results_stay_operators(monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 95)
    mod = graph(lambda x: O.broadcast_to(const(A), (4, 2, 3)), ())
    assert fold_constants(mod)[1] == 0
    monkeypatch.setattr(module, "MAX_BYTES", 96)
    assert fold_constants(mod)[1] == 1


def test_a_shape_with_open_dims_is_no_constant() -> None:
    mod = graph(lambda x: O.broadcast_to(const(A[0]), (x.ty.shape.values[0], 3)), ("n", 3))
    after, count = fold_constants(mod)
    assert count == 0 and operators(after) == ["broadcast_to"]
