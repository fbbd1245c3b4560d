"""Winograd convolution against ONNX Runtime, where its tiles fit and where they don't, and its error bound."""

import numpy as np
import onnxruntime
import pytest
import tvm
from onnx import TensorProto, helper
from tvm import te, tirx, topi

from onnxkiln.passes import lower, tir_pipeline
from onnxkiln.schedules import winograd_conv2d, winograd_plan
from onnxkiln.schedules.template import schedule_function
from onnxkiln.targets import Target, parse

TARGET = parse("cpu")[0]


def reference(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """ReLU(Conv(x)) with a padding of 1, NCHW."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4), helper.make_node("Relu", ["y"], ["z"])]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xwz"]
    graph = helper.make_graph(nodes, "conv", infos[:2], infos[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x, "w": weight})[0]


def build(shape: tuple, out_channels: int, transform: winograd_plan.Transform, target: Target = TARGET):
    """The scheduled, compiled kernel over [N, H, W, C] with a ReLU fused; dims may be variables."""
    _, height, width, channels = shape
    plan = winograd_plan.plan_for(transform, channels, out_channels, height, width, target)
    dims = [tirx.const(dim, "int64") if isinstance(dim, int) else dim for dim in shape]  # as graphs have them
    data = te.placeholder(dims, name="data")
    weight = te.placeholder((transform.size, transform.size, -(-out_channels // 16), channels, 16), name="weight")
    sizes = (plan.transform.out, plan.tile_rows, plan.tile)
    conv = winograd_conv2d.winograd_conv2d(data, weight, out_channels, [1] * 4, *sizes)
    scheduled = schedule_function(te.create_prim_func([data, weight, topi.nn.relu(conv)]), target)
    assert scheduled.template == winograd_conv2d.NAME, scheduled.reason
    assert scheduled.vectorized
    mod = tvm.IRModule({"main": scheduled.function.with_attr("global_symbol", "main")})
    with tvm.transform.PassContext(config=lower.BUILD_CONFIG):
        return tvm.tirx.build(mod, tvm.target.Target(target.tvm_json()), pipeline=tir_pipeline.register())


def error(kernel, n: int, height: int, width: int, channels: int, out_channels: int, transform) -> float:
    """Largest difference from ONNX Runtime, relative to the largest output."""
    rng = np.random.default_rng(height * 31 + width)
    x = rng.standard_normal((n, channels, height, width)).astype(np.float32)
    weight = (rng.standard_normal((out_channels, channels, 3, 3)) / np.sqrt(9 * channels)).astype(np.float32)
    expected = reference(x, weight).transpose(0, 2, 3, 1)
    out = tvm.runtime.tensor(np.full(expected.shape, np.nan, np.float32))
    kernel["main"](
        tvm.runtime.tensor(np.ascontiguousarray(x.transpose(0, 2, 3, 1))),
        tvm.runtime.tensor(winograd_plan.pack(weight, transform)),
        out,
    )
    return float(np.abs(out.numpy() - expected).max() / np.abs(expected).max())


BOUNDS = [(winograd_plan.F2, 3e-6), (winograd_plan.F4, 3e-5)]


@pytest.mark.parametrize(("transform", "bound"), BOUNDS)
@pytest.mark.parametrize("size", [(1, 13, 11, 32, 24), (2, 16, 16, 32, 40), (1, 30, 5, 48, 32), (3, 1, 1, 32, 32)])
def test_fixed_sizes(size: tuple, transform, bound: float) -> None:
    n, height, width, channels, out_channels = size
    assert error(build((n, height, width, channels), out_channels, transform), *size, transform) < bound


@pytest.mark.parametrize("target", ["cpu:x86-64-v1", "cpu:x86-64-v3"])
def test_other_instruction_sets(target: str) -> None:
    size, transform = (2, 9, 14, 64, 48), winograd_plan.F4
    assert error(build((2, 9, 14, 64), 48, transform, parse(target)[0]), *size, transform) < 3e-5


@pytest.mark.parametrize(("transform", "bound"), BOUNDS)
def test_one_kernel_serves_every_size(transform, bound: float) -> None:
    n, height, width = (tirx.Var(name, "int64") for name in "nhw")
    kernel = build((n, height, width, 32), 24, transform)
    for sizes in ((1, 17, 23), (2, 12, 4), (1, 1, 1), (3, 5, 29)):
        assert error(kernel, *sizes, 32, 24, transform) < bound, sizes


def test_one_block_of_tiles_is_shared_by_threads_from_inside() -> None:
    """An open batch of images that are one block each: the loops that run in parallel are those inside of it."""
    n = tirx.Var("n", "int64")
    transform = winograd_plan.F4
    assert winograd_plan.plan_for(transform, 64, 64, 8, 8, TARGET).tile_rows == 2
    kernel = build((n, 8, 8, 64), 64, transform)
    for images in (1, 5):
        assert error(kernel, images, 8, 8, 64, 64, transform) < 3e-5


@pytest.mark.parametrize("transform", [winograd_plan.F2, winograd_plan.F4])
def test_the_matrices_are_a_convolution(transform) -> None:
    """One dimension, in float64: output . ((weight . g) * (input . d)) is the correlation of d with g."""
    rng = np.random.default_rng(0)
    taps, data = rng.standard_normal(3), rng.standard_normal(transform.size)
    found = transform.output @ ((transform.weight @ taps) * (transform.input @ data))
    np.testing.assert_allclose(found, np.correlate(data, taps, "valid"), rtol=1e-12)


def test_weights_are_transformed_in_double_precision() -> None:
    weight = np.random.default_rng(0).standard_normal((16, 16, 3, 3)).astype(np.float32)
    packed = winograd_plan.pack(weight, winograd_plan.F4)
    corner = weight[:, :, 0, 0] / np.float32(16)
    np.testing.assert_allclose(packed[0, 0, 0].T, corner, rtol=1e-6)


def test_where_it_pays() -> None:
    def choice(channels: int, out_channels: int, rows: object, columns: object) -> winograd_plan.Transform | None:
        return winograd_plan.choose(channels, out_channels, rows, columns, parse("cpu:x86-64-v4")[0])

    open_size = tirx.Var("h", "int64")
    assert choice(64, 64, 56, 56) is winograd_plan.F4
    assert choice(512, 512, 7, 7) is winograd_plan.F2, "few tiles to use each weight for"
    assert choice(512, 512, 1, 1) is None, "nothing is saved"
    assert choice(3, 64, 56, 56) is None, "the first layer has no vector of channels"
    assert choice(64, 24, open_size, open_size) is winograd_plan.F4
    assert choice(512, 512, open_size, open_size) is None, "weights that leave the cache between rows of tiles"
