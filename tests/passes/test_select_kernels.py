"""Convolutions and products become the templates' expressions over packed weights; their values stay."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from pass_graphs import assert_same, const, constants_of, data, emit, graph, operators
from tvm import relax, te, tirx

from onnxkiln import targets
from onnxkiln.passes.call_kernel import call_kernel
from onnxkiln.passes.select_kernels import OUT_ELEMENTWISE_FUSABLE, select_kernels

O = relax.op  # noqa: E741
TARGET = targets.parse("cpu:x86-64-v3")[0]


def conv(x: relax.Expr, *shape: int, **attributes) -> relax.Expr:
    return O.nn.conv2d(x, const(data(*shape)), data_layout="NHWC", kernel_layout="OIHW", **attributes)


def selected(mod: tvm.IRModule) -> tuple[tvm.IRModule, int, list[str]]:
    after, count = select_kernels(mod, TARGET)
    return after, count, operators(after)


def test_kernels_and_values() -> None:
    """Dense and depthwise convolutions, products with weights and of computed matrices, all with open dims."""

    def network(x: relax.Expr, y: relax.Expr) -> list[relax.Expr]:
        dense = emit(conv(x, 7, 3, 3, 2, strides=(2, 1), padding=(1, 0, 0, 1), dilation=(1, 2)))
        depthwise = conv(dense, 7, 1, 2, 3, groups=7)
        return [depthwise, O.matmul(y, const(data(5, 18))), O.matmul(y, O.permute_dims(y, [0, 2, 1]))]

    mod = graph(network, ("n", "h", "w", 3), ("n", "s", 5))
    after, count, found = selected(mod)
    assert count == 4
    kernels = [op for op in found if op.startswith("call_tir")]
    assert kernels == [f"call_tir {name}" for name in ("conv2d", "depthwise_conv2d", "matmul", "batch_matmul")]
    assert [op for op in found if op not in kernels] == ["permute_dims"]
    assert_same(mod, after, [data(1, 5, 9, 3), data(1, 13, 5)], [data(2, 4, 6, 3), data(2, 1, 5)])


def test_an_image_is_read_as_it_comes() -> None:
    """The transpose in front of a layer of few channels goes; in front of a wider layer, or another one, it stays."""

    def network(x: relax.Expr, y: relax.Expr, z: relax.Expr) -> list[relax.Expr]:
        image = conv(emit(O.permute_dims(x, [0, 2, 3, 1])), 7, 3, 3, 2, strides=(2, 1), padding=(1, 0, 0, 1))
        wide = conv(emit(O.permute_dims(y, [0, 2, 3, 1])), 7, 8, 3, 3)
        turned = conv(emit(O.permute_dims(z, [0, 3, 2, 1])), 7, 3, 3, 3)
        return [image, wide, turned]

    mod = graph(network, ("n", 3, "h", 9), ("n", 8, "h", "w"), ("n", 3, "w", "h"))
    after, count, found = selected(mod)
    assert count == 3
    kernels = [name for name in found if name.startswith("call_tir")]
    after = relax.transform.DeadCodeElimination()(after)
    assert len(kernels) == 3 and operators(after).count("permute_dims") == 2
    for n, h, w in ((1, 5, 11), (2, 8, 17)):
        assert_same(mod, after, [data(n, 3, h, 9), data(n, 8, h, w), data(n, 3, w, h)])


def test_weights_are_packed_in_blocks_of_16() -> None:
    weight = data(5, 18)
    after, _, _ = selected(graph(lambda x: O.matmul(x, const(weight)), ("n", 5)))
    (packed,) = constants_of(after)
    assert packed.shape == (2, 5, 16)
    np.testing.assert_array_equal(packed.transpose(1, 0, 2).reshape(5, 32)[:, :18], weight)


def test_packing_is_the_same_for_every_target() -> None:
    """One weights file serves every library of an artifact."""
    weights = [data(20, 3, 3, 3), data(6, 1, 3, 3), data(5, 18)]

    def network(x: relax.Expr, z: relax.Expr, y: relax.Expr) -> list[relax.Expr]:
        layouts = {"data_layout": "NHWC", "kernel_layout": "OIHW"}
        dense = O.nn.conv2d(x, const(weights[0]), **layouts)
        depthwise = O.nn.conv2d(z, const(weights[1]), groups=6, **layouts)
        return [dense, depthwise, O.matmul(y, const(weights[2]))]

    mod = graph(network, (1, 9, 9, 3), (1, 9, 9, 6), (7, 5))
    results = [constants_of(select_kernels(mod, targets.parse(f"cpu:x86-64-{v}")[0])[0]) for v in ("v1", "v3", "v4")]
    for other in results[1:]:
        for array, first in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(array, first)


@pytest.mark.parametrize(
    ("build", "shapes"),
    [
        (lambda x: O.nn.conv2d(x, const(data(4, 3, 3, 3))), [(1, 3, 6, 6)]),
        (lambda x, w: O.nn.conv2d(x, w, data_layout="NHWC", kernel_layout="OIHW"), [(1, 6, 6, 4), (8, 4, 3, 3)]),
        (O.matmul, [(4,), (4, 5)]),
        (O.matmul, [(2, 1, 3, 4), (5, 4, 6)]),
        (O.add, [(2, 3), (2, 3)]),
    ],
    ids=["NCHW", "computed weights", "a vector", "broadcast batches", "elementwise"],
)
def test_other_operators_stay(build, shapes) -> None:
    mod = graph(build, *shapes)
    _, count, found = selected(mod)
    assert count == 0 and found == operators(mod)


def test_other_types_stay() -> None:
    for dtype in ("float64", "float16", "int32"):
        assert select_kernels(graph(O.matmul, (3, 4), (4, 5), dtype=dtype), TARGET)[1] == 0


def test_the_input_module_is_left_as_it_was() -> None:
    mod = graph(lambda x: [O.matmul(x, const(data(5, 18))), O.exp(x)], ("n", 5))
    before = mod.script(show_meta=True)
    select_kernels(mod, TARGET)
    assert mod.script(show_meta=True) == before


def test_composite_dims_reach_a_kernel_as_variables() -> None:
    """``call_kernel``: the kernel's loops see plain variables, the call has the graph's real dims."""
    w = tirx.Var("w", "int64")
    x = relax.Var("x", relax.TensorType([2, (w - 1) // 2 + 1], "float32"))

    def doubled(source: te.Tensor) -> te.Tensor:
        return te.compute((source.shape[0], source.shape[1] * 2), lambda i, j: source[i, j // 2], name="doubled")

    builder = relax.BlockBuilder()
    with builder.function("main", [relax.Var("input", relax.TensorType([w], "float32")), x]):
        call = call_kernel(builder, doubled, (x,), OUT_ELEMENTWISE_FUSABLE)
        builder.emit_func_output(builder.emit(relax.Tuple([builder.emit(call)])))
    mod = builder.get()
    function = mod["doubled"]
    assert all(isinstance(dim, tirx.Var | tirx.IntImm) for param in function.params for dim in param.shape)
    assert int(function.attrs["op_pattern"]) == OUT_ELEMENTWISE_FUSABLE
    shape = mod["main"].body.blocks[0].bindings[0].var.ty.shape.values
    assert tvm.sym.Analyzer().can_prove_equal(shape[1], (w - 1) // 2 * 2 + 2)
    values = data(2, 3)
    machine = relax.VirtualMachine(tvm.compile(mod, target="llvm"), tvm.cpu())
    for width in (5, 6):
        (result,) = machine["main"](tvm.runtime.tensor(data(width)), tvm.runtime.tensor(values))
        np.testing.assert_array_equal(result.numpy(), values.repeat(2, axis=1))
