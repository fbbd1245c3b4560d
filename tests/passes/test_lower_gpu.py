"""Scheduled modules become host code that only starts kernels, and the kernels' CUDA source."""

from __future__ import annotations

import pytest
import tvm
import tvm_ffi
from pass_graphs import const, data, emit, graph
from tvm import relax, te, tirx

from onnxkiln import targets
from onnxkiln.artifacts import nvrtc
from onnxkiln.errors import CompileError
from onnxkiln.passes import gpu_pipeline, lower_gpu
from onnxkiln.passes.legalize import legalize
from onnxkiln.passes.schedule_functions import schedule_functions
from onnxkiln.schedules.gpu.dispatch import schedule_for_gpu

O = relax.op  # noqa: E741
TARGET = targets.parse("cuda")[0]
TVM_TARGET = tvm.target.Target(TARGET.tvm_json())


def scheduled(mod: tvm.IRModule) -> tvm.IRModule:
    return schedule_functions(legalize(mod, TARGET), TARGET)[0]


def several(x: relax.Expr) -> list[relax.Expr]:
    total = emit(O.add(x, const(data(37))))
    return [O.sum(total, [0]), O.permute_dims(total, [1, 0]), O.matmul(total, const(data(37, 21))), O.nn.softmax(x)]


def functions_of(mod: tvm.IRModule) -> tvm.IRModule:
    found = {gv: f.with_attr("global_symbol", gv.name_hint) for gv, f in mod.functions.items() if is_kernel(f)}
    return tvm.IRModule(found)


def is_kernel(function: tvm.ir.BaseFunc) -> bool:
    return isinstance(function, tirx.PrimFunc)


@pytest.mark.parametrize("rows", [5, "n"])
def test_no_host_function_computes_over_more_than_one_element(rows: int | str) -> None:
    """Walks the host's module itself: it holds no loop and stores nothing but arguments of calls."""
    host, device = gpu_pipeline.split_modules(functions_of(scheduled(graph(several, (rows, 37)))), TVM_TARGET)
    assert len(host.functions) >= 5 and len(device.functions) >= 5
    loops: list[tirx.Stmt] = []
    for function in host.functions.values():
        tvm_ffi.structural_walk(function.body, [(tirx.For, loops.append), (tirx.While, loops.append)], order="post")
    assert not loops
    lower_gpu.refuse_host_loops(host)


def test_a_function_that_is_not_bound_is_refused() -> None:
    mod = legalize(graph(lambda x: O.exp(x), (5, 37)), TARGET)
    with pytest.raises((CompileError, tvm.error.InternalError, RuntimeError), match=r"exp|memory|bind"):
        lower_gpu.build_gpu(mod, TARGET)


def test_the_source_is_taken_out_whole_and_kernels_are_described() -> None:
    program = lower_gpu.build_gpu(scheduled(graph(several, ("n", 37))), TARGET)
    assert [kernel.name for kernel in program.kernels] == sorted(kernel.name for kernel in program.kernels)
    for kernel in program.kernels:
        assert f" {kernel.name}(" in program.source
        assert 1 <= kernel.threads <= 1024
        assert kernel.arguments[0] == "handle" and "threadIdx.x" in kernel.launch


def test_the_same_module_gives_the_same_source() -> None:
    first, second = (lower_gpu.build_gpu(scheduled(graph(several, ("n", 37))), TARGET) for _ in range(2))
    assert (first.source, first.kernels) == (second.source, second.kernels)


def test_nothing_is_started_over_nothing() -> None:
    """A grid of n * 37 blocks: TVM would make it one block where n is 0."""
    mod = functions_of(scheduled(graph(lambda x: O.exp(x), ("n", 256))))
    host, _ = gpu_pipeline.split_modules(mod, TVM_TARGET)
    conditions: list[tirx.IfThenElse] = []
    for function in host.functions.values():
        tvm_ffi.structural_walk(function.body, (tirx.IfThenElse, conditions.append), order="post")
    assert any("kernel" in str(condition.then_case) for condition in conditions)


def test_reinterpreted_numbers_have_no_address() -> None:
    """TVM's own form takes the address of what it reinterprets; NVRTC refuses that of a number."""
    a = te.placeholder((37,), "float32", name="a")
    one = tirx.reinterpret("float32", tirx.const(0x3F800000, "int32"))
    kept = tirx.call_intrin("float32", "tirx.reinterpret", tirx.const(2.0, "float32"))
    function = te.create_prim_func([a, te.compute((37,), lambda i: a[i] * one + kept)])
    bound = schedule_for_gpu(function, TARGET).function
    _, device = gpu_pipeline.split_modules(tvm.IRModule({"main": bound.with_attr("global_symbol", "main")}), TVM_TARGET)
    source = gpu_pipeline.cuda_source(device, TVM_TARGET)
    assert "__int_as_float(1065353216)" in source and "&(" not in source[source.rindex("extern") :]
    nvrtc.compile_cubin(source, TARGET.gpus[0])
