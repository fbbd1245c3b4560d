"""ResNet's convolutions on one thread, as a share of what an instruction set's multiply-adds can do.

    scripts/measure.py convolutions [cpu:x86-64-v3]

The work counted is that of the direct algorithm, whatever runs: Winograd's layers pass the limit. Shortest times of
the convolution's kernel alone, its bias and ReLU included, with its data in the cache.
"""

from __future__ import annotations

from typing import Any

import onnx

from bench_limits.machine import measure_limits
from bench_models.network import Network

from .kernels import shortest_convolutions

LEAST, ROUNDS = 0.85, 20
SHAPES = (
    (56, 64, 64, 3, 1), (28, 128, 128, 3, 1), (14, 256, 256, 3, 1), (7, 512, 512, 3, 1), (56, 64, 256, 1, 1),
    (28, 512, 128, 1, 1), (14, 1024, 256, 1, 1), (56, 64, 128, 3, 2), (14, 256, 512, 3, 2),
)  # fmt: skip
"""(height and width of the input, input channels, output channels, kernel, stride)."""


def measure(target: str = "cpu:x86-64-v3") -> list[dict[str, Any]]:
    """GFLOPS of each shape and the share of the limit; passed at ``LEAST`` or more."""
    limit = measure_limits(1, 0, target.partition(":")[2] or "native").gflops
    return [_measure(shape, target, limit) for shape in SHAPES]


def _measure(shape: tuple[int, ...], target: str, limit: float) -> dict[str, Any]:
    size, channels, outputs, kernel, stride = shape
    network = Network("x".join(map(str, shape)))
    y = network.relu(network.conv("x", channels, outputs, kernel, stride))
    after = -(-size // stride)
    image = ("x", onnx.TensorProto.FLOAT, [1, channels, size, size])
    model = network.graph.model(network.name, [image], [(y, onnx.TensorProto.FLOAT, [1, outputs, after, after])], 17)
    (seconds,) = shortest_convolutions(model, image[2], target, ROUNDS)
    flops = 2 * outputs * channels * kernel**2 * after**2
    gflops = flops / seconds * 1e-9
    share = gflops / limit
    return {"shape": shape, "gflops": gflops, "limit": limit, "share": share, "passed": share >= LEAST}


def show(found: list[dict[str, Any]]) -> str:
    """A line for each shape."""
    lines = [f"limit {found[0]['limit']:.0f} GFLOPS; wanted {LEAST:.0%} of it"]
    for item in found:
        size, channels, outputs, kernel, stride = item["shape"]
        name = f"{size}x{size}, {channels} to {outputs}, {kernel}x{kernel}/{stride}"
        lines.append(f"{name:34} {item['gflops']:6.0f} GFLOPS {item['share']:6.0%}")
    return "\n".join(lines)
