"""Compiled functions assume an element's alignment of their arguments, and vectors load from any address."""

from __future__ import annotations

import re

import tvm
from pass_graphs import const, data, graph
from tvm import relax, te, tirx
from tvm.s_tir import Schedule

from onnxkiln.passes.relax_alignment import relax_alignment

O = relax.op  # noqa: E741


def kernels() -> tvm.IRModule:
    def several(x: relax.Expr) -> list[relax.Expr]:
        return [O.add(x, const(data(64))), O.astype(x, "float16"), O.greater(x, const(data(64))), O.astype(x, "int64")]

    return relax.transform.LegalizeOps()(graph(several, ("n", 64)))


def alignments(mod: tvm.IRModule) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for function in mod.functions.values():
        if isinstance(function, tirx.PrimFunc):
            for param in function.params:
                if tirx.is_buffer_var(param):
                    found.setdefault(str(param.dtype), set()).add(int(param.ty.data_alignment))
    return found


def test_arguments_are_aligned_to_their_elements() -> None:
    before = kernels()
    after, count = relax_alignment(before)
    assert count == 4
    assert alignments(after) == {"float32": {4}, "float16": {2}, "bool": {1}, "int64": {8}}
    assert set.union(*alignments(before).values()) == {64}  # the input module is as it was


def test_graph_functions_are_left_alone() -> None:
    before = kernels()
    after, _ = relax_alignment(before)
    tvm.ir.assert_structural_equal(after["main"], before["main"])


def test_machine_code_has_unaligned_moves() -> None:
    """Aligned moves of 64 bytes, as TVM's assumption gives, fault on NumPy's arrays."""
    x = te.placeholder((64,), name="x")
    schedule = Schedule(te.create_prim_func([x, te.compute((64,), lambda i: x[i] + 1, name="y")]))
    schedule.vectorize(schedule.get_loops(schedule.get_sblock("y"))[0])
    target = tvm.target.Target({"kind": "llvm", "mcpu": "x86-64-v4"})
    texts = []
    for mod in (schedule.mod, relax_alignment(schedule.mod)[0]):
        texts.append(tvm.compile(mod, target=target).mod.inspect_source("asm"))
    aligned = [re.findall(r"vmovaps.*\(.*zmm|vmovaps.*zmm.*\(", text) for text in texts]
    assert aligned[0] and not aligned[1]
    assert re.search(r"vmovups.*zmm", texts[1])
