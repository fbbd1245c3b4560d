"""Convolutional parts go channels-last; transposes remain at their edges only; every rule keeps the values."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from pass_graphs import assert_same, const, data, emit, graph, operators
from tvm import relax, te

from onnxkiln.passes.convert_layout import convert_layout

O = relax.op  # noqa: E741
SHAPE = (2, 3, 5, 7)


def conv(x: relax.Expr, out: int = 4, kernel: int = 1, **attributes) -> relax.Expr:
    return O.nn.conv2d(x, const(data(out, int(x.ty.shape.values[1]), kernel, kernel)), **attributes)


def converted(mod: tvm.IRModule) -> tuple[tvm.IRModule, int, list[str]]:
    after, count = convert_layout(mod)
    after = tvm.transform.Sequential([relax.transform.CanonicalizeBindings(), relax.transform.DeadCodeElimination()])(
        after
    )
    return after, count, operators(after)


def kernel(name: str, *args: relax.Expr) -> relax.Expr:
    """A call of a function that is a kernel already: x * 2 + its index along the channels."""

    def element(x: te.Tensor, *rest: te.Tensor) -> te.Tensor:
        def value(n, c, h, w):
            total = x[n, c, h, w] * 2 + c.astype("float32")
            return total + rest[0][c] if rest else total

        return te.compute(x.shape, value, name="element")

    return emit(relax.BlockBuilder.current().call_te(element, *args, primfunc_name_hint=name))


# Each follows a convolution; the value is how many operators go channels-last, the convolution included, and the
# operators behind the first two (a transpose and the convolution).
RULES = {
    "relu": (lambda y: O.nn.relu(y), 2, ["nn.relu", "permute_dims"]),
    "bias": (lambda y: O.add(y, const(data(1, 4, 1, 1))), 2, ["add", "permute_dims"]),
    "bias without batch": (lambda y: O.add(const(data(4, 1, 1)), y), 2, ["add", "permute_dims"]),
    "row": (lambda y: O.multiply(y, const(data(7))), 2, ["multiply", "permute_dims"]),
    "scalar": (lambda y: O.maximum(y, const(np.float32(0.5))), 2, ["maximum", "permute_dims"]),
    "clip": (lambda y: O.clip(y, 0.0, 6.0), 2, ["clip", "permute_dims"]),
    "max_pool": (lambda y: O.nn.max_pool2d(y, (2, 2), padding=(1, 1)), 2, ["nn.max_pool2d", "permute_dims"]),
    "avg_pool": (
        lambda y: O.nn.avg_pool2d(y, (2, 3), (2, 1), (0, 1, 1, 0), count_include_pad=True),
        2,
        ["nn.avg_pool2d", "permute_dims"],
    ),
    "adaptive": (lambda y: O.nn.adaptive_avg_pool2d(y, (1, 1)), 2, ["nn.adaptive_avg_pool2d", "permute_dims"]),
    "mean with kept dims": (lambda y: O.mean(y, [2, 3], True), 2, ["mean", "permute_dims"]),
    "mean over space": (lambda y: O.mean(y, [-1, -2]), 2, ["mean"]),
    "sum over channels": (lambda y: O.sum(y, [1]), 2, ["sum"]),
    "max over a row": (lambda y: O.max(y, [3]), 1, ["permute_dims", "max"]),  # what is left would be out of order
    "softmax over channels": (lambda y: O.nn.softmax(y, 1), 2, ["nn.softmax", "permute_dims"]),
    "softmax over rows": (lambda y: O.nn.softmax(y, -1), 2, ["nn.softmax", "permute_dims"]),
    "log_softmax": (lambda y: O.nn.log_softmax(y, 2), 2, ["nn.log_softmax", "permute_dims"]),
    "concat": (lambda y: O.concat([y, O.nn.relu(y)], 1), 3, ["nn.relu", "concat", "permute_dims"]),
    "concat of rows": (lambda y: O.concat([y, y, const(data(2, 4, 5, 1))], -1), 2, ["concat", "permute_dims"]),
    "to channels last": (lambda y: O.permute_dims(y, [0, 2, 3, 1]), 2, []),
    "another transpose": (lambda y: O.permute_dims(y, [0, 3, 1, 2]), 2, ["permute_dims"]),
    "reversed": (lambda y: O.permute_dims(y), 2, ["permute_dims"]),
    "reshape": (lambda y: O.reshape(y, (2, 140)), 1, ["permute_dims", "reshape"]),
    "reshape of a pixel": (
        lambda y: O.reshape(O.mean(y, [2, 3], True), (2, 4)),
        3,
        ["mean", "reshape"],
    ),
    "resize": (
        lambda y: O.image.resize2d(y, relax.ShapeExpr([9, 11]), method="linear"),
        2,
        ["image.resize2d", "permute_dims"],
    ),
    "pad": (lambda y: O.nn.pad(y, [0, 0, 1, 0, 2, 3, 0, 4], "constant", 0.5), 2, ["nn.pad", "permute_dims"]),
    "reflecting pad": (lambda y: O.nn.pad(y, [0, 0, 0, 0, 2, 3, 0, 4], "reflect"), 2, ["nn.pad", "permute_dims"]),
    "slice of channels": (lambda y: O.strided_slice(y, [1], [1], [4], [2]), 2, ["strided_slice", "permute_dims"]),
    "slice of places": (
        lambda y: O.strided_slice(y, [-1, 0, 2], [-6, 1, 0], [-1, 2, 5], [2, 1, 3]),
        2,
        ["strided_slice", "permute_dims"],
    ),
    "kernel": (lambda y: kernel("twice", y), 2, ["call_tir twice_last", "permute_dims"]),
    "kernel with a vector": (lambda y: kernel("more", y, const(data(4))), 2, ["call_tir more_last", "permute_dims"]),
    "second convolution": (
        lambda y: conv(y, 6, 3, strides=(2, 1), padding=(1, 0, 2, 1), dilation=(1, 2)),
        2,
        ["nn.conv2d", "permute_dims"],
    ),
    "grouped": (
        lambda y: O.nn.conv2d(y, const(data(6, 2, 2, 2)), groups=2),
        2,
        ["nn.conv2d", "permute_dims"],
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_rule(name: str) -> None:
    build, count, behind = RULES[name]
    _, converted_count, found = converted(graph(lambda x: build(emit(conv(x))), SHAPE))
    assert found == ["permute_dims", "nn.conv2d", *behind]
    assert converted_count == count


def test_values_stay() -> None:
    """Every rule behind one convolution."""
    mod = graph(lambda x: _all(x), SHAPE)
    after, _, _ = converted(mod)
    assert_same(mod, after, [data(*SHAPE)])


def _all(x: relax.Expr) -> list[relax.Expr]:
    y = emit(conv(x))
    return [build(y) for build, _, _ in RULES.values()]


def test_a_network_has_transposes_at_its_edges_only() -> None:
    """Two branches, a residual sum, a computed second operand, and dims that stay open."""

    def network(x: relax.Expr, z: relax.Expr) -> relax.Expr:
        a = emit(O.nn.relu(conv(x, 4, 3, padding=(1, 1))))
        b = emit(O.add(conv(a, 4), a))
        c = emit(O.concat([b, O.nn.max_pool2d(a, (1, 1))], 1))
        gate = O.sigmoid(O.mean(c, [2, 3], True))
        return O.add(conv(emit(O.multiply(c, gate)), 2), z)

    mod = graph(network, ("n", 3, "h", "w"), ("n", 2, "h", "w"))
    after, count, found = converted(mod)
    assert count == 11
    assert found.count("permute_dims") == 3  # two inputs and the output
    assert_same(mod, after, [data(2, 3, 5, 7), data(2, 2, 5, 7)], [data(1, 3, 1, 3), data(1, 2, 1, 3)])


def test_an_operand_of_lower_rank_ends_the_part() -> None:
    mod = graph(lambda x, row: O.add(conv(x), row), SHAPE, (5, 7))
    after, count, found = converted(mod)
    assert count == 1 and found == ["permute_dims", "nn.conv2d", "permute_dims", "add"]
    assert_same(mod, after, [data(*SHAPE), data(5, 7)])


def test_a_value_read_by_both_kinds_is_transposed_once() -> None:
    def both(x: relax.Expr) -> list[relax.Expr]:
        y = emit(conv(x))
        return [O.reshape(y, (2, 140)), O.reshape(y, (280,)), O.nn.relu(y)]

    mod = graph(both, SHAPE)
    after, _, found = converted(mod)
    assert found.count("permute_dims") == 3
    assert_same(mod, after, [data(*SHAPE)])


def test_branches_read_values_in_onnx_order() -> None:
    builder = relax.BlockBuilder()
    condition = relax.Var("c", relax.TensorType((), "bool"))
    x = relax.Var("x", relax.TensorType(SHAPE, "float32"))
    with builder.function("main", [condition, x]):
        y = builder.emit(conv(x))
        branches = []
        for operator in (O.exp, O.negative):
            z = relax.Var("z", y.ty)
            block = relax.BindingBlock([relax.VarBinding(z, relax.BlockBuilder().normalize(operator(y)))])
            branches.append(relax.BlockBuilder().normalize(relax.SeqExpr([block], z)))
        result = builder.emit(relax.If(condition, *branches))
        builder.emit_func_output(builder.emit(relax.Tuple([result])))
    mod = builder.get()
    after, count, found = converted(mod)
    assert count == 1 and found == ["permute_dims", "nn.conv2d", "permute_dims", "If"]
    assert relax.analysis.well_formed(after) in (None, True)


@pytest.mark.parametrize(
    "build",
    [
        lambda x: O.nn.relu(O.add(x, const(data(1, 3, 1, 1)))),
        lambda x: O.nn.max_pool2d(x, (2, 2)),
        lambda x: O.nn.conv2d(O.permute_dims(x, [0, 2, 3, 1]), const(data(4, 3, 1, 1)), data_layout="NHWC"),
    ],
    ids=["elementwise", "pool", "channels-last already"],
)
def test_graphs_without_convolutions_stay(build) -> None:
    mod = graph(build, SHAPE)
    after, count = convert_layout(mod)
    assert count == 0
    tvm.ir.assert_structural_equal(after, mod)


def test_computed_weights_stay() -> None:
    mod = graph(O.nn.conv2d, SHAPE, (4, 3, 1, 1))
    assert convert_layout(mod)[1] == 0
