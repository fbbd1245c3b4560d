"""Kernels write into their part of a joined tensor: which ones, which not, and that the values are the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from conv_cases import Conv
from pass_graphs import const, data, emit, graph
from tvm import relax, te, tirx

from onnxkiln import targets
from onnxkiln.passes.join_in_place import join_in_place
from onnxkiln.passes.lower import build
from onnxkiln.passes.pipeline import Pipeline
from onnxkiln.passes.plan_memory import activation_bytes
from onnxkiln.passes.schedule_functions import finished_reports, schedule_functions
from onnxkiln.passes.write_part import write_part

O = relax.op  # noqa: E741
HOST = targets.parse("cpu")[0]
LANES = HOST.vector_lanes


def scheduled(function: Callable[..., Any], *shapes: Any) -> tuple[tvm.IRModule, list]:
    return schedule_functions(Pipeline("O2").optimize(graph(function, *shapes), HOST), HOST)


def kernels(mod: tvm.IRModule) -> list[str]:
    return sorted(gv.name_hint for gv, function in mod.functions.items() if isinstance(function, tirx.PrimFunc))


def run(mod: tvm.IRModule, *arrays: np.ndarray) -> list[np.ndarray]:
    machine = relax.VirtualMachine(build(Pipeline("O0").finish(mod, HOST), HOST), tvm.cpu())
    return [result.numpy() for result in machine["main"](*[tvm.runtime.tensor(array) for array in arrays])]


CONVOLUTIONS = [
    Conv(5, 32, (1, 1)),
    Conv(5, 7, (3, 3), padding=(1, 1, 1, 1)),
    Conv(5, 1, (3, 1), padding=(2, 0, 0, 0)),
    Conv(5, 5, (3, 3), padding=(1, 1, 1, 1), groups=5),
]


@pytest.mark.parametrize("batch", [1, "n"])
def test_branches_of_convolutions_and_pools(batch: int | str) -> None:
    weights = [case.weight() for case in CONVOLUTIONS]
    last = Conv(50, 3, (1, 1))
    final = last.weight()

    def network(x: relax.Expr) -> relax.Expr:
        branches = [emit(O.nn.relu(case.op(x, w))) for case, w in zip(CONVOLUTIONS, weights, strict=True)]
        branches.append(emit(O.nn.max_pool2d(branches.pop(), (3, 3), padding=(1, 1, 1, 1))))
        joined = emit(O.concat([*branches, emit(O.nn.relu(CONVOLUTIONS[3].op(x, weights[3] + 1)))], 1))
        return last.op(joined, final)

    before, reports = scheduled(network, (batch, 5, 11, 13))
    after, count = join_in_place(before, LANES)
    relax.analysis.well_formed(after)
    assert count == 1
    assert any(name.startswith("concatenate") for name in kernels(before))
    assert not any(name.startswith("concatenate") for name in kernels(after))
    assert {name.rpartition("_at_")[2] for name in kernels(after) if "_at_" in name} == {"0", "32", "39", "40", "45"}
    assert all(r.template or "pool" in r.name or "transpose" in r.name for r in finished_reports(after, reports))
    assert [r.name for r in finished_reports(after, reports) if r.calls == 0] == []
    for n in (1,) if batch == 1 else (1, 3):
        x = data(n, 5, 11, 13)
        for got, want in zip(run(after, x), run(before, x), strict=True):
            np.testing.assert_array_equal(got, want)
            assert np.abs(got).max() > 0


@pytest.mark.parametrize(("axis", "rows"), [(0, 3), (1, 3), (1, "n"), (1, 1)])
def test_products_and_copies(axis: int, rows: int | str) -> None:
    """An input, and what has two readers, are copied between the results of kernels."""
    sizes = (17, 16) if axis else (17, 17)
    left, right = data(8, sizes[0]), data(8, sizes[1])

    def network(x: relax.Expr, y: relax.Expr) -> list[relax.Expr]:
        twice = emit(O.exp(y))
        parts = [emit(O.matmul(x, const(left))), y, emit(O.matmul(x, const(right))), twice]
        return [O.concat(parts, axis), twice]

    shapes = [(rows, 8), (rows, 5) if axis else (3, 17)]
    before, reports = scheduled(network, *shapes)
    after, count = join_in_place(before, LANES)
    copied = [name for name in kernels(after) if name.startswith("copy_at_")]
    relax.analysis.well_formed(after)
    assert count == 1 and len(copied) == 2
    assert {r.name: r.template for r in finished_reports(after, reports)}[copied[0]] is None
    for n in (rows,) if isinstance(rows, int) else (1, 13):
        x, y = data(n, 8), data(n, 5) if axis else data(3, 17)
        joined, twice = run(after, x, y)
        want = np.concatenate([x @ left, y, x @ right, np.exp(y)], axis)
        np.testing.assert_allclose(joined, want, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(twice, np.exp(y), rtol=1e-6)


def test_results_of_earlier_runs_stay() -> None:
    weights = [data(8, 8), data(8, 3)]
    before, _ = scheduled(lambda x: O.concat([emit(O.matmul(x, const(w))) for w in weights], 1), ("n", 8))
    after, count = join_in_place(before, LANES)
    machine = relax.VirtualMachine(build(Pipeline("O0").finish(after, HOST), HOST), tvm.cpu())
    inputs = [data(5, 8) for _ in range(3)]
    results = [machine["main"](tvm.runtime.tensor(x))[0] for x in inputs]
    assert count == 1
    for x, result in zip(inputs, results, strict=True):
        np.testing.assert_allclose(result.numpy(), np.hstack([x @ w for w in weights]), rtol=1e-4, atol=1e-5)


def test_one_kernel_for_equal_places() -> None:
    weights = [data(16, 16) for _ in range(4)]
    last = data(32, 4)

    def network(x: relax.Expr) -> relax.Expr:
        products = [emit(O.matmul(x, const(weight))) for weight in weights]
        return O.add(*(O.matmul(emit(O.concat(products[i : i + 2], 1)), const(last)) for i in (0, 2)))

    before, reports = scheduled(network, (5, 16))
    after, count = join_in_place(before, LANES)
    calls = {report.name: report.calls for report in finished_reports(after, reports) if "_at_" in report.name}
    assert count == 2 and sorted(calls.values()) == [2, 2]
    x = data(5, 16)
    np.testing.assert_array_equal(run(after, x)[0], run(before, x)[0])


def test_no_memory_for_the_parts_is_planned() -> None:
    weight = data(16, 64)

    def network(x: relax.Expr) -> relax.Expr:
        joined = emit(O.concat([emit(O.matmul(x, const(weight))), emit(O.matmul(x, const(weight + 1)))], 1))
        return O.matmul(joined, const(data(128, 16)))

    before, _ = scheduled(network, (32, 16))
    after, count = join_in_place(before, LANES)
    assert count == 1
    saved = activation_bytes(before, [(32, 16)]) - activation_bytes(after, [(32, 16)])
    assert saved == 32 * 128 * 4


LEFT_ALONE = {
    "inputs": lambda x, y: O.concat([x, y], 0),
    "an open length": lambda x, y: O.concat([emit(O.matmul(x, const(data(8, 8)))), emit(O.exp(y))], 0),
    "mostly copies": lambda x, y: O.concat([emit(O.matmul(x, const(data(8, 8)))), y, y], 0),
    "fused with what follows": lambda x, y: O.exp(O.concat([emit(O.matmul(x, const(data(8, 8)))), y], 0)),
}


@pytest.mark.parametrize("case", LEFT_ALONE)
def test_left_alone(case: str) -> None:
    shape = ("n", 8) if "open" in case else (3, 8)
    before, _ = scheduled(LEFT_ALONE[case], shape, shape)
    after, count = join_in_place(before, LANES)
    assert count == 0 and after is before


def test_read_twice_is_copied_not_moved() -> None:
    """A result with another reader keeps its own memory; with nothing else to write in place the join stays."""

    def network(x: relax.Expr) -> list[relax.Expr]:
        y = emit(O.matmul(x, const(data(8, 8))))
        return [O.concat([y, y], 0), O.matmul(y, const(data(8, 8)))]

    before, _ = scheduled(network, (3, 8))
    assert join_in_place(before, LANES) == (before, 0)


def test_only_places_in_the_result_move() -> None:
    x = te.placeholder((3, 5), name="x")
    function = te.create_prim_func([x, te.compute((3, 5), lambda i, j: x[i, j] * 2.0, name="y")])
    moved = write_part(function, 1, 4, 11)
    assert moved is not None and [int(dim) for dim in moved.params[-1].shape] == [3, 11]
    compiled = tvm.compile(tvm.IRModule({"main": moved.with_attr("global_symbol", "main")}), target="llvm")
    source, whole = data(3, 5), data(3, 11)
    given = tvm.runtime.tensor(whole)
    compiled["main"](tvm.runtime.tensor(source), given)
    np.testing.assert_array_equal(given.numpy()[:, 4:9], source * 2)
    np.testing.assert_array_equal(given.numpy()[:, [0, 1, 2, 3, 9, 10]], whole[:, [0, 1, 2, 3, 9, 10]])


def test_a_result_passed_on_by_address_is_refused() -> None:
    x = te.placeholder((4,), name="x")
    function = te.create_prim_func(
        [x, te.extern((4,), [x], lambda ins, outs: tirx.call_packed("fill", ins[0], outs[0]), name="y")]
    )
    assert write_part(function, 0, 4, 8) is None


def test_a_copied_part_whose_sizes_are_expressions() -> None:
    """Half of an open height and width: no size of its own tells the copy's kernel the whole."""
    conv = Conv(5, 32, (3, 3), (2, 2), (1, 1, 1, 1))
    weights = [conv.weight(), conv.weight()]
    last = Conv(69, 3, (1, 1))
    final = last.weight()

    def network(x: relax.Expr) -> list[relax.Expr]:
        pooled = emit(O.nn.max_pool2d(x, (3, 3), (2, 2), (1, 1, 1, 1)))
        joined = emit(O.concat([*(emit(O.nn.relu(conv.op(x, w))) for w in weights), pooled], 1))
        return [last.op(joined, final), O.nn.relu(pooled)]

    before, _ = scheduled(network, (1, 5, "h", "w"))
    after, count = join_in_place(before, LANES)
    assert count == 1 and any(name.startswith("copy_at_") for name in kernels(after))
    x = data(1, 5, 11, 14)
    for got, want in zip(run(after, x), run(before, x), strict=True):
        np.testing.assert_array_equal(got, want)
