"""Small compiled modules for the tests of artifacts, written directly in TVMScript: no frontend, no passes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper as oh
import tvm
from tvm.ir import IRModule

from onnxkiln import targets
from onnxkiln.artifacts.export import ExportRequest, export
from onnxkiln.artifacts.manifest import Kernel, PassReport, Source
from onnxkiln.contract import Contract, DimRange, TensorSpec

# y = x * w + x over n elements, in parallel and vectorised: code that faults when it assumes alignment it lacks.
SCALE = """
@I.ir_module
class Module:
    @T.prim_func(s_tir=True, private=True)
    def scale(x: T.Buffer(({n},), "float32", align={align}), w: T.Buffer(({n},), "float32", align={align}),
              y: T.Buffer(({n},), "float32", align={align})):
        T.func_attr({{"tirx.noalias": True}})
        for outer in T.parallel({n} // 16):
            for inner in T.vectorized(16):
                with T.sblock("y"):
                    i = T.axis.spatial({n}, outer * 16 + inner)
                    y[i] = x[i] * w[i] + x[i]

    @R.function
    def main(x: R.Tensor(({n},), "float32"), weights: R.Object):
        cls = Module
        with R.dataflow():
            w = R.call_pure_packed("vm.builtin.tuple_getitem", weights, R.prim_value(0),
                                   ty_args=(R.Tensor(({n},), "float32"),))
            y = R.call_tir(cls.scale, (x, w), out_ty=R.Tensor(({n},), "float32"))
            out = (y,)
            R.output(out)
        return out
"""

# total = a + b over [rows, 4], with a symbolic row count, and a copy of a: two inputs that must agree, two outputs.
ADD = """
@I.ir_module
class Module:
    @T.prim_func(s_tir=True, private=True)
    def add(a: T.handle, b: T.handle, c: T.handle):
        T.func_attr({{"tirx.noalias": True}})
        rows = T.int64()
        A = T.match_buffer(a, (rows, T.int64(4)), "{dtype}", align={align})
        B = T.match_buffer(b, (rows, T.int64(4)), "{dtype}", align={align})
        C = T.match_buffer(c, (rows, T.int64(4)), "{dtype}", align={align})
        for i, j in T.grid(rows, T.int64(4)):
            with T.sblock("c"):
                vi, vj = T.axis.remap("SS", [i, j])
                C[vi, vj] = A[vi, vj] {op} B[vi, vj]

    @R.function
    def main(a: R.Tensor(("rows", 4), "{dtype}"), b: R.Tensor(("rows", 4), "{dtype}"), weights: R.Object):
        rows = T.int64()
        cls = Module
        with R.dataflow():
            total = R.call_tir(cls.add, (a, b), out_ty=R.Tensor((rows, 4), "{dtype}"))
            again = R.call_tir(cls.add, (total, b), out_ty=R.Tensor((rows, 4), "{dtype}"))
            out = (total, again)
            R.output(out)
        return out
"""

# y = 2 x in a loop without any schedule: what becomes of it is LLVM's own choice.
PLAIN_LOOP = """
@I.ir_module
class Module:
    @T.prim_func(s_tir=True)
    def plain(x: T.Buffer((4096,), "float32"), y: T.Buffer((4096,), "float32")):
        T.func_attr({{"tirx.noalias": True}})
        for outer in T.serial(4096):
            with T.sblock("y"):
                i = T.axis.spatial(4096, outer)
                y[i] = x[i] * T.float32(2)
"""

SOURCE = Source("tiny.onnx", "0" * 64, {"ai.onnx": 20})


def parse(script: str, **values: Any) -> IRModule:
    """TVMScript text with its placeholders filled in."""
    return tvm.script.from_source(script.format(**values))


def build(module: IRModule, target: targets.Target) -> Any:
    """The executable for ``target``."""
    return tvm.compile(module, target=tvm.target.Target(target.tvm_json()))


def scale_weights(n: int = 1024) -> np.ndarray:
    """The weights of ``scale_artifact``: what a test's expected values are made from."""
    return np.linspace(-1, 1, n, dtype=np.float32)


def scale_request(n: int = 1024, target: str = "cpu", **changes: Any) -> ExportRequest:
    """y = x * w + x."""
    module = parse(SCALE, n=n, align=4)
    values: dict[str, Any] = {
        "libraries": [(one, build(module, one)) for one in targets.parse(target)],
        "weights": [("w", scale_weights(n))],
        "contract": Contract((TensorSpec("x", "float32", (n,)),), (TensorSpec("y", "float32", (n,)),)),
        "source": SOURCE,
        "level": "O2",
        "passes": [PassReport("FuseOps", 3)],
        "kernels": [Kernel("scale", "generic", vectorized=True)],
    }
    return ExportRequest(**(values | changes))


def scale_model(folder: Path, op_type: str = "Add") -> Path:
    """The same as ONNX, y = x * w + x over 1024 floats, or with another operator in place of the sum."""
    x, y = (oh.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1024]) for name in ("x", "y"))
    weights = onnx.numpy_helper.from_array(scale_weights(), "w")
    nodes = [oh.make_node("Mul", ["x", "w"], ["product"]), oh.make_node(op_type, ["product", "x"], ["y"])]
    model = oh.make_model(
        oh.make_graph(nodes, "scale", [x], [y], [weights]), opset_imports=[oh.make_opsetid("", 20)], ir_version=8
    )
    onnx.save(model, folder / f"{op_type}.onnx")
    return folder / f"{op_type}.onnx"


def add_request(dtype: str = "float32", op: str = "+", **changes: Any) -> ExportRequest:
    """total = a + b, again = total + b, rows 0..64."""
    target = targets.host()
    module = parse(ADD, dtype=dtype, op=op, align=np.dtype(np.uint16 if dtype == "bfloat16" else dtype).itemsize)
    pair = tuple(TensorSpec(name, dtype, ("rows", 4)) for name in ("a", "b"))
    outputs = tuple(TensorSpec(name, dtype, ("rows", 4)) for name in ("total", "again"))
    values: dict[str, Any] = {
        "libraries": [(target, build(module, target))],
        "weights": [],
        "contract": Contract(pair, outputs, {"rows": DimRange(0, 64)}),
        "source": SOURCE,
        "level": "O2",
    }
    return ExportRequest(**(values | changes))


def write(request: ExportRequest, folder: Path, name: str = "artifact") -> Path:
    """Export below ``folder``."""
    return export(request, folder / name)


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the parsed manifest in place, and write it back."""
    path = folder / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
