"""The rule for everything without a template: right answers at any size, vectors in every long loop."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from kernel_cases import LEVELS, Kernels, runnable
from pass_graphs import const, data, emit, graph
from tvm import relax, te, tirx
from tvm.s_tir import Schedule

from onnxkiln import targets
from onnxkiln.passes import tir_pipeline
from onnxkiln.passes.lower import BUILD_CONFIG
from onnxkiln.schedules.blocks import all_blocks
from onnxkiln.schedules.generic import PARALLEL_MIN_WORK, apply_generic, is_vectorized

O = relax.op  # noqa: E741
SIZES = [(1, 1, 1), (2, 3, 5), (1, 7, 16), (3, 2, 17), (2, 16, 37), (0, 3, 4)]


def several(x: relax.Expr, y: relax.Expr) -> list[relax.Expr]:
    wave = emit(O.exp(O.negative(x)))
    return [
        O.add(O.multiply(x, y), const(np.float32(0.5))),
        O.multiply(wave, O.add(wave, y)),  # dear to compute, read twice
        O.permute_dims(O.add(x, y), [2, 0, 1]),
        O.sum(x, [0]),
        O.max(O.add(x, y), [1]),
        O.mean(x, [0, 1], True),
        O.concat([x, O.nn.relu(y), x], 1),
        O.where(O.greater(x, y), x, y),
        O.astype(O.multiply(x, const(np.float32(10))), "int32"),
        O.argmax(x, 1),
    ]


def expected(x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    return [
        x * y + np.float32(0.5),
        np.exp(-x) * (np.exp(-x) + y),
        (x + y).transpose(2, 0, 1),
        x.sum(0),
        (x + y).max(1),
        x.mean((0, 1), keepdims=True) if x.shape[0] else np.full((1, 1, x.shape[2]), np.nan, "float32"),
        np.concatenate([x, np.maximum(y, 0), x], 1),
        np.maximum(x, y),
        (x * 10).astype("int32"),
        x.argmax(1),
    ]


def check(kernels: Kernels, size: tuple[int, ...]) -> None:
    x, y = data(*size), data(*size)
    for index, (got, want) in enumerate(zip(kernels(x, y), expected(x, y), strict=True)):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4, err_msg=f"output {index} at {size}")


@pytest.mark.parametrize("target", LEVELS)
def test_open_sizes(target: str) -> None:
    if not runnable(target):
        pytest.skip(f"this machine cannot run {target}")
    kernels = Kernels(graph(several, ("a", "b", "c"), ("a", "b", "c")), target)
    for size in SIZES:
        check(kernels, size)


@pytest.mark.parametrize("size", [(1, 1, 1), (3, 2, 17), (1, 129, 131)])
def test_known_sizes(size: tuple[int, ...]) -> None:
    check(Kernels(graph(several, size, size)), size)


def scheduled(*tensors: te.Tensor, lanes: int = 16) -> Schedule:
    schedule = Schedule(te.create_prim_func(list(tensors)))
    apply_generic(schedule, lanes)
    return schedule


def loops(schedule: Schedule, position: int = -1) -> list[tuple[str, int | None]]:
    block = all_blocks(schedule)[position]
    found = [schedule.get(loop) for loop in schedule.get_loops(block)]
    kinds = {tirx.ForKind.SERIAL: "serial", tirx.ForKind.PARALLEL: "parallel", tirx.ForKind.VECTORIZED: "vector"}
    return [(kinds[loop.kind], int(loop.extent) if isinstance(loop.extent, tirx.IntImm) else None) for loop in found]


def placeholder(*shape: object) -> te.Tensor:
    return te.placeholder(shape, name="x")


def doubled(x: te.Tensor, name: str = "y") -> te.Tensor:
    return te.compute(x.shape, lambda *i: x[i] * 2, name=name)


def test_small_work_stays_on_one_core() -> None:
    x = placeholder(4, 64)
    assert loops(scheduled(x, doubled(x))) == [("serial", 4), ("serial", 4), ("vector", 16)]
    x = placeholder(PARALLEL_MIN_WORK // 64, 64)
    assert loops(scheduled(x, doubled(x)))[0] == ("parallel", PARALLEL_MIN_WORK // 64)


def test_open_work_runs_in_parallel() -> None:
    x = placeholder(tirx.Var("n", "int64"), 40)
    assert loops(scheduled(x, doubled(x))) == [("parallel", None), ("vector", 8)]


def test_short_rows_are_fused() -> None:
    x = placeholder(10, 8, 3)
    assert loops(scheduled(x, doubled(x))) == [("serial", 10), ("serial", 3), ("vector", 8)]


def test_a_narrower_vector_spares_few_ones_a_tail() -> None:
    x = placeholder(4, 24)
    assert loops(scheduled(x, doubled(x)))[-2:] == [("serial", 3), ("vector", 8)]
    for size, vectors in ((27, 2), (200, 13)):  # 8 doesn't divide it; there are many
        x = placeholder(4, size)
        assert loops(scheduled(x, doubled(x)))[-2:] == [("serial", vectors), ("vector", 16)]


def test_cheap_stages_are_inlined_and_dear_ones_kept() -> None:
    x = placeholder(8, 32)
    cheap = doubled(x, "cheap")
    dear = te.compute(x.shape, lambda *i: tirx.exp(cheap[i]), name="dear")
    rows = te.compute((8, 32, 4), lambda i, j, k: dear[i, j] + k.astype("float32"), name="rows")
    schedule = scheduled(x, rows)
    assert [schedule.get(block).name_hint for block in all_blocks(schedule)] == ["dear", "rows"]


def test_a_reduction_keeps_a_vector_of_sums() -> None:
    x = placeholder(50, 32)
    k = te.reduce_axis((0, 50), name="k")
    total = te.compute((32,), lambda j: te.sum(x[k, j], axis=k), name="total")
    schedule = scheduled(x, total)
    assert loops(schedule) == [("serial", 2), ("serial", 50), ("vector", 16)]


def for_loop(extent: object, kind: str, body: tirx.Stmt | None = None) -> tirx.Stmt:
    kinds = {"serial": tirx.ForKind.SERIAL, "vector": tirx.ForKind.VECTORIZED, "parallel": tirx.ForKind.PARALLEL}
    kinds["unrolled"] = tirx.ForKind.UNROLLED
    extent = extent if not isinstance(extent, int) else tirx.const(extent, "int64")
    start = tirx.const(0, "int64")
    return tirx.For(tirx.Var("i", "int64"), start, extent, kinds[kind], body or tirx.Evaluate(tirx.const(0, "int32")))


@pytest.mark.parametrize(
    ("body", "vectorized"),
    [
        (for_loop(64, "serial"), False),
        (for_loop(64, "parallel"), False),
        (for_loop(tirx.Var("n", "int64"), "serial"), False),
        (for_loop(16, "vector"), True),
        (for_loop(7, "serial"), True),  # as short as a tail
        (for_loop(64, "serial", for_loop(16, "vector")), True),
        (for_loop(64, "serial", for_loop(4, "unrolled", for_loop(16, "vector"))), True),
        (for_loop(4, "parallel", for_loop(64, "serial")), False),
        (for_loop(4, "serial", tirx.SeqStmt([for_loop(16, "vector"), for_loop(64, "serial")])), False),
    ],
)
def test_is_vectorized(body: tirx.Stmt, vectorized: bool) -> None:
    assert is_vectorized(tirx.PrimFunc([], body)) == vectorized


def test_unscheduled_functions_are_scalar_and_scheduled_ones_are_not() -> None:
    x = placeholder(5, 37)
    function = te.create_prim_func([x, doubled(x)])
    assert not is_vectorized(function)
    assert is_vectorized(scheduled(x, doubled(x)).mod["main"])


@pytest.mark.parametrize("padding", [(0, 1), (1, 0), (2, 2)])
@pytest.mark.parametrize("width", [None, 6, 18])
def test_nothing_is_written_past_the_end(width: int | None, padding: tuple[int, int]) -> None:
    """A padded window over rows of every length, into the front of a larger buffer."""
    before, after = padding
    w = tirx.Var("w", "int64") if width is None else width
    x = placeholder(4, w)
    k = te.reduce_axis((0, 3), name="k")

    def window(i: tirx.Var, j: tirx.Var) -> te.Tensor:
        inside = tirx.all(j + k >= before, j + k < w + before)
        return te.sum(tirx.if_then_else(inside, x[i, j + k - before], tirx.const(0, "float32")), axis=k)

    total = te.compute((4, w + before + after - 2), window, name="total")
    machine = targets.parse("cpu")[0]
    mod = tvm.IRModule({"main": scheduled(x, total).mod["main"].with_attr("global_symbol", "main")})
    with tvm.transform.PassContext(opt_level=3, config=BUILD_CONFIG):
        library = tvm.compile(mod, target=tvm.target.Target(machine.tvm_json()), tir_pipeline=tir_pipeline.register())
    for size in (3, 5, 15, 17, 33) if width is None else (width,):
        values, shape = data(4, size), (4, size + before + after - 2)
        room = np.full(4 * shape[1] + 80, 7, "float32")
        start = -room.ctypes.data % 64 // 4
        end = start + 4 * shape[1]
        out = tvm.runtime.from_dlpack(room[start:end].reshape(shape))
        library["main"](tvm.runtime.tensor(values), out)
        padded = np.pad(values, ((0, 0), padding))
        want = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
        np.testing.assert_allclose(room[start:end].reshape(shape), want, rtol=1e-5, atol=1e-5)
        assert (room[end:] == 7).all()
