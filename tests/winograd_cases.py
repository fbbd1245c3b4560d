"""Winograd's kernel on given weights, against the exact convolution and its error bound."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tvm
from tvm import te

from onnxkiln import targets
from onnxkiln.passes import lower, tir_pipeline
from onnxkiln.schedules import winograd_conv2d, winograd_plan
from onnxkiln.schedules.template import schedule_function
from onnxkiln.schedules.winograd_error import error_bound

SIDE = 19
TRANSFORMS = {"F(2x2)": winograd_plan.F2, "F(4x4)": winograd_plan.F4}


class Found(NamedTuple):
    """Errors as shares of the largest output; ``used`` is the largest share of the bound that an element uses."""

    direct: float
    error: float
    used: float


def convolved(data: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """[N, O, H, W] with a padding of 1, in the operands' own precision."""
    padded = np.pad(data, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    n, channels, height, width = data.shape
    rows = windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * height * width, channels * 9)
    return (rows @ weight.reshape(len(weight), -1).T).reshape(n, height, width, -1).transpose(0, 3, 1, 2)


def winograd(data: np.ndarray, weight: np.ndarray, transform: winograd_plan.Transform) -> np.ndarray:
    """[N, O, H, W] by the kernel, compiled for this machine."""
    n, channels, height, width = data.shape
    target = targets.parse("cpu")[0]
    plan = winograd_plan.plan_for(transform, channels, len(weight), height, width, target)
    packed = winograd_plan.pack(weight, transform)
    inputs = [te.placeholder((n, height, width, channels), name="x"), te.placeholder(packed.shape, name="w")]
    out = winograd_conv2d.winograd_conv2d(*inputs, len(weight), [1] * 4, transform.out, plan.tile_rows, plan.tile)
    scheduled = schedule_function(te.create_prim_func([*inputs, out]), target)
    assert scheduled.template == winograd_conv2d.NAME, scheduled.reason
    mod = tvm.IRModule({"main": scheduled.function.with_attr("global_symbol", "main")})
    with tvm.transform.PassContext(config=lower.BUILD_CONFIG):
        built = tvm.tirx.build(mod, tvm.target.Target(target.tvm_json()), pipeline=tir_pipeline.register())
    result = tvm.runtime.tensor(np.full((n, height, width, len(weight)), np.nan, np.float32))
    last = np.ascontiguousarray(data.transpose(0, 2, 3, 1))
    built["main"](tvm.runtime.tensor(last), tvm.runtime.tensor(packed), result)
    return result.numpy().transpose(0, 3, 1, 2)


def measure(weight: np.ndarray, data: np.ndarray | None = None) -> Iterator[tuple[str, Found]]:
    """For each transform its name and what was found, on ``data`` or on normally distributed activations behind a
    ReLU."""
    if data is None:
        drawn = np.random.default_rng(weight.shape[1]).standard_normal((1, weight.shape[1], SIDE, SIDE))
        data = np.maximum(drawn, 0).astype(np.float32)
    exact = convolved(data.astype(np.float64), weight.astype(np.float64))
    largest = float(np.abs(exact).max())
    direct = float(np.abs(convolved(data, weight) - exact).max()) / largest
    for name, transform in TRANSFORMS.items():
        error = np.abs(winograd(data, weight, transform) - exact)
        used = float((error / error_bound(data, weight, transform)).max())
        yield name, Found(direct, float(error.max()) / largest, used)
