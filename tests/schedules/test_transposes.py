"""Transposes: right at any size and type, gathering from lines that are in the cache, in vectors also where rows are
shorter than one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from kernel_cases import LEVELS, Kernels, runnable
from pass_graphs import const, data, graph
from tvm import relax, tirx
from tvm.s_tir import Schedule

from onnxkiln import targets
from onnxkiln.passes.legalize import legalize
from onnxkiln.schedules.blocks import all_blocks, extent
from onnxkiln.schedules.generic import apply_generic, transposed_loop

O = relax.op  # noqa: E741
ORDERS = list(itertools.permutations(range(3)))
SIZES = [(1, 1, 1), (2, 3, 5), (3, 17, 16), (1, 13, 57), (33, 3, 31), (16, 16, 48), (0, 3, 4)]


@pytest.mark.parametrize("target", [t for t in LEVELS if runnable(t)])
def test_open_sizes(target: str) -> None:
    kernels = Kernels(graph(lambda x: [O.permute_dims(x, order) for order in ORDERS], ("a", "b", "c")), target)
    for size in SIZES:
        x = data(*size)
        for order, found in zip(ORDERS, kernels(x), strict=True):
            np.testing.assert_array_equal(found, x.transpose(order), err_msg=f"{order} of {size}")


@pytest.mark.parametrize(
    ("size", "dtype"),
    [((2, 3, 5), "float32"), ((33, 3, 31), "float32"), ((1, 13, 57), "int8"), ((16, 16, 48), "float64")],
)
def test_known_sizes(size: tuple[int, ...], dtype: str) -> None:
    kernels = Kernels(graph(lambda x: [O.permute_dims(x, order) for order in ORDERS], size, dtype=dtype))
    x = (data(*size) * 50).astype(dtype)
    for order, found in zip(ORDERS, kernels(x), strict=True):
        np.testing.assert_array_equal(found, x.transpose(order), err_msg=f"{order} of {size}")


def test_what_is_computed_on_the_way() -> None:
    """Sums of a transposed and a plain operand, and functions of a transposed one."""

    def several(x, y):
        return [O.add(O.permute_dims(x, [0, 2, 1]), y), O.nn.relu(O.permute_dims(x, [0, 2, 1]))]

    x, y = data(3, 13, 37), data(3, 37, 13)
    first, second = Kernels(graph(several, (3, 13, 37), (3, 37, 13)))(x, y)
    np.testing.assert_array_equal(first, x.transpose(0, 2, 1) + y)
    np.testing.assert_array_equal(second, np.maximum(x.transpose(0, 2, 1), 0))


def scheduled(function, *shapes) -> Schedule:
    machine = targets.parse("cpu:x86-64-v3")[0]
    mod = legalize(graph(function, *shapes), machine)
    (kernel,) = (f for f in mod.functions.values() if isinstance(f, tirx.PrimFunc))
    return Schedule(kernel.with_attr("global_symbol", "main"))


def test_lines_serve_the_next_iterations() -> None:
    schedule = scheduled(lambda x: O.permute_dims(x, [0, 2, 1]), (4, 100, 64))
    apply_generic(schedule, 8)
    (block,) = all_blocks(schedule)
    # Around the vector: what lies side by side in the operand, then groups of vectors, then the batch.
    assert [extent(schedule, loop) for loop in schedule.get_loops(block)][1:] == [13, 64, 8]


def test_short_rows_are_read_along_the_operand() -> None:
    schedule = scheduled(lambda x: O.permute_dims(x, [0, 2, 1]), (4, 3, 64))
    apply_generic(schedule, 8)
    (block,) = all_blocks(schedule)
    assert [extent(schedule, loop) for loop in schedule.get_loops(block)][1:] == [8, 3, 8]


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda x: O.permute_dims(x, [1, 0, 2]), (4, 5, 64)),
        (lambda x: O.add(x, const(np.float32(1))), (4, 5, 64)),
        (lambda x: O.nn.relu(x), (64,)),
    ],
)
def test_others_are_left_alone(function, shape) -> None:
    schedule = scheduled(function, shape)
    (block,) = all_blocks(schedule)
    assert transposed_loop(schedule, block, schedule.get_loops(block)) is None
