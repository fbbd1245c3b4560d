"""Kernels for few rows beside the one for many: right for every number of rows, and no choice where rows are fixed."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_cases import Kernels
from pass_graphs import const, data, emit, graph
from tvm import relax, tirx
from tvm.sym import Analyzer

from onnxkiln import targets
from onnxkiln.passes.pipeline import Pipeline
from onnxkiln.passes.schedule_functions import schedule_functions
from onnxkiln.schedules.row_variants import _cost, _is_least

O = relax.op  # noqa: E741
CPU = targets.parse("cpu")[0]
DEPTH, COLUMNS = 300, 72
WEIGHT, BIAS = data(DEPTH, COLUMNS), data(COLUMNS)


def layer(x: relax.Expr) -> relax.Expr:
    return O.sigmoid(emit(O.add(emit(O.matmul(x, const(WEIGHT))), const(BIAS))))


def choices(rows: int | str) -> int:
    """How many times a layer's function chooses between kernels."""
    module = Pipeline("O2").optimize(graph(layer, (rows, DEPTH)), CPU)
    scheduled, _ = schedule_functions(module, CPU)
    found: list[tirx.IfThenElse] = []
    for function in scheduled.functions.values():
        if isinstance(function, tirx.PrimFunc):
            body = function.body
            while isinstance(body, tirx.IfThenElse):
                found.append(body)
                body = body.else_case
    return len(found)


def test_only_open_rows_have_a_choice() -> None:
    assert choices("rows") == 3
    assert choices(13) == choices(1) == 0


@pytest.mark.parametrize("target", ["cpu:x86-64-v3", "cpu"])
def test_any_number_of_rows(target: str) -> None:
    kernels = Kernels(graph(layer, ("batch", "rows", DEPTH)), target)
    assert len(kernels.of("matmul")) == 1
    for batch, rows in [*[(1, rows) for rows in range(15)], (3, 1), (2, 4), (2, 7), (0, 5), (1, 127)]:
        x = data(batch, rows, DEPTH)
        expected = 1 / (1 + np.exp(-(x.astype(np.float64) @ WEIGHT + BIAS)))
        np.testing.assert_allclose(kernels(x)[0], expected, rtol=1e-4, atol=1e-5)


def test_a_residual_of_the_same_rows() -> None:
    def residual(x: relax.Expr, y: relax.Expr) -> relax.Expr:
        return O.add(emit(O.add(emit(O.matmul(x, const(WEIGHT))), const(BIAS))), y)

    kernels = Kernels(graph(residual, ("rows", DEPTH), ("rows", COLUMNS)))
    for rows in (1, 2, 4, 6, 7, 13, 14):
        x, y = data(rows, DEPTH), data(rows, COLUMNS)
        np.testing.assert_allclose(kernels(x, y)[0], x @ WEIGHT + BIAS + y, rtol=1e-4, atol=1e-4)


def test_one_column_broadcast_behind_the_tile() -> None:
    weight = data(DEPTH, 1)

    def gate(x: relax.Expr) -> relax.Expr:
        return O.multiply(x, emit(O.sigmoid(emit(O.matmul(x, const(weight))))))

    kernels = Kernels(graph(gate, ("batch", "rows", DEPTH)))
    for batch, rows in [(1, 1), (2, 4), (1, 7), (3, 13), (0, 5), (1, 60)]:
        x = data(batch, rows, DEPTH)
        np.testing.assert_allclose(kernels(x)[0], x / (1 + np.exp(-(x @ weight))), rtol=1e-4, atol=1e-4)


def test_a_line_of_few_pixels() -> None:
    weight = data(258, 1, 8)

    def line(x: relax.Expr) -> relax.Expr:
        return O.nn.conv1d(x, const(weight), strides=2)

    kernels = Kernels(graph(line, ("batch", 1, "width")))
    for batch, width in [(1, 8), (1, 9), (2, 12), (1, 14), (1, 16), (1, 67)]:
        x = data(batch, 1, width)
        windows = np.lib.stride_tricks.sliding_window_view(x[:, 0], 8, axis=-1)[:, ::2]
        expected = np.einsum("nwk,ok->now", windows, weight[:, 0])
        np.testing.assert_allclose(kernels(x)[0], expected, rtol=1e-4, atol=1e-4)


def taken(rows: int, costs: dict[int, int]) -> int:
    count = tirx.const(rows, "int64")
    few = sorted(costs)[:-1]
    return next((t for t in few if int(Analyzer().simplify(_is_least(count, t, costs)))), max(costs))


def test_the_choice_is_of_what_costs_least() -> None:
    by_rows = {1: 1, 4: 4, 6: 6, 7: 7}
    assert [taken(rows, by_rows) for rows in (1, 2, 4, 6, 7, 8, 12, 13, 14, 127, 128, 132)] == [
        1, 4, 4, 6, 7, 4, 4, 7, 7, 4, 4, 4,
    ]  # fmt: skip
    assert taken(12, {1: 1, 4: 4, 6: 5, 7: 7}) == 6


def test_many_rows_are_not_cut_into_tiles_that_read_the_weights_often() -> None:
    v4 = targets.parse("cpu:x86-64-v4")[0]
    costs = {tile: _cost(tile, 96, 384, v4) for tile in (1, 4, 6, 8)}
    assert taken(128, costs) == 8 and taken(4, costs) == 4 and taken(6, costs) == 6
