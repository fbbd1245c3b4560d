"""Schedules for GPUs: their very kernels, run thread by thread on the processor, against ONNX's reference evaluator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tvm
from gpu_emulation import NEEDS_CXX, check_emulated
from onnx_check import Case, Const, case
from tvm import te

from onnxkiln import targets
from onnxkiln.artifacts.opening import OpenArtifact
from onnxkiln.schedules.gpu import matmul
from onnxkiln.schedules.gpu.bound import is_bound
from onnxkiln.schedules.gpu.dispatch import schedule_for_gpu
from onnxkiln.schedules.gpu.rows import reduces_rows

RANDOM = np.random.default_rng(0)
TARGET = targets.parse("cuda")[0]


def floats(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def constant(*shape: int) -> Const:
    return Const(floats(*shape))


def integers(*values: int) -> Const:
    return Const(np.array(values, np.int64))


ELEMENTS = [
    case("Add", floats(3, 5, 7), floats(5, 1)),
    case("Exp", floats(13)),
    case("Erf", floats(3, 7)),
    case("Where", floats(4, 5) > 0, floats(4, 5), floats(5)),
    case("Mod", RANDOM.integers(-9, 9, (11,)), np.full(11, 4)),
    case("Cast", floats(7, 3), to=7),
    case("Transpose", floats(3, 5, 7), perm=[2, 0, 1]),
    case("Concat", floats(2, 3), floats(2, 5), axis=1),
    case("Gather", floats(7, 4), RANDOM.integers(0, 7, (3, 2)), axis=0),
    case("Pad", floats(3, 4), integers(1, 2, 0, 1)),
    case("Transpose", floats(3, 5, 7), perm=[2, 0, 1], dims="open"),
    case("Concat", floats(2, 3), floats(2, 5), axis=1, dims="open"),
]
REDUCTIONS = [
    case("ReduceSum", floats(3, 1000), integers(1)),
    case("ReduceSum", floats(3, 1000), integers(0)),
    case("ReduceMean", floats(5, 7, 9), integers(1, 2)),
    case("ReduceMax", floats(2, 3, 4, 5), integers(0, 2), keepdims=0),
    case("ReduceSum", floats(513)),
    case("ReduceMean", floats(3, 2), keepdims=0),
    case("ReduceSum", floats(3000)),
    case("ReduceMax", floats(51, 60), keepdims=0),
    case("ReduceProd", 1 + floats(4, 512) / 100),
    case("ReduceSum", floats(2050), dims="open"),
    case("ReduceMean", floats(40, 50), dims="open", keepdims=0),
    case("ArgMax", floats(5, 33), axis=1),
    case("Softmax", floats(3, 37)),
    case("Softmax", floats(2, 1025)),
    case("Softmax", floats(2, 5, 3), axis=1),
    case("LayerNormalization", floats(3, 5, 48), floats(48), floats(48)),
    case("Softmax", floats(3, 37), dims="open"),
    case("ReduceMean", floats(5, 7), integers(1), dims="open"),
    case("GlobalAveragePool", floats(2, 3, 5, 7)),
]
LOOPS = [
    case("CumSum", floats(3, 7), Const(np.array(1))),
    case("TopK", floats(3, 17), integers(4), outputs=2),
    case("ScatterElements", floats(4, 5), RANDOM.integers(0, 4, (2, 5)), floats(2, 5), axis=0),
    case("NonZero", floats(3, 4) > 0),
]
PRODUCTS = [
    case("MatMul", floats(5, 7), constant(7, 9)),
    case("MatMul", floats(1, 300), constant(300, 40)),
    case("MatMul", floats(3, 33, 17), floats(3, 17, 65)),
    case("MatMul", floats(130, 70), constant(70, 65)),
    case("MatMul", floats(7), floats(7, 3)),
    case("MatMul", floats(5, 7), constant(7, 9), dims="first"),
    case("MatMul", floats(2, 5, 7), floats(2, 7, 9), dims="shared"),
]
CONVOLUTIONS = [
    case("Conv", floats(1, 3, 9, 11), constant(5, 3, 3, 3), constant(5), pads=[1, 1, 1, 1]),
    case("Conv", floats(2, 16, 7, 7), constant(19, 16, 1, 1)),
    case("Conv", floats(1, 6, 8, 9), constant(6, 1, 3, 3), group=6, strides=[2, 2], pads=[1, 1, 1, 1]),
    case("Conv", floats(1, 8, 6, 6), constant(12, 4, 3, 3), group=2),
    case("Conv", floats(1, 4, 30), constant(6, 4, 5), pads=[2, 2]),
    case("ConvTranspose", floats(1, 4, 5, 5), constant(4, 3, 3, 3), strides=[2, 2]),
    case("MaxPool", floats(1, 3, 9, 9), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
]


def halves(*shape: int) -> np.ndarray:
    return (floats(*shape) / 4).astype(np.float16)


HALVES = [
    case("MatMul", halves(130, 80), Const(halves(80, 72))),
    case("Softmax", halves(3, 37)),
    case("Add", halves(5, 3), halves(3)),
    case("Cast", halves(5), to=1),
]


@NEEDS_CXX
@pytest.mark.parametrize(
    ("cases", "rules"),
    [
        (ELEMENTS + LOOPS + HALVES, {None}),
        (REDUCTIONS, {"gpu_reduction", "gpu_rows"}),
        (PRODUCTS + CONVOLUTIONS, {"gpu_matmul", None}),
    ],
    ids=["elements", "reductions", "products"],
)
def test_kernels_compute_what_onnx_says(cases: list[Case], rules: set[str | None], tmp_path: Path) -> None:
    artifact = check_emulated(cases, tmp_path)
    with OpenArtifact(artifact) as opened:
        found = {kernel.template for kernel in opened.manifest.kernels}
    assert rules <= found


def product(rows: int, depth: int, columns: int) -> tvm.tirx.PrimFunc:
    a, b = te.placeholder((rows, depth), name="a"), te.placeholder((depth, columns), name="b")
    k = te.reduce_axis((0, depth), name="k")
    return te.create_prim_func([a, b, te.compute((rows, columns), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k))])


def window(size: int) -> tvm.tirx.PrimFunc:
    a, k = te.placeholder((size + 2, 4), name="a"), te.reduce_axis((0, 3), name="k")
    return te.create_prim_func([a, te.compute((size, 4), lambda i, c: te.sum(a[i + k, c], axis=k))])


def test_large_products_get_large_tiles() -> None:
    assert matmul.default(product(4096, 64, 4096), TARGET) == 0
    assert matmul.default(product(64, 64, 64), TARGET) == len(matmul.TILES) - 1
    assert matmul.default(product(196, 64, 512), TARGET) == len(matmul.TILES) - 1


def test_windows_are_no_rows() -> None:
    assert reduces_rows(product(5, 7, 9))
    assert not reduces_rows(window(10))


def test_a_rule_whose_kernel_cannot_be_compiled_is_passed_over() -> None:
    asked = []

    def check(_function: tvm.tirx.PrimFunc) -> None:
        asked.append(None)
        if len(asked) == 1:
            raise ValueError("no code for that at 0x55ecfcc2")

    result = schedule_for_gpu(product(130, 64, 64), TARGET, check)
    assert result.template != "gpu_matmul" and "gpu_matmul: no code for that at ..." in result.reason
    assert is_bound(result.function)


def test_what_is_not_bound_is_seen() -> None:
    assert not is_bound(product(5, 7, 9))
    assert is_bound(schedule_for_gpu(product(5, 7, 9), TARGET).function)
