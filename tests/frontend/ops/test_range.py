"""Range, ConstantOfShape, EyeLike, OneHot and Trilu against the reference evaluator."""

from __future__ import annotations

import numpy as np
import onnx.helper as oh
import pytest
from onnx_check import Const, case, check_cases, check_model

from onnxkiln.errors import ConversionError

X = np.arange(2 * 4 * 5, dtype=np.float32).reshape(2, 4, 5) + 1


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_range_of_run_time_bounds():
    bounds = [(0, 5, 1), (3, -4, -2), (2, 2, 1), (5, 1, 1), (1, 10, 4)]
    cases = [case("Range", *(np.array(b, t) for b in item)) for item in bounds for t in ("int64", "int32", "float32")]
    cases += [case("Range", *(np.array(b, "float64") for b in (0.5, 2.0, 0.25)))]
    cases += [case("Range", np.array(s), np.array(e), Const(np.array(d))) for s, e, d in bounds]
    check_cases(cases)


def test_range_over_dims():
    check_model(
        """<ir_version: 10, opset_import: ["" : 20]>
        f (float[past] a, float[seq] b) => (int64[seq] positions, int64[n] back, int64[3] few) {
            axis = Constant<value_int=0>()
            one = Constant<value_int=1>()
            two = Constant<value_int=-2>()
            three = Constant<value_int=3>()
            sa = Shape(a)
            sb = Shape(b)
            past = Gather(sa, axis)
            seq = Gather(sb, axis)
            total = Add(past, seq)
            positions = Range(past, total, one)
            back = Range(total, axis, two)
            end = Add(past, three)
            few = Range(past, end, one)
        }""",
        [{"a": np.zeros(p, "f"), "b": np.zeros(s, "f")} for p, s in [(3, 4), (0, 1), (5, 0)]],
    )


def test_constant_of_shape():
    cases = [case("ConstantOfShape", i64(*shape)) for shape in [(2, 3), (0, 4), (1,)]]
    for dtype, value in [
        ("int64", -3),
        ("float32", 2.5),
        ("bool", True),
        ("float16", 1.5),
        ("uint8", 200),
        ("float64", 1e300),
    ]:
        fill = np.array([value], dtype)
        tensor = oh.make_tensor("v", oh.np_dtype_to_tensor_dtype(fill.dtype), [1], fill.tobytes(), raw=True)
        cases.append(case("ConstantOfShape", i64(3, 2), value=tensor))
        cases.append(case("ConstantOfShape", Const(i64(40, 50)), value=tensor))
    check_cases([*cases, case("Identity", X)])


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_matrices(dims):
    cases = [case("EyeLike", X[0], k=k, dtype=dtype, dims=dims) for k, dtype in [(0, 1), (1, 7), (-2, 11), (9, 6)]]
    cases += [
        case("Trilu", X, *k, upper=upper, dims=dims)
        for upper in (0, 1)
        for k in [
            (),
            (Const(np.array(1)),),
            (Const(np.array(-2)),),
            (Const(np.array(2**62)),),
            (Const(np.array(-(2**62))),),
        ]
    ]
    cases += [
        case("Trilu", X, np.array(-1), dims=dims),
        case("Trilu", X > 3, dims=dims),
        case("Trilu", X[:, :0], dims=dims),
    ]
    check_cases(cases)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_one_hot(dims):
    indices, values = np.array([[0, -1, 2], [3, -4, 1]]), np.array([-1.5, 2.0], np.float32)
    cases = [
        case("OneHot", indices, Const(depth), Const(values), axis=axis, dims=dims)
        for axis in (-1, 0, 1)
        for depth in (np.array(4), np.array(5))
    ]
    cases += [
        case("OneHot", indices.astype("i4"), Const(np.array(4)), Const(i64(0, 1)), dims=dims),
        case("OneHot", indices.astype("f4"), np.array(4.0, np.float32), values),
        case(
            "OneHot",
            i64(9, 1),
            Const(np.array(3)),
            Const(values),
            expected=np.array([[-1.5] * 3, [-1.5, 2, -1.5]], "f4"),
        ),
        case("OneHot", np.array(2), Const(np.array(3)), Const(values), dims=dims),
    ]
    check_cases(cases)


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (case("Range", np.array(0), np.array(4), Const(np.array(0)), expected=X), "never ends"),
        (case("EyeLike", X, expected=X), "needs a matrix"),
        (case("Trilu", X[0, 0], expected=X), "rank 2 or more"),
        (case("OneHot", i64(1), Const(np.array(2)), Const(i64(0, 1)), axis=2, expected=X), "axis 2 does not exist"),
    ],
)
def test_refusals(node, words):
    with pytest.raises(ConversionError, match=words):
        check_cases([node])
