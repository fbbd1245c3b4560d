"""Products with packed weights: every shape, open rows at every size, epilogues inside the kernel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tvm
import tvm_ffi
from kernel_cases import LEVELS, Kernels, runnable
from pass_graphs import const, data, emit, graph
from tvm import relax, te, tirx
from tvm.s_tir import Schedule

from onnxkiln import targets
from onnxkiln.passes.pipeline import Pipeline
from onnxkiln.passes.schedule_functions import schedule_functions
from onnxkiln.schedules.blocks import MEMORY_SCOPE, PREFETCH_KEY
from onnxkiln.schedules.matmul import pack, unroll_tile

O = relax.op  # noqa: E741
SHAPES = [(1, 1, 1), (1, 7, 16), (13, 1, 17), (2, 3, 15), (37, 9, 31), (16, 1, 16), (27, 5, 33), (99, 3, 64), (5, 9, 1)]
SHAPES += [(9, 130, 33), (8, 521, 48), (1, 300, 16), (17, 768, 17)]
"""(rows, depth, columns)"""


def close(got: np.ndarray, want: np.ndarray) -> None:
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_pack() -> None:
    weight = data(3, 18)
    packed = pack(weight)
    assert packed.shape == (2, 3, 16) and packed.flags.c_contiguous
    np.testing.assert_array_equal(packed[1, :, :2], weight[:, 16:])
    assert not packed[1, :, 2:].any()


def test_known_shapes() -> None:
    """All as one module: one compile."""
    weights = [data(depth, columns) for _, depth, columns in SHAPES]
    kernels = Kernels(
        graph(
            lambda *xs: [O.matmul(x, const(weight)) for x, weight in zip(xs, weights, strict=True)],
            *[(rows, depth) for rows, depth, _ in SHAPES],
        )
    )
    assert len(kernels.of("matmul")) == len(SHAPES) and all(report.vectorized for report in kernels.reports)
    arrays = [data(rows, depth) for rows, depth, _ in SHAPES]
    for got, x, weight in zip(kernels(*arrays), arrays, weights, strict=True):
        close(got, x @ weight)


@pytest.mark.parametrize("target", LEVELS)
def test_open_rows_and_epilogues(target: str) -> None:
    """Bias and ReLU, a residual sum, HardSwish in pieces; rows of any number, batches of any size."""
    if not runnable(target):
        pytest.skip(f"this machine cannot run {target}")
    weight, other, wide, bias = data(19, 21), data(19, 21), data(19, 48), data(21)

    def layers(x: relax.Expr, residual: relax.Expr) -> list[relax.Expr]:
        product = emit(O.add(O.matmul(x, const(wide)), const(wide[0])))
        gate = O.clip(O.add(product, const(np.float32(3))), 0.0, 6.0)
        return [
            O.nn.relu(O.add(O.matmul(x, const(weight)), const(bias))),
            O.add(O.matmul(x, const(other)), residual),
            O.divide(O.multiply(product, gate), const(np.float32(6))),
        ]

    for shape in [("n", 19), ("b", "n", 19)]:
        kernels = Kernels(graph(layers, shape, (*shape[:-1], 21)), target)
        assert len(kernels.reports) == 3 == len(kernels.of("matmul")), kernels.reports
        assert all(report.vectorized for report in kernels.reports)
        for rows in (1, 2, 13, 64):
            size = (rows,) if len(shape) == 2 else (3 if rows < 13 else 1, rows)
            x, residual = data(*size, 19), data(*size, 21)
            relu, added, swish = kernels(x, residual)
            close(relu, np.maximum(x @ weight + bias, 0))
            close(added, x @ other + residual)
            product = x @ wide + wide[0]
            close(swish, product * np.clip(product + 3, 0, 6) / 6)


def test_no_rows() -> None:
    weight = data(4, 18)
    for shape in [(0, 4), ("n", 4), (2, "n", 4)]:
        (got,) = Kernels(graph(lambda x: O.matmul(x, const(weight)), shape))(data(*shape[:-2], 0, 4))
        assert got.shape == (*shape[:-2], 0, 18)


def test_a_kernel_computes_no_row_beyond_the_last() -> None:
    """NaN behind the last row of a larger buffer must not come in: the rows that fill a tile repeat the last one."""
    weight = data(5, 16)
    kernels = Kernels(graph(lambda x: O.matmul(x, const(weight)), ("n", 5)))
    x = np.full((64, 5), np.nan, "float32")
    x[:7] = data(7, 5)
    close(kernels(x[:7])[0], x[:7] @ weight)


def test_loops_of_an_open_extent_are_not_unrolled():
    n, m = (tirx.Var(name, "int64") for name in "nm")
    x = te.placeholder((n, 4, m, 16), "float32")
    doubled = te.compute((n, 4, m, 16), lambda *i: x(*i) * 2, name="doubled")
    schedule = Schedule(te.create_prim_func([x, doubled]))
    block = schedule.get_sblock("doubled")
    unroll_tile(schedule, block, schedule.get_loops(block)[0])
    kinds = [schedule.get(loop).kind for loop in schedule.get_loops(block)]
    assert kinds == [tirx.ForKind.SERIAL, tirx.ForKind.UNROLLED, tirx.ForKind.SERIAL, tirx.ForKind.SERIAL]


def test_deep_sums_are_read_from_memory_row_by_row() -> None:
    """What follows is written once, not for each row; sums of both levels never compete for registers."""
    gelu = _scheduled(300, lambda y: O.multiply(y, O.erf(y)))
    loops: list[tirx.For] = []
    tvm_ffi.structural_walk(gelu.body, (tirx.For, loops.append))
    names: list[str] = []
    tvm_ffi.structural_walk(gelu.body, (tvm.ir.Call, lambda call: names.append(getattr(call.op, "name", ""))))
    assert names.count("tirx.erf") == 1
    around = [loop for loop in loops if "erf" in str(loop.body) and loop.kind == tirx.ForKind.UNROLLED]
    assert not around
    assert MEMORY_SCOPE in str(gelu) and MEMORY_SCOPE not in str(_scheduled(64, O.nn.relu))


def test_several_rows_fetch_the_next_weights() -> None:
    """Where there are many of them; one row reads them once, and in order."""
    assert PREFETCH_KEY in str(_scheduled(300, O.nn.relu, columns=1536))
    assert PREFETCH_KEY not in str(_scheduled(300, O.nn.relu, columns=1536, rows=1))
    assert PREFETCH_KEY not in str(_scheduled(300, O.nn.relu))


def _scheduled(
    depth: int, epilogue: Callable[[relax.Expr], relax.Expr], columns: int = 48, rows: int = 16
) -> tirx.PrimFunc:
    weight = data(depth, columns)
    module = graph(lambda x: epilogue(emit(O.matmul(x, const(weight)))), (rows, depth))
    cpu = targets.parse("cpu")[0]
    scheduled, _ = schedule_functions(Pipeline("O2").optimize(module, cpu), cpu)
    (function,) = [f for f in scheduled.functions.values() if isinstance(f, tirx.PrimFunc)]
    return function
