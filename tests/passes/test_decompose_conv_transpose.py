"""Transposed convolutions become dense ones and an interleave, for every stride, padding and output padding."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import tvm
from onnx import helper as oh
from pass_graphs import Plain, const, data, graph, operators
from tvm import relax

from onnxkiln.passes.decompose_conv_transpose import decompose_conv_transpose

O = relax.op  # noqa: E741


def transposed(x: relax.Expr, weight: np.ndarray, **attributes) -> relax.Expr:
    operator = O.nn.conv2d_transpose if weight.ndim == 4 else O.nn.conv3d_transpose
    return operator(x, const(weight), **attributes)


def reference(x: np.ndarray, weight: np.ndarray, attributes: dict) -> np.ndarray:
    names = {"strides": "strides", "padding": "pads", "output_padding": "output_padding", "groups": "group"}
    renamed = {names[key]: value for key, value in attributes.items()}
    node = oh.make_node("ConvTranspose", ["x", "w"], ["y"], **renamed)
    infos = [oh.make_tensor_value_info(name, 1, array.shape) for name, array in (("x", x), ("w", weight))]
    model_graph = oh.make_graph([node], "g", infos, [oh.make_tensor_value_info("y", 1, None)])
    model = oh.make_model(model_graph, opset_imports=[oh.make_opsetid("", 20)], ir_version=10)
    return ort.InferenceSession(model.SerializeToString()).run(None, {"x": x, "w": weight})[0]


CASES = [
    # kernel, attributes
    ((1, 1), {}),
    ((3, 2), {}),
    ((2, 2), {"strides": (2, 2)}),
    ((3, 3), {"strides": (2, 2), "padding": (1, 1, 1, 1), "output_padding": (1, 1)}),
    ((4, 5), {"strides": (2, 3), "padding": (0, 1, 2, 1)}),
    ((3, 4), {"strides": (3, 1), "padding": (2, 0, 1, 3)}),
    ((2, 3), {"strides": (3, 2), "output_padding": (2, 1)}),  # taps further apart than the kernel is wide
    ((1, 2), {"strides": (4, 3)}),
]


def test_every_form_is_what_onnx_runtime_computes() -> None:
    sizes = [(1, 2, 5, 4), (3, 2, 2, 1), (1, 2, 2, 7)]
    weights = [data(2, 3, *kernel) for kernel, _ in CASES]
    for shapes in [("n", 2, "h", "w")], [sizes[0]]:
        mod = graph(
            lambda x: [transposed(x, weight, **attrs) for weight, (_, attrs) in zip(weights, CASES, strict=True)],
            *shapes,
        )
        after, count = decompose_conv_transpose(mod)
        assert count == len(CASES)
        assert relax.analysis.well_formed(after) in (None, True)
        run = Plain(after)
        for size in sizes if shapes[0][0] == "n" else sizes[:1]:
            x = data(*size)
            for got, weight, (_, attrs) in zip(run(x), weights, CASES, strict=True):
                want = reference(x, weight, attrs)
                np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5, err_msg=f"{size}, {weight.shape}, {attrs}")


GROUPED = [
    ((3, 2), {"groups": 2}),
    ((4, 3), {"strides": (2, 3), "padding": (1, 0, 2, 1), "groups": 2}),
    ((4, 4), {"strides": (2, 2), "padding": (1, 1, 1, 1), "groups": 4}),  # enlarges each channel by itself
]


@pytest.mark.parametrize("out", [1, 3])
def test_groups(out: int) -> None:
    weights = [data(4, out, *kernel) for kernel, _ in GROUPED]
    pairs = list(zip(weights, (attrs for _, attrs in GROUPED), strict=True))
    after, count = decompose_conv_transpose(
        graph(lambda x: [transposed(x, weight, **attrs) for weight, attrs in pairs], ("n", 4, "h", "w"))
    )
    assert count == len(GROUPED)
    x = data(2, 4, 3, 5)
    for got, (weight, attrs) in zip(Plain(after)(x), pairs, strict=True):
        np.testing.assert_allclose(got, reference(x, weight, attrs), rtol=1e-4, atol=1e-5, err_msg=str(attrs))


VOLUMES = [
    ((1, 2, 3), {}),
    ((2, 2, 2), {"strides": (2, 2, 2)}),
    ((3, 4, 2), {"strides": (2, 3, 1), "padding": (1, 0, 1, 0, 2, 0), "output_padding": (1, 0, 0)}),
]


def test_three_dimensions() -> None:
    weights = [data(2, 3, *kernel) for kernel, _ in VOLUMES]
    pairs = list(zip(weights, (attrs for _, attrs in VOLUMES), strict=True))
    after, count = decompose_conv_transpose(
        graph(lambda x: [transposed(x, weight, **attrs) for weight, attrs in pairs], ("n", 2, 3, "h", "w"))
    )
    assert count == len(VOLUMES)
    x = data(2, 2, 3, 2, 5)
    for got, (weight, attrs) in zip(Plain(after)(x), pairs, strict=True):
        np.testing.assert_allclose(got, reference(x, weight, attrs), rtol=1e-4, atol=1e-5, err_msg=str(attrs))


def test_after() -> None:
    mod = graph(lambda x: transposed(x, data(2, 3, 4, 4), strides=(2, 2)), (1, 2, 5, 5))
    after, count = decompose_conv_transpose(mod)
    assert count == 1
    assert operators(after) == ["nn.conv2d", "call_tir interleave"]


@pytest.mark.parametrize(
    "build",
    [
        lambda x: transposed(x, data(2, 2, 3, 3), dilation=(2, 2)),
        lambda x: O.nn.conv2d(x, const(data(2, 2, 3, 3))),
    ],
    ids=["dilation", "dense"],
)
def test_other_convolutions_stay(build) -> None:
    mod = graph(build, (1, 2, 5, 5))
    after, count = decompose_conv_transpose(mod)
    assert count == 0
    tvm.ir.assert_structural_equal(after, mod)


def test_computed_weights_stay() -> None:
    mod = graph(O.nn.conv2d_transpose, (1, 2, 5, 5), (2, 3, 3, 3))
    assert decompose_conv_transpose(mod)[1] == 0
