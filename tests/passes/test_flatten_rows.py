"""Products over open batch and rows become products over all rows; what tells rows apart stays as it is."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from kernel_cases import Kernels
from pass_graphs import const, data, emit, graph
from tvm import relax, tirx

from onnxkiln import targets
from onnxkiln.passes.flatten_rows import flatten_rows
from onnxkiln.passes.pipeline import PIPELINE, Pipeline

O = relax.op  # noqa: E741
CPU = targets.parse("cpu")[0]
DEPTH, COLUMNS = 19, 32
WEIGHT, BACK, BIAS = data(DEPTH, COLUMNS), data(COLUMNS, DEPTH), data(COLUMNS)


def layer(x: relax.Expr) -> relax.Expr:
    wide = emit(O.nn.relu(emit(O.add(emit(O.matmul(x, const(WEIGHT))), const(BIAS)))))
    added = emit(O.add(emit(O.matmul(wide, const(BACK))), x))
    return O.nn.layer_norm(added, const(np.ones(DEPTH, "float32")), const(np.zeros(DEPTH, "float32")), [-1])


def expected(x: np.ndarray) -> np.ndarray:
    added = np.maximum(x @ WEIGHT + BIAS, 0) @ BACK + x
    centred = added - added.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)


def flattened(mod: tvm.IRModule) -> tuple[tvm.IRModule, int]:
    """The module before and how many calls change, at the pass's own place in the pipeline."""
    pipeline = Pipeline("O2")
    before = [step for step in PIPELINE if step.name not in ("flatten_rows", "drop_unused_views")]
    return flatten_rows(pipeline._run(before, mod, CPU))


def test_one_view_in_and_one_out() -> None:
    mod, count = flattened(graph(layer, ("b", "s", DEPTH)))
    assert count == 3
    text = relax.transform.DeadCodeElimination()(mod)["main"].script()
    assert text.count("R.reshape(") == 2 and text.count("R.call_tir(") == 3
    assert f"R.Tensor((1, b * s, {DEPTH})" in text
    for gv, function in mod.functions.items():
        if isinstance(function, tirx.PrimFunc) and gv.name_hint.endswith("_rows"):
            assert int(function.params[-1].shape[0]) == 1


def position(x: relax.Expr) -> relax.Expr:
    """Adds what differs from row to row, the same in each batch."""
    rows = x.ty.shape.values[1]
    table = O.broadcast_to(const(data(1, 1, COLUMNS)), relax.ShapeExpr([1, rows, COLUMNS]))
    return O.add(emit(O.matmul(x, const(WEIGHT))), emit(O.cumsum(emit(table), axis=1)))


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (layer, (3, "s", DEPTH)),
        (layer, ("b", 61, DEPTH)),
        (layer, ("s", DEPTH)),
        (position, ("b", "s", DEPTH)),
        (lambda x: O.nn.softmax(x, -1), ("b", "s", DEPTH)),
    ],
    ids=["batch known", "rows known", "no batch", "rows differ", "no product"],
)
def test_left_alone(function, shape) -> None:
    mod = graph(function, shape)
    mod, count = flattened(mod)
    assert count == 0 and "R.reshape(" not in mod["main"].script()


def test_numbers_of_every_size() -> None:
    kernels = Kernels(graph(layer, ("b", "s", DEPTH)))
    for batch, rows in [(1, 1), (3, 61), (8, 1), (1, 128), (2, 4), (5, 7), (0, 5), (3, 0)]:
        x = data(batch, rows, DEPTH)
        (got,) = kernels(x)
        assert got.shape == x.shape
        np.testing.assert_allclose(got, expected(x), rtol=1e-3, atol=1e-4)


def test_an_earlier_result_is_not_written_again() -> None:
    kernels = Kernels(graph(layer, ("b", "s", DEPTH)))
    x, y = data(3, 5, DEPTH), data(3, 5, DEPTH)
    first = kernels._machine["main"](tvm.runtime.tensor(x))[0]
    kernels(y)
    np.testing.assert_allclose(first.numpy(), expected(x), rtol=1e-3, atol=1e-4)


def test_rows_that_a_table_tells_apart() -> None:
    def added(x: relax.Expr, table: relax.Expr) -> relax.Expr:
        return O.add(emit(O.matmul(x, const(WEIGHT))), table)

    kernels = Kernels(graph(added, ("b", "s", DEPTH), (1, "s", COLUMNS)))
    x, table = data(3, 5, DEPTH), data(1, 5, COLUMNS)
    np.testing.assert_allclose(kernels(x, table)[0], x @ WEIGHT + table, rtol=1e-4, atol=1e-4)


KERNEL = data(COLUMNS, DEPTH, 1, 1)


def pixels(x: relax.Expr) -> relax.Expr:
    """Convolutions of single pixels with a residual."""
    wide = emit(O.nn.relu(emit(O.nn.conv2d(x, const(KERNEL)))))
    return O.add(emit(O.nn.conv2d(wide, const(KERNEL.transpose(1, 0, 2, 3).copy()))), x)


def test_pixels_of_an_image_are_one_row() -> None:
    mod, count = flattened(graph(pixels, ("n", DEPTH, "h", "w")))
    text = relax.transform.DeadCodeElimination()(mod)["main"].script()
    assert count == 2 and text.count("R.reshape(") == 2 and f"R.Tensor((n, 1, h * w, {DEPTH})" in text


@pytest.mark.parametrize("window", [{"strides": [2, 2]}, {"padding": [1, 1]}, {"kernel": 3}], ids=str)
def test_windows_of_several_pixels_are_left_alone(window) -> None:
    size = window.get("kernel", 1)
    kernel = const(data(COLUMNS, DEPTH, size, size))
    options = {key: value for key, value in window.items() if key != "kernel"}

    def convolved(x: relax.Expr) -> relax.Expr:
        return O.nn.relu(emit(O.nn.conv2d(x, kernel, **options)))

    assert flattened(graph(convolved, ("n", DEPTH, "h", "w")))[1] == 0


def test_numbers_of_images_of_every_size() -> None:
    kernels = Kernels(graph(pixels, ("n", DEPTH, "h", "w")))
    matrix = KERNEL[:, :, 0, 0].T
    for batch, height, width in [(1, 7, 7), (2, 1, 1), (3, 5, 11), (1, 13, 1), (1, 0, 4), (0, 3, 3)]:
        x = data(batch, height, width, DEPTH)
        (got,) = kernels(x.transpose(0, 3, 1, 2))
        exact = np.maximum(x @ matrix, 0) @ matrix.T + x
        np.testing.assert_allclose(got, exact.transpose(0, 3, 1, 2), rtol=1e-3, atol=1e-4)
