"""Kernels between guarded pages: random graphs at every size, empty tensors, integers near overflow.

``GUARD_GRAPHS=200 pytest tests/test_guard_pages.py`` draws more graphs.
"""

from __future__ import annotations

import os
import random
import signal

import numpy as np
import onnx
import pytest
import tiny_artifacts
from children import run_child
from graph_check import assignments
from graph_nodes import draw_graph
from guard_pages import COMPILER, guard_library, run_guarded
from onnx_check import assert_same, case, joined

import onnxkiln

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler on this machine")

GRAPHS = int(os.environ.get("GUARD_GRAPHS", "2"))


def compiled(model, folder):
    onnx.save(model, folder / "model.onnx")
    return onnxkiln.compile(folder / "model.onnx", folder / "artifact", include_runtime=False)


@pytest.mark.parametrize("seed", range(GRAPHS))
def test_no_kernel_leaves_its_tensors(seed, tmp_path):
    """Open dims at all their sizes, 0 and 1 among them; the guarded page after tensors, and before them."""
    graph = draw_graph(random.Random(7000 + seed), components=3)
    artifact = compiled(graph.model(None), tmp_path)
    feeds = [graph.feeds(number) for number in assignments(None)]
    for at_end in (True, False):
        for found in run_guarded(artifact, feeds, tmp_path, at_end):
            assert not isinstance(found, str), found
            assert len(found) == len(graph.outputs)  # what is in them: test_properties


LIMITS = np.iinfo(np.int64)
EDGES = np.array([LIMITS.min, LIMITS.min + 1, -1, 0, 1, LIMITS.max - 1, LIMITS.max], np.int64)
NARROW = np.array([-(2**31), -1, 0, 2**31 - 1], np.int32)
FEW = np.array([3, 2, 7, -5], np.int32)
ROW = np.arange(7, dtype=np.float32)


def overflowing():
    """Arithmetic that wraps, and sizes and steps at the ends of int64: each has one answer."""
    reverse, zero, one = EDGES[::-1].copy(), np.array([0]), np.array([1])
    big, small = np.array([LIMITS.max]), np.array([LIMITS.min])
    safe = np.where((EDGES == 0) | (EDGES == -1), 3, EDGES)
    return [
        case("Add", EDGES, EDGES),
        case("Sub", EDGES, reverse),
        case("Mul", EDGES, reverse),
        case("Neg", EDGES),
        case("Abs", EDGES),
        case("Div", EDGES, safe, expected=_truncated(EDGES, safe)),
        case("Mod", EDGES, safe),
        case("Div", NARROW, FEW, expected=np.array([-715827882, 0, 0, -429496729], np.int32)),
        case("CumSum", EDGES, np.array(0)),
        case("ReduceSum", EDGES, keepdims=0),
        case("ReduceMax", EDGES, keepdims=0),
        case("ArgMin", EDGES, keepdims=0),
        case("Clip", EDGES, np.array(LIMITS.min), np.array(LIMITS.max)),
        case("Slice", ROW, small, big),
        case("Slice", ROW, big, small, zero, np.array([-1])),
        case("Slice", ROW, zero, big, zero, big),
        case("Slice", ROW, np.array([-1]), small, zero, small),
        case("Slice", ROW, one, np.array([LIMITS.max - 1]), zero, np.array([2])),
        case("Range", np.array(LIMITS.max - 5), np.array(LIMITS.max), np.array(2)),
        case("Range", np.array(LIMITS.min + 5), np.array(LIMITS.min), np.array(-3)),
        case("Equal", EDGES, reverse),
        case("Less", EDGES, reverse),
    ]


def _truncated(a, b):
    quotient = np.abs(a.astype(object)) // np.abs(b.astype(object))
    return np.where((a < 0) != (b < 0), -quotient, quotient).astype(np.int64)


def empty():
    """Tensors without elements, through kernels of every kind."""
    none = np.zeros((0, 4), np.float32)
    picture, filters = np.zeros((0, 3, 8, 8), np.float32), np.ones((5, 3, 3, 3), np.float32)
    rows = np.zeros((3, 0), np.float32)
    return [
        case("Add", none, none),
        case("Exp", none),
        case("Transpose", none, perm=[1, 0]),
        case("MatMul", none, np.ones((4, 5), np.float32)),
        case("MatMul", rows, np.zeros((0, 5), np.float32)),
        case("Gemm", rows, np.zeros((0, 5), np.float32), np.ones(5, np.float32)),
        case("Softmax", none, axis=-1),
        case("ReduceSum", none, np.array([1]), keepdims=0),
        case("ReduceSum", rows, np.array([1]), keepdims=0),
        case("Concat", none, np.ones((2, 4), np.float32), axis=0),
        case("Gather", np.ones((3, 4), np.float32), np.zeros((0,), np.int64)),
        case("GatherND", np.ones((3, 4), np.float32), np.zeros((0, 1), np.int64)),
        case("ScatterND", ROW, np.zeros((0, 1), np.int64), np.zeros((0,), np.float32)),
        case("Conv", picture, filters, expected=np.zeros((0, 5, 6, 6), np.float32)),
        case("MaxPool", picture, kernel_shape=[2, 2], expected=np.zeros((0, 3, 7, 7), np.float32)),
        case("GlobalAveragePool", picture, expected=np.zeros((0, 3, 1, 1), np.float32)),
        case("Reshape", none, np.array([2, 0, 2]), allowzero=1),
        case("Expand", np.zeros((0, 1), np.float32), np.array([0, 5])),
        case("Pad", none, np.array([1, 0, 2, 0])),
        case("Slice", ROW, np.array([3]), np.array([3])),
        case("CumSum", none, np.array(0)),
        case("Where", np.zeros((0, 4), bool), none, none),
        case("Resize", np.zeros((0, 1, 4, 4), np.float32), None, np.array([1, 1, 2, 2], np.float32), mode="nearest",
             expected=np.zeros((0, 1, 8, 8), np.float32)),
        case("NonZero", none, expected=np.zeros((2, 0), np.int64)),
        case("LayerNormalization", none, np.ones(4, np.float32), np.ones(4, np.float32)),
    ]  # fmt: skip


@pytest.mark.parametrize("make", [overflowing, empty])
@pytest.mark.parametrize("dims", ["fixed", "first"])
def test_edges_have_their_one_answer(make, dims, tmp_path):
    cases = [type(c)(**{**vars(c), "dims": dims}) for c in make()]
    model, feeds, expected = joined(cases, 20)
    artifact = compiled(model, tmp_path)
    for at_end in (True, False):
        (found,) = run_guarded(artifact, [feeds], tmp_path, at_end)
        assert not isinstance(found, str), found
        for value, result, wanted in zip(model.graph.output, found, expected, strict=True):
            assert_same(result, wanted, str(cases[int(value.name.split("_")[0][1:])]), 1e-5, 1e-6)


OUTSIDE = """
@I.ir_module
class Module:
    @T.prim_func(s_tir=True, private=True)
    def outside(x: T.Buffer((16,), "float32"), y: T.Buffer((16,), "float32")):
        for i in range(16):
            with T.sblock("y"):
                v = T.axis.spatial(16, i)
                y[v] = x[v + {offset}]

    @R.function
    def main(x: R.Tensor((16,), "float32"), weights: R.Object):
        cls = Module
        with R.dataflow():
            between = R.call_tir(cls.outside, (x,), out_ty=R.Tensor((16,), "float32"))
            y = R.call_tir(cls.outside, (between,), out_ty=R.Tensor((16,), "float32"))
            out = (y,)
            R.output(out)
        return out
"""


@pytest.mark.parametrize(("offset", "at_end"), [(1, True), (-1, False)])
def test_one_element_outside_ends_the_process(offset, at_end, tmp_path):
    """The check itself works."""
    from onnxkiln import targets
    from onnxkiln.contract import Contract, TensorSpec

    target = targets.host()
    contract = Contract((TensorSpec("x", "float32", (16,)),), (TensorSpec("y", "float32", (16,)),))
    library = (target, tiny_artifacts.build(tiny_artifacts.parse(OUTSIDE, offset=offset), target))
    request = tiny_artifacts.scale_request(libraries=[library], weights=[], contract=contract)
    artifact = tiny_artifacts.write(request, tmp_path)
    with pytest.raises(AssertionError, match=r"exit -11"):
        run_guarded(artifact, [{"x": np.ones(16, np.float32)}], tmp_path, at_end)


@pytest.mark.parametrize(("environment", "offset"), [({}, 64), ({"GUARD_BEFORE": "1"}, -1)])
def test_blocks_of_the_allocator_are_guarded(environment, offset):
    """Outputs and intermediate values, too: what posix_memalign gives ends (or begins) at a guarded page."""
    code = """
    import ctypes, sys
    block = ctypes.c_void_p()
    libc = ctypes.CDLL(None)
    assert libc.posix_memalign(ctypes.byref(block), 64, 64) == 0
    ctypes.memset(block.value, 1, 64)
    print("inside", flush=True)
    ctypes.c_char.from_address(block.value + int(sys.argv[1])).value
    """
    child = run_child(code, str(offset), env={**os.environ, "LD_PRELOAD": guard_library(), **environment})
    assert (child.stdout, child.returncode) == ("inside\n", -signal.SIGSEGV)
