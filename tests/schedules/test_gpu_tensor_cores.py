"""Products and convolutions on tensor cores, run thread by thread with each instruction replaced by its description."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tvm
from gpu_emulation import NEEDS_CXX, check_emulated
from onnx_check import Case, Const, case
from tvm import te

from onnxkiln import targets
from onnxkiln.artifacts import nvrtc
from onnxkiln.artifacts.cubin import kernels_of_cubin
from onnxkiln.artifacts.opening import OpenArtifact
from onnxkiln.gpus import GPUS, STATIC_SHARED_BYTES
from onnxkiln.passes import gpu_pipeline
from onnxkiln.schedules.gpu import tensor_cores
from onnxkiln.schedules.gpu.dispatch import schedule_for_gpu

RANDOM = np.random.default_rng(0)
HALF, TF32 = (targets.with_precision(targets.parse("cuda"), precision)[0] for precision in ("fp16", "tf32"))


def floats(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def constant(*shape: int) -> Const:
    return Const(floats(*shape))


CASES = [
    case("MatMul", floats(16, 16), constant(16, 16)),
    case("MatMul", floats(130, 70), constant(70, 65)),
    case("MatMul", floats(3, 33, 17), floats(3, 17, 65)),
    case("MatMul", floats(2, 3, 19, 8), floats(2, 3, 8, 24)),
    case("MatMul", floats(37, 7), constant(7, 9), dims="first"),
    case("MatMul", floats(2, 11, 7), floats(2, 7, 9), dims="shared"),
    case("MatMul", floats(1, 1, 40), constant(40, 24)),
    case("MatMul", floats(13, 1), constant(1, 9)),
    case("Gemm", floats(40, 24), constant(33, 24), constant(33), transB=1, alpha=0.5),
    case("Conv", floats(1, 3, 9, 11), constant(9, 3, 3, 3), constant(9), pads=[1, 1, 1, 1]),
    case("Conv", floats(2, 16, 7, 7), constant(19, 16, 1, 1)),
    case("Conv", floats(1, 8, 9, 9), constant(16, 8, 3, 3), strides=[2, 2], dilations=[2, 2]),
    case("Conv", floats(1, 4, 30), constant(9, 4, 5), pads=[2, 2]),
    case("ConvTranspose", floats(1, 8, 5, 5), constant(8, 9, 3, 3), strides=[2, 2]),
    case("Conv", floats(2, 8, 7, 5), constant(9, 8, 3, 3), constant(9), pads=[1, 1, 1, 1], dims="first"),
    case("Conv", floats(2, 8, 7, 5), constant(9, 8, 3, 3), pads=[1, 1, 1, 1], dims="open"),
    case("Conv", floats(1, 8, 6, 6), constant(12, 4, 3, 3), group=2),
]


@NEEDS_CXX
@pytest.mark.parametrize(("precision", "step"), [("fp16", 1), ("tf32", 2)])
def test_kernels_compute_what_onnx_says(precision: str, step: int, tmp_path: Path) -> None:
    """Operands keep eleven bits in both formats: 2^-11 of each product. tf32 differs in what the kernels read alone."""
    cases = CASES[::step]
    artifact = check_emulated(cases, tmp_path, rtol=2e-3, atol=2e-2, precision=precision)
    with OpenArtifact(artifact) as opened:
        found = [kernel.template for kernel in opened.manifest.kernels]
    assert found.count(tensor_cores.NAME) >= 9 // step, found


@NEEDS_CXX
def test_products_of_halves_are_summed_in_fp32(tmp_path: Path) -> None:
    """2048 + 1 - 2048, in float16: 0 where sums are float16, and 1 where they are float32."""
    a = np.zeros((16, 48), np.float16)
    a[:, 0], a[:, 17], a[:, 40] = 2048, 1, -2048
    cases: list[Case] = [case("MatMul", a, Const(np.ones((48, 16), np.float16)))]
    with OpenArtifact(check_emulated(cases, tmp_path, rtol=0, atol=0)) as opened:
        assert [kernel.template for kernel in opened.manifest.kernels] == [tensor_cores.NAME]


def product(rows: int, depth: int, columns: int, dtype: str) -> tvm.tirx.PrimFunc:
    a, b = te.placeholder((rows, depth), dtype, name="a"), te.placeholder((depth, columns), dtype, name="b")
    k = te.reduce_axis((0, depth), name="k")

    def sums(i: tvm.tirx.Var, j: tvm.tirx.Var) -> tvm.ir.Expr:
        left, right = a[i, k], b[k, j]
        if dtype != "float32":
            left, right = left.astype("float32"), right.astype("float32")
        return te.sum(left * right, axis=k)

    return te.create_prim_func([a, b, te.compute((rows, columns), sums, name="c")])


def source_of(functions: dict[str, tvm.tirx.PrimFunc], target: targets.Target) -> str:
    tvm_target = tvm.target.Target(target.tvm_json())
    module = tvm.IRModule({name: function.with_attr("global_symbol", name) for name, function in functions.items()})
    return gpu_pipeline.cuda_source(gpu_pipeline.split_modules(module, tvm_target)[1], tvm_target)


def test_every_tile_fits_every_gpu() -> None:
    """Machine code of each: no thread spills, and a block's shared memory is within what needs no asking."""
    functions = {}
    for dtype, target in (("float16", HALF), ("float32", TF32)):
        for tile in range(len(tensor_cores.TILES)):
            scheduled = tensor_cores.schedule_tensor_cores(product(1000, 500, 900, dtype), target, tile)
            assert scheduled is not None
            functions[f"{dtype}_{tile}"] = scheduled
    source = source_of(functions, HALF)
    for name in ("sm_80", "sm_90"):
        uses = kernels_of_cubin(nvrtc.compile_cubin(source, GPUS[name]))
        assert len(uses) == len(functions)
        for use in uses:
            assert use.stack_bytes == 0 and use.registers <= 255 and use.shared_bytes <= STATIC_SHARED_BYTES, use


def test_halves_for_gpus_before_sm_80() -> None:
    old = targets.with_precision(targets.parse("cuda:sm_75"), "fp16")[0]
    scheduled = schedule_for_gpu(product(64, 64, 64, "float16"), old)
    assert scheduled.template == tensor_cores.NAME
    assert b"m16n8k8" in nvrtc.compile_ptx(source_of({"main": scheduled.function}, old), GPUS["sm_75"])


def test_what_tensor_cores_are_not_for() -> None:
    assert tensor_cores.default(product(64, 64, 64, "float32"), HALF) is None
    assert tensor_cores.default(product(4, 64, 64, "float16"), HALF) is None
    assert tensor_cores.default(product(64, 64, 64, "float16"), HALF) is not None
    assert tensor_cores.default(product(4096, 64, 4096, "float16"), HALF) == 0
