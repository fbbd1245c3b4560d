"""Dense convolutions with packed weights against ONNX Runtime: windows, paddings, open sizes, epilogues, levels."""

from __future__ import annotations

import numpy as np
import pytest
from conv_cases import Conv
from kernel_cases import LEVELS, Kernels, runnable
from pass_graphs import const, data, emit, graph
from tvm import relax

from onnxkiln import targets
from onnxkiln.schedules import conv2d
from onnxkiln.schedules.conv2d import flat_tile, needed_size, output_size, pack

O = relax.op  # noqa: E741
CASES = [
    # convolution, batch, height, width
    (Conv(1, 1, (1, 1)), 1, 1, 1),
    (Conv(3, 17, (1, 1)), 2, 5, 13),
    (Conv(7, 16, (3, 3), padding=(1, 1, 1, 1)), 1, 7, 11),
    (Conv(3, 40, (7, 7), strides=(2, 2), padding=(3, 3, 3, 3)), 1, 19, 23),
    (Conv(5, 33, (3, 2), strides=(2, 3), padding=(0, 2, 1, 0)), 3, 8, 29),
    (Conv(4, 15, (3, 3), padding=(2, 0, 1, 3), dilation=(2, 2)), 1, 9, 6),
    (Conv(4, 9, (2, 3), strides=(1, 2), dilation=(3, 1)), 2, 5, 31),
    (Conv(2, 16, (1, 5), padding=(0, 4, 0, 4)), 1, 1, 1),
    (Conv(8, 64, (1, 1), strides=(2, 2)), 1, 14, 14),
    (Conv(3, 3, (5, 1), padding=(0, 0, 3, 0)), 1, 4, 3),
]


def close(got: np.ndarray, want: np.ndarray, what: object = "") -> None:
    assert got.shape == want.shape, what
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3, err_msg=str(what))


def test_pack() -> None:
    weight = data(18, 3, 2, 5)
    packed = pack(weight)
    assert packed.shape == (2, 2, 5, 3, 16)
    np.testing.assert_array_equal(packed[1, 1, 4, 2, :2], weight[16:, 2, 1, 4])
    assert not packed[1, ..., 2:].any()


def test_sizes() -> None:
    assert output_size(19, 7, 2, 1, 3, 3) == 10
    assert output_size(9, 3, 1, 2, 2, 1) == 8
    assert needed_size(10, 7, 2, 1) == 25


def test_known_shapes() -> None:
    weights = [case.weight() for case, *_ in CASES]
    kernels = Kernels(
        graph(
            lambda *xs: [case.op(x, w) for x, w, (case, *_) in zip(xs, weights, CASES, strict=True)],
            *[(n, case.channels, h, w) for case, n, h, w in CASES],
        )
    )
    convolutions = [report for report in kernels.reports if "conv" in report.name]
    assert len(convolutions) == len(CASES)
    assert all(report.template and report.vectorized for report in convolutions), convolutions
    arrays = [data(n, case.channels, h, w) for case, n, h, w in CASES]
    for got, x, weight, (case, *_) in zip(kernels(*arrays), arrays, weights, CASES, strict=True):
        close(got, case.reference(x, weight), case)


OPEN = [
    (Conv(3, 20, (3, 3), strides=(2, 2), padding=(1, 1, 1, 1)), [(2, 7, 9), (1, 1, 1), (1, 32, 3), (1, 2, 50)]),
    (Conv(5, 16, (1, 1)), [(1, 1, 1), (3, 2, 13), (1, 1, 27)]),
    (Conv(2, 33, (5, 4), padding=(1, 0, 4, 2), dilation=(1, 2)), [(1, 7, 11), (2, 1, 5), (1, 3, 31)]),
    (Conv(2, 7, (2, 3), strides=(3, 2)), [(1, 2, 3), (2, 9, 20), (1, 11, 64)]),
]


@pytest.mark.parametrize("target", LEVELS)
@pytest.mark.parametrize(("case", "sizes"), OPEN, ids=[str(case.kernel) for case, _ in OPEN])
def test_open_sizes(case: Conv, sizes: list, target: str) -> None:
    if not runnable(target):
        pytest.skip(f"this machine cannot run {target}")
    weight = case.weight()
    kernels = Kernels(graph(lambda x: case.op(x, weight), ("n", case.channels, "h", "w")), target)
    assert any(report.template == "conv2d" for report in kernels.reports)
    assert all(report.vectorized for report in kernels.reports)
    for n, h, w in sizes:
        x = data(n, case.channels, h, w)
        close(kernels(x)[0], case.reference(x, weight), (n, h, w))


@pytest.mark.parametrize("shape", [(1, 6, 9, 13), ("n", 6, "h", "w")], ids=["fixed", "open"])
def test_epilogues(shape: tuple) -> None:
    """A block with bias and ReLU, HardSwish in pieces, and a residual sum: three kernels and no pass between."""
    convs = [Conv(6, 24, (1, 1)), Conv(24, 24, (3, 3), (1, 1), (1, 1, 1, 1)), Conv(24, 6, (1, 1))]
    weights, biases = [conv.weight() for conv in convs], [data(1, conv.out, 1, 1) for conv in convs]

    def layer(index: int, x: relax.Expr) -> relax.Expr:
        return O.add(convs[index].op(x, weights[index]), const(biases[index]))

    def block(x: relax.Expr) -> relax.Expr:
        wide = emit(O.nn.relu(layer(0, x)))
        y = emit(layer(1, wide))
        swish = O.divide(O.multiply(y, O.clip(O.add(y, const(np.float32(3))), 0.0, 6.0)), const(np.float32(6)))
        return O.add(layer(2, swish), x)

    kernels = Kernels(graph(block, shape))
    convolutions = [report for report in kernels.reports if "conv" in report.name]
    assert len(convolutions) == 3 and all(report.template and report.vectorized for report in convolutions)
    assert len(kernels.reports) <= 5  # two transposes beside them
    x = data(1, 6, 9, 13)
    wide = np.maximum(convs[0].reference(x, weights[0]) + biases[0], 0)
    y = convs[1].reference(wide, weights[1]) + biases[1]
    swish = y * np.clip(y + 3, 0, 6) / 6
    close(kernels(x)[0], convs[2].reference(swish.astype("float32"), weights[2]) + biases[2] + x)


FLAT = [
    # convolution, height, width: of tiles that run on from row to row, with and without a copy for the padding
    (Conv(5, 32, (3, 3), strides=(2, 2), padding=(1, 1, 1, 1)), 13, 13),
    (Conv(3, 17, (1, 1)), 7, 7),
    (Conv(6, 16, (1, 1), strides=(2, 3)), 5, 20),
    (Conv(4, 40, (2, 3), padding=(0, 2, 3, 0), dilation=(2, 1)), 11, 7),
    (Conv(1, 100, (5, 1)), 17, 1),
    (Conv(2, 48, (3, 3), padding=(1, 1, 1, 1), dilation=(2, 3)), 5, 17),
    (Conv(6, 10, (3, 3), padding=(1, 1, 1, 1), groups=2), 5, 9),
]


@pytest.mark.parametrize("target", LEVELS[1:])
@pytest.mark.parametrize("batch", [2, "n"])
def test_tiles_across_rows(target: str, batch: int | str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bias, activation and residual follow in the same kernel."""
    if not runnable(target):
        pytest.skip(f"this machine cannot run {target}")
    monkeypatch.setattr(conv2d, "FLAT_GAIN", 0.0)
    weights = [case.weight() for case, *_ in FLAT]
    biases = [data(1, case.out, 1, 1) for case, *_ in FLAT]
    outputs = [
        case.reference(data(1, case.channels, h, w), weight).shape[1:]
        for (case, h, w), weight in zip(FLAT, weights, strict=True)
    ]

    def layers(*inputs: relax.Expr) -> list[relax.Expr]:
        others = inputs[len(FLAT) :]
        sums = [
            O.add(O.add(case.op(x, w), const(b)), other)
            for (case, *_), x, w, b, other in zip(FLAT, inputs, weights, biases, others, strict=False)
        ]
        return [O.nn.relu(total) for total in sums]

    shapes = [*((batch, case.channels, h, w) for case, h, w in FLAT), *((batch, *shape) for shape in outputs)]
    kernels = Kernels(graph(layers, *shapes), target)
    assert len(kernels.of("conv2d")) == len(FLAT) and all(report.vectorized for report in kernels.reports)
    for n in (2,) if batch == 2 else (1, 3):
        arrays = [data(n, *shape[1:]) for shape in shapes]
        results = zip(FLAT, kernels(*arrays), arrays, weights, biases, arrays[len(FLAT) :], strict=False)
        for (case, *_), got, x, weight, bias, other in results:
            close(got, np.maximum(case.reference(x, weight) + bias + other, 0), (n, case))


def test_rows_that_tiles_nearly_fill_stay_rows() -> None:
    v3 = targets.parse("cpu:x86-64-v3")[0]
    assert flat_tile(7, 7, 512, 2304, v3) == 5
    assert flat_tile(15, 15, 512, 2304, v3) is None
    assert flat_tile(1, 49, 512, 2304, v3) is None
    assert flat_tile("h", 7, 512, 2304, v3) is None and flat_tile(7, "w", 512, 2304, v3) is None


@pytest.mark.parametrize("groups", [2, 3])
def test_groups_take_the_template(groups: int) -> None:
    case = Conv(6, 12, (3, 3), (2, 1), (1, 0, 1, 2), groups=groups)
    weight = case.weight()
    for shape in [(2, 6, 5, 7), ("n", 6, "h", "w")]:
        kernels = Kernels(graph(lambda x: O.nn.relu(case.op(x, weight)), shape))
        assert len(kernels.of("conv2d")) == 1 and all(report.vectorized for report in kernels.reports)
        for size in [(2, 6, 5, 7), (1, 6, 1, 1)] if shape[0] == "n" else [shape]:
            x = data(*size)
            close(kernels(x)[0], np.maximum(case.reference(x, weight), 0), size)


def test_computed_weights() -> None:
    kernels = Kernels(graph(O.nn.conv2d, (1, 3, 6, 7), (5, 3, 3, 3)))
    x, weight = data(1, 3, 6, 7), data(5, 3, 3, 3)
    close(kernels(x, weight)[0], Conv(3, 5, (3, 3)).reference(x, weight))
