"""QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear against the reference evaluator and ONNX Runtime."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx_check import Case, Const, case, check_cases, run
from ort_case import by_runtime

from onnxkiln.errors import ConversionError

rng = np.random.default_rng(11)
NARROW = [np.int8, np.uint8, np.int16, np.uint16]


def floats(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def ties(dtype: type) -> np.ndarray:
    """Halves around 0 and around both ends of the type, what is far outside, and infinities."""
    info = np.iinfo(dtype)
    ends = [info.min, info.max, info.min - 1, info.max + 1]
    halves = np.array([end + half for end in [0, 1, 2, 3, -1, -2, *ends] for half in (-0.5, 0, 0.5)])
    return np.concatenate([halves, [1e9, -1e9, 1e30, -1e30, np.inf, -np.inf]]).astype(np.float32)


@pytest.mark.parametrize("dtype", NARROW)
def test_rounds_half_to_even_and_saturates(dtype: type) -> None:
    info, x = np.iinfo(dtype), ties(dtype)
    one, zero = np.float32(1), np.array(3, dtype)
    wide = np.clip(np.rint(x.astype(np.float64)), -1e6, 1e6)
    expected = np.clip(wide + 3, info.min, info.max).astype(dtype)
    check_cases(
        [
            case("QuantizeLinear", x, Const(one), Const(zero), expected=expected),
            case("QuantizeLinear", x, one, zero, expected=expected),
        ],
        opset=21,
    )  # fmt: skip


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_per_tensor_per_axis_and_blocked(dims: str) -> None:
    x, q = 9 * floats(2, 6, 5), rng.integers(-128, 128, (2, 6, 5)).astype(np.int8)
    scale, zero = np.abs(floats(6)) + 0.1, rng.integers(-9, 9, 6).astype(np.int8)
    blocks, zeros = np.abs(floats(2, 3, 5)) + 0.1, rng.integers(-9, 9, (2, 3, 5)).astype(np.int8)
    fives, last = np.abs(floats(5)) + 0.1, np.abs(floats(2, 6, 2)) + 0.1
    cases = []
    for op, data in (("QuantizeLinear", x), ("DequantizeLinear", q)):
        cases += [
            case(op, data, Const(scale[0]), Const(zero[0]), dims=dims),
            case(op, data, scale[:1], zero[:1], dims=dims if dims == "fixed" else "first"),
            case(op, data, Const(scale), Const(zero), axis=1),
            case(op, data, scale, zero, axis=-2),
            case(op, data, Const(fives), None if op[0] == "D" else Const(np.zeros(5, np.int8)), axis=2),
            case(op, data, Const(blocks), Const(zeros), axis=1, block_size=2),
            case(op, data, blocks, zeros, axis=1, block_size=2),
            case(op, data, last, None if op[0] == "D" else np.zeros((2, 6, 2), np.int8), axis=-1, block_size=3),
        ]
    check_cases(cases, opset=21)


def test_types_of_the_output() -> None:
    x, scale = 99 * floats(4, 5), np.float32(0.37)
    i32 = rng.integers(-9999, 9999, (4, 5)).astype(np.int32)
    check_cases(
        [
            case("QuantizeLinear", x, scale),
            case("QuantizeLinear", x, scale, output_dtype=onnx.TensorProto.INT16),
            case("QuantizeLinear", i32, np.float32(7), np.int8(2)),
            case("DequantizeLinear", i32, scale),
            case("DequantizeLinear", rng.integers(0, 65535, (4, 5)).astype(np.uint16), scale, np.uint16(99)),
            case("DequantizeLinear", rng.integers(0, 255, (4, 5)).astype(np.uint8), scale, np.uint8(0)),
            case(
                "DequantizeLinear",
                i32.astype(np.int8),
                scale,
                output_dtype=onnx.TensorProto.FLOAT16,
                expected=(i32.astype(np.int8) * scale).astype(np.float16),
            ),
        ],
        opset=23,
    )
    expected = (i32 * scale).astype(np.float32)
    old = [case("QuantizeLinear", x, scale, np.uint8(7)), case("DequantizeLinear", i32, scale, expected=expected)]
    check_cases(old, opset=10)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_16_bit_floats(dtype: type) -> None:
    """The quotient is rounded to the scale's type before it is rounded to an integer."""
    x, scale = (30 * floats(500)).astype(dtype), np.array(0.3, dtype)
    wanted = np.rint((x.astype(np.float32) / scale.astype(np.float32)).astype(dtype).astype(np.float32))
    q = rng.integers(-128, 128, 40).astype(np.int8)
    real = ((q.astype(np.float32) - 5) * scale.astype(np.float32)).astype(dtype)
    check_cases(
        [
            case("QuantizeLinear", x, scale, np.int16(3), expected=(wanted + 3).astype(np.int16)),
            case("DequantizeLinear", q, scale, np.int8(5), expected=real),
        ],
        opset=21,
        artifact=True,  # its passes round bfloat16; TVM's own leave casts to it and back out
    )


def test_dynamic_quantize_linear() -> None:
    """ONNX Runtime's answers; ranges without 0 are widened to it."""
    arrays = [floats(3, 5), np.abs(floats(7)), -np.abs(floats(2, 2, 2)), np.zeros((2, 3), np.float32), floats(1)]
    cases = [by_runtime(Case("DynamicQuantizeLinear", [x], {}, 3, dims)) for x in arrays for dims in ("fixed", "open")]
    check_cases(cases)
    large = Case("DynamicQuantizeLinear", [floats(2, 64, 7)], {}, 3, "open")
    check_cases([*cases[:2], by_runtime(large)], artifact=True)


def test_com_microsoft() -> None:
    x, q = 9 * floats(2, 6), rng.integers(0, 255, (2, 6)).astype(np.uint8)
    one, scales = np.float32(0.1), np.abs(floats(6)) + 0.1
    items = [
        Case("QuantizeLinear", [x, one, np.uint8(9)], domain="com.microsoft"),
        Case("QuantizeLinear", [x, Const(scales), Const(np.zeros(6, np.int16))], {"axis": 1}, domain="com.microsoft"),
        Case("DequantizeLinear", [q, one, np.uint8(9)], domain="com.microsoft"),
        Case("DequantizeLinear", [q, Const(scales), Const(q[0])], {"axis": 1}, domain="com.microsoft"),
    ]
    check_cases([by_runtime(item) for item in items])


def test_constants_are_dequantized_while_compiling() -> None:
    from onnx_check import Compiled

    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21, "com.microsoft": 1]>'
        "g (float[2] x) => (float[2] y) <int8[2] w = {3, -4}, float s = {0.5}, int8 z = {1}>"
        "{ r = com.microsoft.DequantizeLinear(w, s, z) y = Add(x, r) }"
    )
    compiled = Compiled(model)
    assert "int8" not in str(compiled.imported.module)
    np.testing.assert_array_equal(compiled({"x": np.zeros(2, np.float32)})[0], [1.0, -2.5])


def test_refusals_say_what_is_taken() -> None:
    x = np.ones(3, np.float32)
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> g (float[3] x, float s) => (float8e4m3fn[3] y)'
        f"{{ y = QuantizeLinear<output_dtype = {onnx.TensorProto.FLOAT8E4M3FN}>(x, s) }}"
    )
    with pytest.raises(ConversionError, match=r"float8_e4m3fn is not supported yet; int8, uint8"):
        run(model, {"x": x, "s": np.float32(1)})
    with pytest.raises(ConversionError, match=r"shape \[4\] don't fit axis 0 of \[3\]"):
        check_cases([case("DequantizeLinear", np.ones(3, np.int8), np.ones(4, np.float32), axis=0, expected=x)], 21)
