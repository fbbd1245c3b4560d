"""Branches as functions: what moves, what stays, and the storage that branches would otherwise share."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import tvm
from tvm import relax

from onnxkiln.frontend import import_model
from onnxkiln.passes.outline_branches import outline_branches

NESTED = """<ir_version: 10, opset_import: ["" : 20]>
f (bool c, bool d, float[n, 4] x, float[m, 4] y) => (float[k, 4] z) {
    z = If(c) <
        then_branch = t () => (float[a, 4] p) {
            p0 = Exp(x)
            p1 = Sin(p0)
            p2 = Mul(p1, p0)
            p = Add(p2, x)
        },
        else_branch = e () => (float[b, 4] q) {
            q0 = Cos(y)
            q1 = Exp(q0)
            q2 = Mul(q1, q0)
            q3 = If(d) <then_branch = tt () => (float[g, 4] r) { r0 = Neg(q2)  r = Mul(r0, q1) },
                        else_branch = te () => (float[h, 4] s) { s0 = Concat<axis=0>(q2, x)  s = Tanh(s0) }>
            q = Mul(q3, q3)
        }
    >
}"""


def imported(text: str, tmp_path) -> tvm.IRModule:
    onnx.save(onnx.parser.parse_model(text), tmp_path / "model.onnx")
    return import_model(tmp_path / "model.onnx").module


def expected(c: bool, d: bool, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if c:
        return np.sin(np.exp(x)) * np.exp(x) + x
    q0 = np.cos(y)
    q1 = np.exp(q0)
    q2 = q1 * q0
    q3 = -q2 * q1 if d else np.tanh(np.concatenate([q2, x]))
    return q3 * q3


def test_every_branch_becomes_a_function(tmp_path):
    mod, count = outline_branches(imported(NESTED, tmp_path))
    assert count == 4
    assert {f"branch_{i}" for i in range(1, 5)} <= {var.name_hint for var in mod.get_global_vars()}
    assert relax.analysis.well_formed(mod) in (None, True)


@pytest.mark.parametrize(("c", "d"), [(True, False), (False, True), (False, False)])
def test_each_path_gives_its_answer(tmp_path, c, d):
    """Each in a machine of its own: the branch that runs first must find all the storage it uses."""
    mod, _ = outline_branches(imported(NESTED, tmp_path))
    vm = relax.VirtualMachine(tvm.compile(mod, target="llvm"), tvm.cpu())
    rng = np.random.default_rng(0)
    x, y = rng.random((3, 4), np.float32), rng.random((5, 4), np.float32)
    (result,) = vm["main"](*(tvm.runtime.tensor(np.asarray(v)) for v in (np.array(c), np.array(d), x, y)))
    np.testing.assert_allclose(result.numpy(), expected(c, d, x, y), rtol=1e-5, atol=1e-6)


def test_a_module_without_branches_is_left_alone(tmp_path):
    text = '<ir_version: 10, opset_import: ["" : 20]> f (float[n] x) => (float[n] y) { y = Neg(x) }'
    mod = imported(text, tmp_path)
    same, count = outline_branches(mod)
    assert count == 0 and same.same_as(mod)
