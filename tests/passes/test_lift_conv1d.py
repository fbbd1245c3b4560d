"""1-D convolutions, and 2-D ones over a width of 1, become 2-D ones of height 1; elementwise operators go along."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from pass_graphs import assert_same, const, data, emit, graph, operators
from tvm import relax

from onnxkiln.passes.lift_conv1d import lift_conv1d

O = relax.op  # noqa: E741
WEIGHT, BIAS = data(4, 3, 3), data(1, 4, 1)


def line(x: relax.Expr, **attributes) -> relax.Expr:
    return O.nn.conv1d(x, const(WEIGHT), **attributes)


def test_a_convolution_and_what_follows() -> None:
    def block(x: relax.Expr) -> relax.Expr:
        y = emit(O.nn.relu(O.add(line(x, padding=(1, 1)), const(BIAS))))
        return O.nn.conv1d(O.add(y, O.sigmoid(y)), const(data(2, 4, 1)))

    mod = graph(block, ("n", 3, "w"))
    after, count = lift_conv1d(mod)
    assert count == 2
    # Each value is given back as a view; the second convolution reads the twins.
    assert operators(relax.transform.DeadCodeElimination()(after)) == [
        *["reshape", "nn.conv2d", "add", "nn.relu", "sigmoid", "add", "nn.conv2d", "reshape"]
    ]
    assert_same(mod, after, [data(2, 3, 7)], [data(1, 3, 1)])


def test_strides_dilations_groups_and_uneven_padding() -> None:
    def block(x: relax.Expr) -> list[relax.Expr]:
        return [
            line(x, strides=2, padding=(2, 1)),
            line(x, dilation=2, padding=(0, 3)),
            O.nn.conv1d(x, const(data(3, 1, 4)), groups=3, strides=3),
        ]

    mod = graph(block, (2, 3, 11))
    after, count = lift_conv1d(mod)
    assert count == 3 and not any("conv1d" in op for op in operators(after))
    assert_same(mod, after, [data(2, 3, 11)])


def test_a_convolution_over_a_width_of_one_is_laid_down() -> None:
    weight = data(4, 3, 5, 1)

    def block(x: relax.Expr, y: relax.Expr) -> relax.Expr:
        conv = O.nn.conv2d(x, const(weight), strides=(2, 1), padding=(2, 0, 1, 0), dilation=(1, 1))
        return O.multiply(O.add(conv, const(data(1, 4, 1, 1))), y)

    mod = graph(block, (2, 3, 11, 1), (2, 4, 5, 1))
    after, count = lift_conv1d(mod)
    assert count == 1
    conv = next(b.value for b in after["main"].body.blocks[0].bindings if "conv2d" in str(getattr(b.value, "op", "")))
    assert [int(d) for d in conv.ty.shape.values] == [2, 4, 1, 5]
    assert_same(mod, after, [data(2, 3, 11, 1), data(2, 4, 5, 1)])


def test_operands_of_lower_rank() -> None:
    """A scalar, a row and a constant vector broadcast as before."""

    def block(x: relax.Expr, row: relax.Expr) -> list[relax.Expr]:
        y = emit(line(x))
        return [O.multiply(y, const(np.float32(2))), O.add(y, row), O.add(y, const(data(5)))]

    mod = graph(block, (2, 3, 7), (4, 5))
    after, _ = lift_conv1d(mod)
    assert_same(mod, after, [data(2, 3, 7), data(4, 5)])


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (lambda x: O.nn.relu(x), (2, 3, 7)),
        (lambda x: O.nn.conv2d(x, const(data(4, 3, 3, 3))), (1, 3, 5, 5)),
        (lambda x: O.nn.conv2d(x, const(data(4, 3, 1, 1))), (1, 3, 1, 1)),
        (lambda x: O.nn.conv2d(x, const(data(4, 3, 1, 1)), padding=(0, 1, 0, 1)), (1, 3, 5, 1)),
    ],
    ids=["elementwise", "two axes", "a pixel", "padded width"],
)
def test_other_operators_stay(build, shape) -> None:
    mod = graph(build, shape)
    after, count = lift_conv1d(mod)
    assert count == 0
    tvm.ir.assert_structural_equal(after, mod)


def test_computed_weights_stay() -> None:
    assert lift_conv1d(graph(O.nn.conv1d, (1, 3, 9), (4, 3, 3)))[1] == 0


LINE_RULES = {
    "concat": (lambda y: O.concat([y, O.nn.relu(y)], 1), "concat"),
    "concat of places": (lambda y: O.concat([y, const(data(2, 4, 3)), y], -1), "concat"),
    "pad": (lambda y: O.nn.pad(y, [0, 0, 1, 0, 2, 3], "constant", 0.5), "nn.pad"),
    "slice of channels": (lambda y: O.strided_slice(y, [1], [1], [4], [2]), "strided_slice"),
    "slice of places": (lambda y: O.strided_slice(y, [-1, 0], [2, 1], [7, 2]), "strided_slice"),
    "max_pool": (lambda y: O.nn.max_pool1d(y, 3, 2, (1, 0), 2), "nn.max_pool2d"),
    "avg_pool": (lambda y: O.nn.avg_pool1d(y, 2, 3, (1, 1), count_include_pad=True), "nn.avg_pool2d"),
    "mean": (lambda y: O.mean(y, [2], True), "mean"),
    "mean without its axis": (lambda y: O.mean(y, [-1]), "mean"),
    "sum over channels": (lambda y: O.sum(y, [1]), "sum"),
    "softmax": (lambda y: O.nn.softmax(y, 1), "nn.softmax"),
    "log_softmax": (lambda y: O.nn.log_softmax(y, -1), "nn.log_softmax"),
}


@pytest.mark.parametrize("name", LINE_RULES)
def test_operators_over_one_axis_go_along(name: str) -> None:
    """What is read is the twin: the view back comes last."""
    build, shown = LINE_RULES[name]
    after, count = lift_conv1d(graph(lambda x: build(emit(line(x))), (2, 3, 9)))
    assert count == 1
    found = operators(relax.transform.DeadCodeElimination()(after))
    assert found[:2] == ["reshape", "nn.conv2d"] and found[-2:] == [shown, "reshape"] and found.count("reshape") == 2


def test_values_of_operators_over_one_axis_stay() -> None:
    def block(x: relax.Expr) -> list[relax.Expr]:
        y = emit(line(x))
        return [build(y) for build, _ in LINE_RULES.values()]

    mod = graph(block, (2, 3, 9))
    assert_same(mod, lift_conv1d(mod)[0], [data(2, 3, 9)])


def test_operators_over_one_axis_stay_without_a_convolution() -> None:
    mod = graph(lambda x: [build(x) for build, _ in LINE_RULES.values()], (2, 4, 7))
    after, count = lift_conv1d(mod)
    assert count == 0
    tvm.ir.assert_structural_equal(after, mod)


def test_transposed_convolutions() -> None:
    def block(x: relax.Expr) -> list[relax.Expr]:
        kinds = [{}, {"strides": 3, "padding": (1, 2), "output_padding": 1}, {"strides": 2, "dilation": 2, "groups": 3}]
        return [O.nn.relu(O.nn.conv1d_transpose(x, const(data(3, 2, 4)), **kind)) for kind in kinds]

    mod = graph(block, ("n", 3, "w"))
    after, count = lift_conv1d(mod)
    assert count == 3
    found = operators(relax.transform.DeadCodeElimination()(after))
    assert found == ["reshape", "nn.conv2d_transpose", "nn.relu", "reshape"] * 3
    assert_same(mod, after, [data(2, 3, 7)], [data(1, 3, 1)])


def test_transposed_convolutions_of_computed_weights_stay() -> None:
    mod = graph(O.nn.conv1d_transpose, (1, 3, 5), (3, 2, 3))
    assert lift_conv1d(mod)[1] == 0
