"""3-D convolutions become 2-D ones over unfolded depths; what can't be unfolded stays as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.helper as oh
import tvm
from kernel_cases import Kernels
from onnx.reference import ReferenceEvaluator
from pass_graphs import const, data, emit, graph, operators
from tvm import relax

from onnxkiln.passes.convert_layout import convert_layout

O = relax.op  # noqa: E741

CASES: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((1, 3, 5, 7, 11), (4, 3, 3, 3, 3), {"padding": (1, 1, 1, 1, 1, 1)}),
    ((2, 2, 7, 6, 5), (17, 2, 2, 3, 1), {"strides": (2, 1, 2), "padding": (0, 1, 0, 1, 0, 2)}),
    ((1, 16, 6, 5, 5), (3, 16, 2, 1, 2), {"dilation": (3, 1, 2)}),
    ((1, 1, 1, 4, 4), (2, 1, 1, 3, 3), {}),
    ((1, 5, 4, 1, 1), (5, 5, 4, 1, 1), {"strides": (3, 1, 1)}),
    ((2, 4, 5, 6, 7), (6, 2, 3, 3, 2), {"groups": 2, "padding": (1, 0, 1, 2, 1, 0), "strides": (2, 1, 1)}),
    ((1, 17, 4, 5, 3), (17, 1, 3, 3, 3), {"groups": 17, "padding": (1, 1, 1, 1, 1, 1)}),
]


def _convolution(weight: np.ndarray, options: dict[str, Any]) -> Any:
    return lambda x: O.nn.relu(emit(O.nn.conv3d(x, const(weight), **options)))


def _expected(x: np.ndarray, weight: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    names = {"padding": "pads", "strides": "strides", "dilation": "dilations", "groups": "group"}
    node = oh.make_node("Conv", ["x", "w"], ["y"], **{names[key]: value for key, value in options.items()})
    infos = [oh.make_tensor_value_info(name, 1, array.shape) for name, array in (("x", x), ("w", weight))]
    model = oh.make_model(oh.make_graph([node], "g", infos, [oh.make_tensor_value_info("y", 1, None)]))
    return np.maximum(ReferenceEvaluator(model).run(None, {"x": x, "w": weight})[0], 0)


def test_before_after() -> None:
    shape, weight, options = CASES[0]
    after, count = convert_layout(graph(_convolution(data(*weight), options), shape))
    assert count == 2  # ReLU too
    assert operators(after) == [
        *["permute_dims", "nn.pad", "strided_slice", "strided_slice", "strided_slice", "concat", "reshape"],
        *["nn.conv2d", "reshape", "nn.relu", "permute_dims"],
    ]


def test_groups_are_sums() -> None:
    shape, weight, options = (1, 4, 5, 6, 7), (4, 2, 2, 3, 3), {"groups": 2}
    after, _ = convert_layout(graph(_convolution(data(*weight), options), shape))
    found = operators(after)
    assert found.count("nn.conv2d") == 2 and found.count("add") == 1 and found.count("nn.conv3d") == 0


def test_left_alone() -> None:
    computed = graph(O.nn.conv3d, (1, 4, 5, 6, 7), (4, 4, 3, 3, 3))
    weight = const(data(2, 4, 1, 1, 1, dtype="float64"))
    double = graph(lambda x: O.nn.conv3d(x, weight), (1, 4, 2, 2, 2), dtype="float64")
    for before in (computed, double):
        after, count = convert_layout(before)
        assert count == 0
        tvm.ir.assert_structural_equal(after, before)


def _opened(index: int, shape: tuple[int, ...]) -> tuple[int | str, ...]:
    return f"n{index}", shape[1], f"d{index}" if index % 2 else shape[2], f"h{index}", f"w{index}"


def test_numbers() -> None:
    """Batch, height and width open, of some the depth too."""
    weights = [data(*weight) for _, weight, _ in CASES]
    kernels = Kernels(
        graph(
            lambda *xs: [_convolution(w, case[2])(x) for x, w, case in zip(xs, weights, CASES, strict=True)],
            *[_opened(i, case[0]) for i, case in enumerate(CASES)],
        )
    )
    arrays = [data(*shape) for shape, _, _ in CASES]
    for got, x, weight, (_, _, options) in zip(kernels(*arrays), arrays, weights, CASES, strict=True):
        np.testing.assert_allclose(got, _expected(x, weight, options), rtol=1e-3, atol=1e-4, err_msg=str(options))
