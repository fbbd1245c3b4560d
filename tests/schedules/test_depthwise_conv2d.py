"""Depthwise convolutions against ONNX Runtime: channels of any number, windows, open sizes, epilogues, levels."""

from __future__ import annotations

import numpy as np
import pytest
from conv_cases import Conv
from kernel_cases import LEVELS, Kernels, runnable
from pass_graphs import const, data, emit, graph
from tvm import relax

from onnxkiln.schedules.depthwise_conv2d import pack

O = relax.op  # noqa: E741


def depthwise(channels: int, kernel: tuple[int, int], **options) -> Conv:
    return Conv(channels, channels, kernel, groups=channels, **options)


CASES = [
    (depthwise(2, (1, 1)), 1, 1, 1),
    (depthwise(16, (3, 3), padding=(1, 1, 1, 1)), 1, 7, 11),
    (depthwise(17, (3, 3), strides=(2, 2), padding=(0, 0, 1, 1)), 2, 9, 10),
    (depthwise(40, (5, 5), padding=(2, 2, 2, 2)), 1, 5, 14),
    (depthwise(3, (2, 3), strides=(1, 3), padding=(1, 0, 0, 2)), 1, 4, 13),
    (depthwise(12, (3, 2), dilation=(2, 3), padding=(3, 1, 0, 2)), 3, 6, 5),
    (depthwise(33, (1, 7)), 1, 1, 29),
]


def close(got: np.ndarray, want: np.ndarray, what: object = "") -> None:
    assert got.shape == want.shape, what
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4, err_msg=str(what))


def test_pack() -> None:
    weight = data(5, 1, 2, 3)
    packed = pack(weight)
    assert packed.shape == (2, 3, 5) and packed.flags.c_contiguous
    np.testing.assert_array_equal(packed[1, 2], weight[:, 0, 1, 2])


def test_known_shapes() -> None:
    weights = [case.weight() for case, *_ in CASES]
    kernels = Kernels(
        graph(
            lambda *xs: [case.op(x, w) for x, w, (case, *_) in zip(xs, weights, CASES, strict=True)],
            *[(n, case.channels, h, w) for case, n, h, w in CASES],
        )
    )
    assert len(kernels.of("depthwise_conv2d")) == len(CASES)
    arrays = [data(n, case.channels, h, w) for case, n, h, w in CASES]
    for got, x, weight, (case, *_) in zip(kernels(*arrays), arrays, weights, CASES, strict=True):
        close(got, case.reference(x, weight), case)


@pytest.mark.parametrize("target", LEVELS)
@pytest.mark.parametrize("channels", [16, 19])
def test_open_sizes_and_epilogues(channels: int, target: str) -> None:
    if not runnable(target):
        pytest.skip(f"this machine cannot run {target}")
    case = depthwise(channels, (3, 3), strides=(2, 1), padding=(1, 1, 1, 0))
    weight, bias = case.weight(), data(1, channels, 1, 1)

    def block(x: relax.Expr) -> relax.Expr:
        y = emit(O.add(case.op(x, weight), const(bias)))
        return O.multiply(y, O.clip(O.add(y, const(np.float32(3))), 0.0, 6.0))

    kernels = Kernels(graph(block, ("n", channels, "h", "w")), target)
    assert len(kernels.of("depthwise_conv2d")) == 1
    assert all(report.vectorized for report in kernels.reports)
    for n, h, w in [(1, 1, 2), (2, 7, 13), (1, 16, 33), (1, 2, 4)]:
        x = data(n, channels, h, w)
        y = case.reference(x, weight) + bias
        close(kernels(x)[0], y * np.clip(y + 3, 0, 6), (n, h, w))


def test_a_multiplier_takes_the_generic_way() -> None:
    case = Conv(3, 6, (3, 3), groups=3)
    weight = case.weight()
    kernels = Kernels(graph(lambda x: case.op(x, weight), (1, 3, 6, 7)))
    assert not kernels.of("depthwise_conv2d")
    x = data(1, 3, 6, 7)
    close(kernels(x)[0], case.reference(x, weight))
