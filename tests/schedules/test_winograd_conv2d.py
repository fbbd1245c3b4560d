"""Winograd convolution against ONNX Runtime, where its tiles fit and where they don't, and its error bound."""

import numpy as np
import onnxruntime
import pytest
import tvm
from onnx import TensorProto, helper
from tvm import te, tirx, topi

from onnxkiln.passes import lower, tir_pipeline
from onnxkiln.schedules import winograd_conv2d
from onnxkiln.schedules.template import schedule_function
from onnxkiln.targets import parse

TARGET = parse("cpu")[0]


def reference(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """ReLU(Conv(x)) with a padding of 1, NCHW."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4), helper.make_node("Relu", ["y"], ["z"])]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xwz"]
    graph = helper.make_graph(nodes, "conv", infos[:2], infos[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x, "w": weight})[0]


def build(shape: tuple, out_channels: int):
    """The scheduled, compiled kernel over [N, H, W, C] with a ReLU fused; dims may be variables."""
    _, height, width, channels = shape
    tile_rows, tile = winograd_conv2d.block_shape(height, width, channels, out_channels, TARGET)
    data = te.placeholder(shape, name="data")
    weight = te.placeholder((6, 6, -(-out_channels // 16), channels, 16), name="weight")
    conv = winograd_conv2d.winograd_conv2d(data, weight, out_channels, [1] * 4, tile_rows, tile)
    scheduled = schedule_function(te.create_prim_func([data, weight, topi.nn.relu(conv)]), TARGET)
    assert scheduled.template == winograd_conv2d.NAME, scheduled.reason
    assert scheduled.vectorized
    mod = tvm.IRModule({"main": scheduled.function.with_attr("global_symbol", "main")})
    with tvm.transform.PassContext(config=lower.BUILD_CONFIG):
        return tvm.tirx.build(mod, tvm.target.Target(TARGET.tvm_json()), pipeline=tir_pipeline.register())


def error(kernel, n: int, height: int, width: int, channels: int, out_channels: int) -> float:
    """Largest difference from ONNX Runtime, relative to the largest output."""
    rng = np.random.default_rng(height * 31 + width)
    x = rng.standard_normal((n, channels, height, width)).astype(np.float32)
    weight = (rng.standard_normal((out_channels, channels, 3, 3)) / np.sqrt(9 * channels)).astype(np.float32)
    expected = reference(x, weight).transpose(0, 2, 3, 1)
    out = tvm.runtime.tensor(np.full(expected.shape, np.nan, np.float32))
    kernel["main"](
        tvm.runtime.tensor(np.ascontiguousarray(x.transpose(0, 2, 3, 1))),
        tvm.runtime.tensor(winograd_conv2d.pack(weight)),
        out,
    )
    return float(np.abs(out.numpy() - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("size", [(1, 13, 11, 32, 24), (2, 16, 16, 32, 40), (1, 30, 5, 48, 32)])
def test_fixed_sizes(size: tuple) -> None:
    n, height, width, channels, out_channels = size
    assert error(build((n, height, width, channels), out_channels), *size) < 3e-5


def test_one_kernel_serves_every_size() -> None:
    n, height, width = (tirx.Var(name, "int64") for name in "nhw")
    kernel = build((n, height, width, 32), 24)
    for sizes in ((1, 17, 23), (2, 12, 4), (1, 1, 1), (3, 5, 29)):
        assert error(kernel, *sizes, 32, 24) < 3e-5, sizes


def test_weights_are_transformed_in_double_precision() -> None:
    weight = np.random.default_rng(0).standard_normal((16, 16, 3, 3)).astype(np.float32)
    packed = winograd_conv2d.pack(weight)
    corner = weight[:, :, 0, 0] / np.float32(16)
    np.testing.assert_allclose(packed[0, 0, 0].T, corner, rtol=1e-6)


def test_where_it_pays() -> None:
    def pays(channels: int, out_channels: int, rows: object, columns: object) -> bool:
        return winograd_conv2d.pays(channels, out_channels, rows, columns, parse("cpu:x86-64-v4")[0])

    open_size = tirx.Var("h", "int64")
    assert pays(64, 64, 56, 56)
    assert not pays(512, 512, 7, 7), "too few tiles to use each weight for"
    assert not pays(3, 64, 56, 56), "the first layer has no vector of channels"
    assert pays(64, 24, open_size, open_size)
    assert not pays(512, 512, open_size, open_size), "weights that leave the cache between rows of tiles"
