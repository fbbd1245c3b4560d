"""Normalisations in pieces become one operator; anything else stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import tvm
from onnx.reference import ReferenceEvaluator
from onnx_check import run_artifact
from pass_graphs import assert_same, const, data, emit, graph, operators
from tvm import relax

from onnxkiln.passes.fuse_normalization import fuse_normalization

O = relax.op  # noqa: E741
F = np.float32


def rms(x: relax.Expr, epsilon: float = 1e-5, axis: int = -1, keepdims: bool = True) -> relax.Expr:
    mean = emit(O.mean(emit(O.multiply(x, x)), axis, keepdims))
    return emit(O.divide(x, emit(O.sqrt(emit(O.add(mean, const(F(epsilon))))))))


def inverse_rms(x: relax.Expr, inverse: bool = True) -> relax.Expr:
    """Squares by Pow; a product with 1 / sqrt, or with rsqrt."""
    mean = emit(O.add(const(F(1e-6)), emit(O.mean(emit(O.power(x, const(F(2)))), [-1], True))))
    root = emit(O.divide(const(F(1)), emit(O.sqrt(mean)))) if inverse else emit(O.rsqrt(mean))
    return emit(O.multiply(root, x))


def centered(x: relax.Expr) -> relax.Expr:
    return emit(O.subtract(x, emit(O.mean(x, [-1], True))))


def live(mod: tvm.IRModule) -> list[str]:
    return operators(relax.transform.DeadCodeElimination()(mod))


@pytest.mark.parametrize(
    "normal", [rms, inverse_rms, lambda x: inverse_rms(x, False)], ids=["Div", "1 / sqrt", "rsqrt"]
)
@pytest.mark.parametrize("is_first", [False, True])
def test_rms_norm(normal, is_first: bool) -> None:
    scale = const(data(7))

    def pieces(x: relax.Expr) -> relax.Expr:
        y = normal(x)
        return O.multiply(scale, y) if is_first else O.multiply(y, scale)

    mod = graph(pieces, (2, 3, 7))
    after, count = fuse_normalization(mod)
    assert count == 1 and live(after) == ["nn.rms_norm"]
    assert_same(mod, after, [data(2, 3, 7)], [1e4 * data(2, 3, 7)])


def test_before_and_after() -> None:
    scale, shift = const(data(1, 1, 5)), data(5)

    def pieces(x: relax.Expr) -> relax.Expr:
        return O.add(emit(O.multiply(rms(centered(x), 1e-3), scale)), const(shift))

    mod = graph(pieces, ("n", "m", 5))
    after, count = fuse_normalization(mod)
    assert count == 1
    flat = const(scale.value.numpy().reshape(-1))
    wanted = graph(lambda x: O.nn.layer_norm(x, flat, const(shift), [-1], float(F(1e-3))), ("n", "m", 5))
    tvm.ir.assert_structural_equal(relax.transform.DeadCodeElimination()(after), wanted)
    assert_same(mod, after, [data(2, 3, 5) + 100], [data(1, 1, 5)])


def test_parameters_may_be_computed() -> None:
    mod = graph(lambda x, scale: O.multiply(rms(x), scale), (3, 5), (5,))
    after, count = fuse_normalization(mod)
    assert count == 1 and live(after) == ["nn.rms_norm"]
    assert_same(mod, after, [data(3, 5), data(5)])


def _read_twice(x: relax.Expr) -> list[relax.Expr]:
    y = rms(x)
    return [O.multiply(y, const(data(6))), y]


LEFT_ALONE = {
    "another axis": lambda x: O.multiply(rms(x, axis=0), const(data(6))),
    "of other squares": lambda x: O.multiply(O.divide(x, emit(O.sqrt(emit(O.add(
        emit(O.mean(emit(O.multiply(x, emit(O.exp(x)))), [-1], True)), const(F(1))))))), const(data(6))),
    "a cube": lambda x: O.multiply(O.divide(x, emit(O.sqrt(emit(O.add(
        emit(O.mean(emit(O.power(x, const(F(3)))), [-1], True)), const(F(1))))))), const(data(6))),
    "a matrix of scales": lambda x: O.multiply(rms(x), const(data(4, 6))),
    "a scale of rows": lambda x: O.multiply(rms(x), const(data(4, 1))),
    "one number": lambda x: O.multiply(rms(x), const(F(2))),
    "more axes": lambda x: O.multiply(rms(x), const(data(2, 1, 6))),
    "read elsewhere": _read_twice,
    "a root over something": lambda x: O.multiply(emit(O.divide(emit(O.sqrt(emit(O.add(
        emit(O.mean(emit(O.multiply(x, x)), [-1], True)), const(F(1)))))), x)), const(data(6))),
}  # fmt: skip


@pytest.mark.parametrize("function", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_left_alone(function) -> None:
    mod = graph(function, (4, 6))
    after, count = fuse_normalization(mod)
    assert count == 0
    tvm.ir.assert_structural_equal(after, mod)


def test_other_types_are_left_alone() -> None:
    def pieces(x: relax.Expr) -> relax.Expr:
        mean = emit(O.mean(emit(O.multiply(x, x)), [-1], True))
        root = emit(O.sqrt(emit(O.add(mean, const(np.float64(1))))))
        return O.multiply(emit(O.divide(x, root)), const(data(6, dtype="float64")))

    mod = graph(pieces, (4, 6), dtype="float64")
    assert fuse_normalization(mod)[1] == 0


MODEL = """<ir_version: 8, opset_import: ["" : 17]>
g (float[n, m, WIDTH] x, float[WIDTH] scale) => (float[n, m, WIDTH] y, float[n, m, WIDTH] z) {
  two = Constant<value_float = 2.0>()
  one = Constant<value_float = 1.0>()
  epsilon = Constant<value_float = 0.00001>()
  square = Pow(x, two)
  squares = ReduceMean<axes = [-1]>(square)
  more = Add(squares, epsilon)
  root = Sqrt(more)
  inverse = Div(one, root)
  normal = Mul(x, inverse)
  y = Mul(scale, normal)
  mean = ReduceMean<axes = [-1]>(x)
  centered = Sub(x, mean)
  power = Mul(centered, centered)
  variance = ReduceMean<axes = [-1]>(power)
  greater = Add(variance, epsilon)
  deviation = Sqrt(greater)
  divided = Div(centered, deviation)
  scaled = Mul(divided, scale)
  z = Add(scaled, scale)
}"""


@pytest.mark.parametrize("width", [1, 13, 64])
def test_whole_models(width: int, tmp_path: Path) -> None:
    """Open rows, none of them too, against ONNX's reference."""
    model = onnx.parser.parse_model(MODEL.replace("WIDTH", str(width)))
    for shape in ((2, 3, width), (1, 1, width), (0, 3, width)):
        feeds = {"x": data(*shape) * 3 + 1, "scale": data(width)}
        expected = ReferenceEvaluator(model).run(None, feeds)
        for actual, wanted in zip(run_artifact(model, feeds), expected, strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)
