"""Sums of floats round, and infinities and NaN stay, whatever a simplifier for exact numbers would make of them."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
import tvm_ffi
from kernel_cases import Kernels
from pass_graphs import const, data, graph
from tvm import relax, te

from onnxkiln.passes.keep_rounding import keep_rounding

O = relax.op  # noqa: E741
MAGIC = np.float32(1.5 * 2**23)
ODD = np.float32([[np.inf, -np.inf, np.nan, 2.5, -0.75, 1e30, 0.4]])


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_a_difference_with_itself_is_not_zero_of_infinities(dtype: str) -> None:
    kernels = Kernels(graph(lambda x: O.astype(O.subtract(x, x), "float32"), ("n", 7), dtype=dtype))
    x = np.where(np.abs(ODD) == np.float32(1e30), 3, ODD).astype(dtype)
    np.testing.assert_array_equal(kernels(x)[0], np.float32([[np.nan, np.nan, np.nan, 0, 0, 0, 0]]))


def test_rounding_by_a_large_number() -> None:
    def rounded(x):
        return [
            O.subtract(O.add(x, const(MAGIC)), const(MAGIC)),
            O.add(O.add(x, const(MAGIC)), const(-MAGIC)),
            O.subtract(O.add(x, x), x),
        ]

    x = np.float32([[0.4, 0.6, 2.5, -3.5, 1000.2, 7.0, -0.6]])
    first, second, third = Kernels(graph(rounded, ("n", 7)))(x)
    np.testing.assert_array_equal(first, np.rint(x))
    np.testing.assert_array_equal(second, np.rint(x))
    np.testing.assert_array_equal(third, x)


def test_vectors_stay_vectors() -> None:
    kernels = Kernels(graph(lambda x, y: O.subtract(O.add(x, y), y), ("n", 37), ("n", 37)))
    assert all(report.vectorized for report in kernels.reports)
    x, y = data(5, 37), data(5, 37)
    np.testing.assert_array_equal(kernels(x, y)[0], (x + y) - y)


def test_indices_are_left_alone() -> None:
    a = te.placeholder((8,), name="a")
    function = te.create_prim_func([a, te.compute((7,), lambda i: a[i + 1 - te.if_then_else(i > 3, 1, 0)] * a[i])])
    after = keep_rounding()(tvm.IRModule({"main": function}))["main"]
    assert tvm_ffi.structural_equal(after.body, function.body)
