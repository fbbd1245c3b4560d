"""Row-wise operators go through vector lanes, over any row length, with ONNX Runtime's answers at the edges."""

from __future__ import annotations

import ml_dtypes  # noqa: F401  (NumPy learns bfloat16)
import numpy as np
import pytest
from relax_modules import Compiled, fused, module_of, primfuncs
from tvm import relax

from onnxkiln import targets

op = relax.op
LENGTHS = [0, 1, 2, 15, 16, 17, 63, 64, 65, 131]
RNG = np.random.default_rng(3)


def _data(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def softmax(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    if x.shape[-1] == 0:
        return x
    with np.errstate(invalid="ignore"):
        powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def layer_norm(x: np.ndarray, scale: np.ndarray, shift: np.ndarray, axes: tuple[int, ...] = (-1,)) -> np.ndarray:
    x = x.astype(np.float64)
    centred = x - x.mean(axes, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axes, keepdims=True) + 1e-5) * scale + shift


def rms_norm(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * scale


ROW_FUNCTIONS = {
    "softmax": (lambda x: op.nn.softmax(x, -1), softmax, 0),
    "log_softmax": (lambda x: op.nn.log_softmax(x, -1), lambda x: np.log(softmax(x)), 0),
    "rms_norm": (lambda x, s: op.nn.rms_norm(x, s, [-1], 1e-5), rms_norm, 1),
    "layer_norm": (lambda x, s, b: op.nn.layer_norm(x, s, b, [-1], 1e-5), layer_norm, 2),
}


@pytest.mark.parametrize("name", sorted(ROW_FUNCTIONS))
def test_one_kernel_serves_every_length(name: str) -> None:
    operator, reference, parameters = ROW_FUNCTIONS[name]
    shapes = [("n", 2, "k"), *[("k",)] * parameters]
    compiled = Compiled(module_of(operator, *[(shape, "float32") for shape in shapes]))
    assert len(compiled.rows) == 1
    assert compiled.rows[0].vectorized
    for length in LENGTHS:
        arrays = [_data(3, 2, length), *[_data(length) for _ in range(parameters)]]
        if length:
            np.testing.assert_allclose(compiled(*arrays), reference(*arrays), rtol=2e-5, atol=2e-5)
        else:
            assert compiled(*arrays).shape == (3, 2, 0)


@pytest.mark.parametrize("length", [3, 40, 131])
@pytest.mark.parametrize("name", sorted(ROW_FUNCTIONS))
def test_known_lengths(name: str, length: int) -> None:
    operator, reference, parameters = ROW_FUNCTIONS[name]
    arrays = [_data(2, 3, length), *[_data(length) for _ in range(parameters)]]
    compiled = Compiled(module_of(operator, *[(array.shape, "float32") for array in arrays]))
    assert len(compiled.reports) == 1 and compiled.rows
    np.testing.assert_allclose(compiled(*arrays), reference(*arrays), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("shape", [(2, 3, 37), ("n", 3, "k")])
def test_epilogues_join_the_rows(shape: tuple) -> None:
    def attention(x: relax.Expr, mask: relax.Expr) -> relax.Expr:
        return op.multiply(op.nn.softmax(op.add(x, mask), -1), mask)

    compiled = Compiled(module_of(attention, (shape, "float32"), (shape, "float32")))
    assert [report.name for report in compiled.rows] == ["fused_softmax_multiply"]
    x, mask = _data(2, 3, 37), _data(2, 3, 37)
    np.testing.assert_allclose(compiled(x, mask), softmax(x + mask) * mask, rtol=2e-5, atol=1e-6)


def test_layer_norm_between_add_and_relu() -> None:
    def block(x: relax.Expr, scale: relax.Expr, shift: relax.Expr) -> relax.Expr:
        return op.nn.relu(op.nn.layer_norm(op.add(x, x), scale, shift, [-1], 1e-5))

    arrays = [_data(4, 50), _data(50), _data(50)]
    compiled = Compiled(module_of(block, *[(array.shape, "float32") for array in arrays]))
    assert [report.name for report in compiled.rows] == ["fused_layer_norm_relu"]
    want = np.maximum(layer_norm(2 * arrays[0].astype(np.float64), *arrays[1:]), 0)
    np.testing.assert_allclose(compiled(*arrays), want, rtol=2e-5, atol=2e-5)


def test_prologues_join_reductions() -> None:
    compiled = Compiled(module_of(lambda x: op.mean(op.multiply(x, x), [-1]), (("n", 50), "float32")))
    x = _data(7, 50)
    assert len(compiled.reports) == 1 and compiled.rows
    np.testing.assert_allclose(compiled(x), (x.astype(np.float64) ** 2).mean(-1), rtol=1e-6)


def test_several_innermost_axes() -> None:
    arrays = [_data(3, 5, 7), _data(5, 7), _data(5, 7)]
    operator = lambda x, s, b: op.nn.layer_norm(x, s, b, [-2, -1], 1e-5)  # noqa: E731
    compiled = Compiled(module_of(operator, *[(array.shape, "float32") for array in arrays]))
    assert compiled.rows
    np.testing.assert_allclose(compiled(*arrays), layer_norm(*arrays, axes=(-2, -1)), rtol=2e-5, atol=2e-5)


REDUCTIONS = {kind: getattr(np, kind) for kind in ("sum", "mean", "max", "min", "prod", "std")} | {"variance": np.var}


@pytest.mark.parametrize("axes, keepdims", [([-1], True), ([1, 2], False), (None, True), (None, False)])
@pytest.mark.parametrize("kind", sorted(REDUCTIONS))
def test_reductions(kind: str, axes: list[int] | None, keepdims: bool) -> None:
    x = _data(3, 2, 37)
    compiled = Compiled(module_of(lambda p: getattr(op, kind)(p, axes, keepdims), (x.shape, "float32")))
    want = REDUCTIONS[kind](x.astype(np.float64), axis=tuple(axes) if axes else None, keepdims=keepdims)
    got = compiled(x)
    assert compiled.rows and got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["sum", "mean", "max", "min", "prod"])
def test_reductions_of_open_length(kind: str) -> None:
    compiled = Compiled(module_of(lambda p: getattr(op, kind)(p, [-1]), (("n", 2, "k"), "float32")))
    for length in LENGTHS:
        x = _data(3, 2, length)
        with np.errstate(invalid="ignore"):
            if length or kind in ("sum", "prod"):
                want = REDUCTIONS[kind](x.astype(np.float64), axis=-1)
            else:
                want = np.full((3, 2), {"mean": np.nan, "max": -np.inf, "min": np.inf}[kind])
        np.testing.assert_allclose(compiled(x), want, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(4, 3, 40), ("n", 3, "k")])
def test_nan_comes_through_and_masked_rows_are_nan(shape: tuple) -> None:
    cases = {
        "max": (lambda p: op.max(p, [-1]), lambda x: x.max(-1)),
        "min": (lambda p: op.min(p, [-1]), lambda x: x.min(-1)),
        "softmax": ROW_FUNCTIONS["softmax"][:2],
    }
    for position in (0, 20, 39):
        x = _data(4, 3, 40)
        x[0, 0, position], x[1, 1, position], x[2, 2, position] = np.nan, np.inf, -np.inf
        x[1, 0, position] = -np.float32(np.nan)
        x[3, 0], x[3, 1] = -np.inf, np.finfo(np.float32).min
        for name, (operator, reference) in cases.items():
            got = Compiled(module_of(operator, (shape, "float32")))(x)
            np.testing.assert_allclose(got, reference(x), rtol=1e-5, err_msg=f"{name}, {position}")


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
def test_integers_are_exact(dtype: str) -> None:
    x = RNG.integers(-100 if dtype[0] == "i" else 0, 100, (3, 43)).astype(dtype)
    for kind in ("sum", "prod", "max", "min"):
        compiled = Compiled(module_of(lambda p, kind=kind: getattr(op, kind)(p, [-1]), (x.shape, dtype)))
        reference = REDUCTIONS[kind]
        want = reference(x, axis=-1, dtype=dtype) if kind in ("sum", "prod") else reference(x, axis=-1)
        assert compiled.rows
        np.testing.assert_array_equal(compiled(x), want)


@pytest.mark.parametrize("dtype, tolerance", [("float16", 1e-3), ("bfloat16", 8e-3), ("float64", 1e-12)])
@pytest.mark.parametrize("length", [5, 40])
def test_other_floats(dtype: str, tolerance: float, length: int) -> None:
    x = _data(3, length).astype(dtype)
    for operator, reference in (ROW_FUNCTIONS["softmax"][:2], (lambda p: op.mean(p, [-1]), lambda v: v.mean(-1))):
        compiled = Compiled(module_of(operator, (x.shape, dtype)))
        want = reference(x.astype(np.float64))
        assert compiled.rows
        np.testing.assert_allclose(compiled(x).astype(np.float64), want, rtol=tolerance, atol=tolerance)


def test_half_precision_sums_in_float32() -> None:
    x = np.full((2, 8192), 1.0, np.float16)
    compiled = Compiled(module_of(lambda p: op.mean(p, [-1]), (x.shape, "float16")))
    np.testing.assert_array_equal(compiled(x), np.float16([1, 1]))


def test_outer_axes_stay_with_tvm() -> None:
    for operator in (lambda x: op.sum(x, [0]), lambda x: op.nn.softmax(x, 0), lambda x: op.max(x, [0, 2])):
        mod = fused(module_of(operator, ((3, 4, 5), "float32")), 16)
        assert all("row_reduce" not in str(function) for function in primfuncs(mod).values())


@pytest.mark.skipif(targets.host_architecture() != "x86_64", reason="x86-64 code")
@pytest.mark.parametrize("target", ["cpu:x86-64-v1", "cpu:x86-64-v3"])
def test_narrower_machines(target: str) -> None:
    if targets.missing_features(targets.parse(target)[0].required_features):
        pytest.skip(f"this machine can't run {target}")
    x = _data(3, 37)
    for operator, reference in (ROW_FUNCTIONS["softmax"][:2], (lambda p: op.max(p, [-1]), lambda v: v.max(-1))):
        compiled = Compiled(module_of(operator, (x.shape, "float32")), target)
        np.testing.assert_allclose(compiled(x), reference(x), rtol=1e-5)
