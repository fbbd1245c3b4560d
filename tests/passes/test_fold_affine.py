"""Per-channel scales and shifts behind a convolution go into its weights and one bias."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from pass_graphs import assert_same, const, constants_of, data, emit, graph, operators
from tvm import relax

from onnxkiln.passes.fold_affine import fold_affine

O = relax.op  # noqa: E741
WEIGHT = data(5, 3, 3, 3)
SCALE, SHIFT = np.abs(data(1, 5, 1, 1)) + 0.5, data(1, 5, 1, 1)


def conv(x: relax.Expr) -> relax.Expr:
    return O.nn.conv2d(x, const(WEIGHT), padding=(1, 1, 1, 1))


CHAINS = {
    "add": (lambda y: O.add(y, const(SHIFT)), 1),
    "add from the left": (lambda y: O.add(const(SHIFT), y), 1),
    "subtract": (lambda y: O.subtract(y, const(SHIFT)), 1),
    "subtract from the left": (lambda y: O.subtract(const(SHIFT), y), 1),
    "multiply": (lambda y: O.multiply(y, const(SCALE)), 1),
    "divide": (lambda y: O.divide(y, const(SCALE)), 1),
    "a scalar": (lambda y: O.multiply(y, const(np.float32(1.5))), 1),
    "without batch dim": (lambda y: O.add(y, const(SHIFT[0])), 1),
    "batch normalisation": (
        lambda y: O.add(O.multiply(O.divide(O.subtract(y, const(SHIFT)), const(SCALE)), const(SCALE)), const(SHIFT)),
        4,
    ),
    "flipped in the middle": (
        lambda y: O.multiply(O.subtract(const(SHIFT), O.add(y, const(SHIFT))), const(SCALE)),
        3,
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_becomes_weights_and_one_bias(name: str) -> None:
    chain, steps = CHAINS[name]
    mod = graph(lambda x: O.nn.relu(chain(conv(x))), ("n", 3, 6, 7))
    after, count = fold_affine(mod)
    after = relax.transform.DeadCodeElimination()(after)
    assert count == steps
    assert operators(after) == ["nn.conv2d", "add", "nn.relu"]


def test_results_equal_those_of_the_chains() -> None:
    mod = graph(lambda x: [O.nn.relu(chain(conv(x))) for chain, _ in CHAINS.values()], ("n", 3, 6, 7))
    after, count = fold_affine(mod)
    assert count == sum(steps for _, steps in CHAINS.values())
    assert_same(mod, after, [data(2, 3, 6, 7)], [data(1, 3, 6, 7)])


def test_the_weights_are_scaled_by_output_channel() -> None:
    mod = graph(lambda x: O.add(O.multiply(conv(x), const(SCALE)), const(SHIFT)), (1, 3, 4, 4))
    weight, bias = constants_of(relax.transform.DeadCodeElimination()(fold_affine(mod)[0]))
    np.testing.assert_allclose(weight, WEIGHT * SCALE.reshape(5, 1, 1, 1), rtol=1e-6)
    np.testing.assert_allclose(bias, SHIFT)


def test_one_and_three_dims() -> None:
    def line(x: relax.Expr) -> relax.Expr:
        return O.multiply(O.nn.conv1d(x, const(WEIGHT[..., 0])), const(SCALE[..., 0]))

    mod = graph(line, (2, 3, 9))
    after = relax.transform.DeadCodeElimination()(fold_affine(mod)[0])
    assert operators(after) == ["nn.conv1d", "add"]
    assert_same(mod, after, [data(2, 3, 9)])

    def volume(x: relax.Expr) -> relax.Expr:
        return O.multiply(O.nn.conv3d(x, const(WEIGHT[..., None])), const(SCALE[..., None]))

    mod = graph(volume, (1, 3, 4, 4, 2))
    after = relax.transform.DeadCodeElimination()(fold_affine(mod)[0])
    assert operators(after) == ["nn.conv3d", "add"]
    assert_same(mod, after, [data(1, 3, 4, 4, 2)])


def test_a_value_that_others_read_is_kept() -> None:
    """The convolution feeds two chains: scaling its weights would cost a second convolution."""

    def two(x: relax.Expr) -> list[relax.Expr]:
        y = emit(conv(x))
        return [O.multiply(y, const(SCALE)), O.nn.relu(y)]

    mod = graph(two, (1, 3, 5, 5))
    after, count = fold_affine(mod)
    assert count == 0
    tvm.ir.assert_structural_equal(after, mod)


def test_a_chain_stops_where_others_read_it() -> None:
    def middle(x: relax.Expr) -> list[relax.Expr]:
        y = emit(O.add(conv(x), const(SHIFT)))
        return [O.multiply(y, const(SCALE)), y]

    mod = graph(middle, (1, 3, 5, 5))
    after, count = fold_affine(mod)
    assert count == 1
    assert operators(relax.transform.DeadCodeElimination()(after)) == ["nn.conv2d", "add", "multiply"]
    assert_same(mod, after, [data(1, 3, 5, 5)])


@pytest.mark.parametrize(
    "build",
    [
        lambda x: O.add(conv(x), const(data(1, 5, 6, 6))),
        lambda x: O.multiply(conv(x), const(data(6))),  # along the width
        lambda x: O.multiply(conv(x), const(data(1, 1, 6, 1))),
        lambda x: O.divide(const(SCALE), conv(x)),
        lambda x: O.divide(conv(x), const(np.float32([0, 1, 2, 3, 4]).reshape(5, 1, 1))),
        lambda x: O.add(conv(x), const(data(1, 1, 5, 1, 1))),  # one rank more
        lambda x: O.add(O.nn.relu(conv(x)), const(SHIFT)),
        lambda x: O.add(x, const(data(1, 3, 1, 1))),
    ],
    ids=["full", "width", "height", "divided by", "by zero", "rank", "behind a relu", "no convolution"],
)
def test_other_operands_stay(build) -> None:
    mod = graph(build, (1, 3, 6, 6))
    after, count = fold_affine(mod)
    assert count == 0
    tvm.ir.assert_structural_equal(after, mod)


def test_weights_that_are_inputs_stay() -> None:
    mod = graph(lambda x, w: O.multiply(O.nn.conv2d(x, w), const(SCALE)), (1, 3, 6, 6), (5, 3, 3, 3))
    assert fold_affine(mod)[1] == 0
