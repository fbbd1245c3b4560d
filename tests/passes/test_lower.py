"""From scheduled functions to machine code: vectors with peeled tails, sizes known and open beside one another."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from kernel_cases import Kernels
from pass_graphs import const, data, emit, graph
from tvm import relax
from tvm.tirx.compilation_pipeline import PIPELINE_MAP

from onnxkiln import targets
from onnxkiln.passes import tir_pipeline
from onnxkiln.passes.lower import build

O = relax.op  # noqa: E741


def mixed(x: relax.Expr, y: relax.Expr) -> list[relax.Expr]:
    """A fixed tail of 5 elements and an open one in one kernel; indices of both kinds meet in the sums."""
    total = emit(O.add(x, y))
    return [O.sum(total, [0]), O.permute_dims(total, [1, 0, 2]), O.matmul(total, const(data(37, 21)))]


@pytest.mark.parametrize("shape", [("n", 3, 37), (2, "m", 37), ("n", "m", 37)])
def test_open_and_fixed_tails_in_one_kernel(shape: tuple) -> None:
    kernels = Kernels(graph(mixed, shape, shape))
    assert all(report.vectorized for report in kernels.reports)
    for n, m in [(1, 1), (2, 3), (2, 17)]:
        size = tuple({"n": n, "m": m}.get(dim, dim) for dim in shape)
        x, y = data(*size), data(*size)
        total, transposed, product = kernels(x, y)
        np.testing.assert_allclose(total, (x + y).sum(0), rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(transposed, (x + y).transpose(1, 0, 2))
        assert product.shape == (*size[:-1], 21)


def test_tails_are_peeled() -> None:
    """No guard in the main loop: the vector loop of the first 32 elements of 37 is straight."""
    kernels = Kernels(graph(lambda x: O.add(x, x), ("n", 37)), "cpu:x86-64-v4")
    text = kernels.executable.mod.imports[0].inspect_source("asm")
    assert "zmm" in text
    assert "%k1" not in text and "vmaskmov" not in text  # neither masked vectors


def test_the_pipeline_is_registered_once() -> None:
    assert tir_pipeline.register() == tir_pipeline.register() == tir_pipeline.NAME
    assert tir_pipeline.NAME in PIPELINE_MAP


def test_main_gives_an_array_for_one_output() -> None:
    machine = targets.parse("cpu")[0]
    mod = relax.transform.LegalizeOps()(graph(lambda x: O.exp(x), ("n",)))
    result = relax.VirtualMachine(build(mod, machine), tvm.cpu())["main"](tvm.runtime.tensor(data(3)))
    assert len(result) == 1 and result[0].numpy().shape == (3,)


def test_a_build_failure_is_tvms_error() -> None:
    """What nothing legalised can't be built."""
    with pytest.raises((tvm.error.InternalError, RuntimeError, ValueError)):
        build(graph(lambda x: O.exp(x), ("n",)), targets.parse("cpu")[0])
