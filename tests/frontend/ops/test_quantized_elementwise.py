"""com.microsoft's operators on quantized tensors against ONNX Runtime.

Results must be equal where the arithmetic is the same; through a transcendental function a value next to a half may
round to the neighbour.
"""

from __future__ import annotations

import numpy as np
import onnx.helper as oh
import pytest
from onnx_check import Case, Const, check_cases, run
from ort_case import by_runtime

rng = np.random.default_rng(13)
MS = "com.microsoft"


def bytes_of(dtype: type, *shape: int) -> np.ndarray:
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


def parameters(dtype: type, scale: float, zero: int, constant: bool = True) -> list:
    arrays = [np.array(scale, np.float32), np.array(zero, dtype)]
    return [Const(array) for array in arrays] if constant else arrays


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_sums_and_products(op: str, dtype: type) -> None:
    """Through the whole compiler: ONNX Runtime's sums are fused multiply-adds, which the plain pipeline has none of."""
    a, b = (grid.astype(dtype) for grid in np.meshgrid(np.arange(256), np.arange(256)))
    zeros = (127, 130, 99) if dtype == np.uint8 else (-3, 2, -29)
    scales = (0.031, 0.017, 0.06) if op == "QLinearAdd" else (0.031, 0.017, 0.02)
    items = []
    for constant in (True, False):
        pa, pb, pc = (parameters(dtype, s, z, constant) for s, z in zip(scales, zeros, strict=True))
        items.append(Case(op, [a, *pa, b, *pb, *pc], domain=MS))
    pa, pb, pc = (parameters(dtype, s, z) for s, z in zip((0.5, 0.25, 1.0), zeros, strict=True))
    items += [
        Case(op, [a, *pa, b, *pb, *pc], domain=MS),  # every other sum is a half
        Case(op, [bytes_of(dtype, 2, 3, 1), *pa, Const(bytes_of(dtype, 3, 5)), *pb, *pc], domain=MS, dims="open"),
        Case(op, [bytes_of(dtype, 2, 3), *pa, Const(bytes_of(dtype)), *pb, pc[0]], domain=MS),  # no zero point
    ]
    check_cases([by_runtime(item) for item in items], artifact=True)


def test_concat() -> None:
    sizes = ((3, 0.1, 7), (1, 0.03, 128), (4, 0.07, 0))
    parts = [(bytes_of(np.uint8, 2, n), *parameters(np.uint8, scale, zero)) for n, scale, zero in sizes]
    inputs = [*parameters(np.uint8, 0.1, 7), *(item for part in parts for item in part)]
    check_cases([by_runtime(Case("QLinearConcat", inputs, {"axis": 1}, domain=MS, dims=d)) for d in ("fixed", "first")])


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_pools(dims: str) -> None:
    x, wide = bytes_of(np.uint8, 2, 5, 9, 8), bytes_of(np.int8, 1, 3, 7, 6)
    q, out = parameters(np.uint8, 0.07, 99), parameters(np.uint8, 0.05, 101)
    signed = [*parameters(np.int8, 0.07, -9), *parameters(np.int8, 0.05, 3)]
    windows = [{"kernel_shape": [3, 2]}, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}]
    windows += [{**windows[1], "count_include_pad": 1}]
    items = [Case("QLinearAveragePool", [x, *q, *out], window, domain=MS, dims=dims) for window in windows]
    items += [
        Case("QLinearGlobalAveragePool", [x, *q, *out], domain=MS, dims=dims),
        Case("QLinearGlobalAveragePool", [x, *q, *out], {"channels_last": 1}, domain=MS, dims=dims),
        Case("QLinearGlobalAveragePool", [wide, *signed], domain=MS, dims=dims),
    ]
    check_cases([by_runtime(item) for item in items])


def functions() -> list[Case]:
    every = np.arange(256).astype(np.uint8)
    q, out = parameters(np.uint8, 0.05, 120), parameters(np.uint8, 1 / 256, 0)
    signed = [*parameters(np.int8, 0.05, -5), *parameters(np.int8, 1 / 256, -128)]
    x = bytes_of(np.uint8, 3, 4, 9)
    return [
        Case("QLinearSigmoid", [every, *q, *out], domain=MS),
        Case("QLinearSigmoid", [every.astype(np.int8), *signed], domain=MS),
        Case("QLinearLeakyRelu", [every, *q, *parameters(np.uint8, 0.03, 60)], {"alpha": 0.2}, domain=MS),
        Case("QLinearSoftmax", [x, *q, *out], {"opset": 13, "axis": -1}, domain=MS, dims="open"),
        Case("QLinearSoftmax", [x, *q, *out], {"opset": 13, "axis": 1}, domain=MS),
        Case("QLinearSoftmax", [x, *q, *out], {"opset": 12, "axis": 1}, domain=MS),
        Case("QLinearSoftmax", [x.astype(np.int8), *signed], {"opset": 13}, domain=MS),
    ]


@pytest.mark.parametrize("item", functions(), ids=lambda item: item.op_type)
def test_functions_by_one_quantum(item: Case) -> None:
    wanted = by_runtime(item).expected[0]
    node = oh.make_node(item.op_type, [f"x{i}" for i in range(5)], ["y"], domain=MS, **item.attributes)
    x = item.inputs[0]
    numbers = [
        oh.make_tensor(f"x{i}", oh.np_dtype_to_tensor_dtype(v.array.dtype), [], [v.array.item()])
        for i, v in enumerate(item.inputs[1:], 1)
    ]
    kind = oh.np_dtype_to_tensor_dtype(x.dtype)
    infos = [oh.make_tensor_value_info(name, kind, x.shape) for name in ("x0", "y")]
    graph = oh.make_graph([node], "g", infos[:1], infos[1:], numbers)
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 17), oh.make_opsetid(MS, 1)], ir_version=9)
    (got,) = run(model, {"x0": x})
    difference = np.abs(got.astype(int) - wanted.astype(int))
    assert got.dtype == wanted.dtype
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 0.02
