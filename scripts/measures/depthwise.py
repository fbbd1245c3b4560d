"""What one kernel for a depthwise convolution and the pointwise one behind it could save in MobileNetV2, at most.

    scripts/measure.py depthwise [cpu:x86-64-v3]

Such a kernel would keep a few rows between the two in the cache. So each pair is timed on the whole picture, and on a
strip of it that stays in the second-level cache whole, its input and output too, scaled up to the picture: what the
picture takes more is the most that keeping rows could save. (A strip's borders skip taps, which flatters it.)
Shortest times of the kernels alone, one thread.
"""

from __future__ import annotations

from typing import Any

import onnx

from bench_models.mobilenet import STAGES
from bench_models.network import SIZE, Network
from onnxkiln.targets import parse

from .kernels import shortest_convolutions

ROUNDS = 20


def pairs() -> dict[tuple[int, int, int, int], int]:
    """How often MobileNetV2 has (output rows and columns, channels, stride, output channels)."""
    found: dict[tuple[int, int, int, int], int] = {}
    size, channels = SIZE // 2, 32
    for expansion, outputs, repeats, first_stride in STAGES:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            size //= stride
            pair = (size, channels * expansion, stride, outputs)
            found[pair] = found.get(pair, 0) + 1
            channels = outputs
    return found


def measure(target: str = "cpu") -> list[dict[str, Any]]:
    """Microseconds of each pair, and what they exceed a strip's by. Nothing is promised."""
    return [_measure(pair, count, target) for pair, count in pairs().items()]


def _measure(pair: tuple[int, int, int, int], count: int, target: str) -> dict[str, Any]:
    size, channels, stride, outputs = pair
    row = 4 * size * (channels * stride * stride + channels + outputs)
    rows = min(size, max(1, parse(target)[0].l2 // 2 // row))
    whole, strip = _seconds(pair, size, target), _seconds(pair, rows, target) * size / rows
    return {
        "pair": pair, "count": count, "rows": rows, "us": whole * 1e6, "saved_us": max(0.0, whole - strip) * 1e6,
        "passed": True,
    }  # fmt: skip


def _seconds(pair: tuple[int, int, int, int], rows: int, target: str) -> float:
    size, channels, stride, outputs = pair
    network = Network("x".join(map(str, pair)))
    y = network.relu(network.conv("x", channels, channels, 3, stride, group=channels))
    y = network.conv(y, channels, outputs, 1)
    shape = [1, channels, rows * stride, size * stride]
    image = ("x", onnx.TensorProto.FLOAT, shape)
    model = network.graph.model(network.name, [image], [(y, onnx.TensorProto.FLOAT, [1, outputs, rows, size])], 17)
    return sum(shortest_convolutions(model, shape, target, ROUNDS))


def show(found: list[dict[str, Any]]) -> str:
    """A line for each pair, and the network's sum."""
    lines = [f"{'output, channels, stride':32} {'times':>5} {'us each':>9} {'saved at most':>14}"]
    for item in found:
        size, channels, stride, outputs = item["pair"]
        name = f"{size}x{size}, {channels} to {outputs}, /{stride}"
        lines.append(f"{name:32} {item['count']:5} {item['us']:9.1f} {item['saved_us']:14.1f}")
    total, saved = (sum(item[key] * item["count"] for item in found) for key in ("us", "saved_us"))
    return "\n".join([*lines, f"all: {total:.0f} us, of which keeping rows in the cache could save {saved:.0f}"])
