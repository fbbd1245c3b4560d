"""Runs small ONNX models through the frontend and TVM's plain pipeline, and compares with ONNX's reference evaluator.

``check_cases`` is the common door: many one-node cases become one model, so that they cost one compile.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper as oh
import tvm
from onnx.reference import ReferenceEvaluator
from tvm import relax

import onnxkiln
from onnxkiln.frontend import import_model
from onnxkiln.passes import emit_loops
from onnxkiln.passes.outline_branches import outline_branches

Array = np.ndarray


@dataclass(frozen=True)
class Const:
    """Wraps an input of a case that the model holds as an initializer instead of taking it at run time."""

    array: Array


@dataclass(frozen=True)
class Case:
    """One node: ``inputs`` in order (an array, a ``Const``, or None for an omitted one), attributes, outputs.

    ``dims`` is "fixed"; "open" (every dim a name of its own); "first" (open in the first input only); or "shared"
    (equal sizes share a name).
    ``expected`` replaces the reference evaluator where ONNX leaves a result open or the evaluator is wrong.
    """

    op_type: str
    inputs: Sequence[Array | Const | None]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outputs: int = 1
    dims: str = "fixed"
    expected: Sequence[Array] | None = None
    domain: str = ""

    def __str__(self) -> str:
        arrays = (value.array if isinstance(value, Const) else value for value in self.inputs)
        shown = ", ".join(
            "none" if array is None else f"{np.asarray(array).dtype}{list(np.shape(array))}" for array in arrays
        )
        return f"{self.op_type}({shown}) {dict(self.attributes)} {self.dims}"


def case(
    op_type: str, *inputs: Any, outputs: int = 1, dims: str = "fixed", expected: Any = None, **attributes: Any
) -> Case:
    """Shorthand for ``Case``; ``expected`` may be one array."""
    wanted = [expected] if isinstance(expected, np.ndarray) else expected
    return Case(op_type, inputs, attributes, outputs, dims, wanted)


def check_cases(
    cases: Sequence[Case], opset: int = 20, rtol: float = 1e-5, atol: float = 1e-6, artifact: bool = False
) -> None:
    """Compile all cases as one model and compare each output with the reference.

    ``artifact`` goes the whole way, through all passes and schedules to a loaded artifact: slower, so for a few cases.
    """
    model, feeds, references = joined(cases, opset)
    actual = run_artifact(model, feeds) if artifact else run(model, feeds)
    for name, result, reference in zip([o.name for o in model.graph.output], actual, references, strict=True):
        index = int(name.split("_")[0][1:])
        assert_same(result, reference, f"case {index}: {cases[index]}, {name}", rtol, atol)


def check_model(
    model: onnx.ModelProto | str,
    feeds: Mapping[str, Array] | Sequence[Mapping[str, Array]],
    *,
    shapes: Mapping[str, Sequence[Any]] | None = None,
    reference: str = "onnx",
    rtol: float = 1e-5,
    atol: float = 1e-6,
) -> None:
    """Compile a model (proto or ``onnx.parser`` text) once; compare it with the reference on each set of feeds.

    ``reference`` is "onnx" (the reference evaluator) or "ort" (ONNX Runtime).
    """
    proto = onnx.parser.parse_model(model) if isinstance(model, str) else model
    compiled = Compiled(proto, shapes)
    for index, feed in enumerate([feeds] if isinstance(feeds, Mapping) else feeds):
        wanted = _ort(proto, feed) if reference == "ort" else ReferenceEvaluator(proto).run(None, dict(feed))
        for output, result, expected in zip(proto.graph.output, compiled(feed), wanted, strict=True):
            assert_same(result, expected, f"feeds {index}, output {output.name!r}", rtol, atol)


def run(
    model: onnx.ModelProto, feeds: Mapping[str, Array], shapes: Mapping[str, Sequence[Any]] | None = None
) -> list[Array]:
    """Import, compile and run once."""
    return Compiled(model, shapes)(feeds)


def run_artifact(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """Compile to an artifact, load it and run once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        with onnxkiln.load(onnxkiln.compile(path, Path(folder) / "artifact")) as session:
            return session.run(None, dict(feeds))


class Compiled:
    """A model compiled by TVM's plain llvm pipeline; call it with feeds by input name."""

    def __init__(self, model: onnx.ModelProto, shapes: Mapping[str, Sequence[Any]] | None = None):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            onnx.save(model, path)
            self.imported = import_model(path, shapes)
        module, _ = outline_branches(self.imported.module)
        plain = relax.get_pipeline("default")
        executable = emit_loops.build(module, tvm.target.Target("llvm"), plain, "default")
        self._vm = relax.VirtualMachine(executable, tvm.cpu())

    def __call__(self, feeds: Mapping[str, Array]) -> list[Array]:
        inputs = [
            tvm.runtime.tensor(np.ascontiguousarray(feeds[spec.name]).reshape(feeds[spec.name].shape))
            for spec in self.imported.contract.inputs
        ]
        results = self._vm["main"](*inputs)
        return [result.numpy() for result in results]


def assert_same(actual: Array, expected: Array, what: str, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """Same shape and dtype, NaN and infinities at the same places, integers equal, floats close."""
    expected = np.asarray(expected)
    assert actual.dtype == expected.dtype, f"{what}: dtype {actual.dtype}, expected {expected.dtype}"
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    if expected.dtype.kind in "biu":
        np.testing.assert_array_equal(actual, expected, err_msg=what)
        return
    narrow = {2: 2e-2 if expected.dtype.name == "bfloat16" else 2e-3}.get(expected.dtype.itemsize)
    rtol, atol = (narrow, narrow) if narrow is not None else (rtol, atol)
    wide = np.float64
    np.testing.assert_allclose(actual.astype(wide), expected.astype(wide), rtol, atol, equal_nan=True, err_msg=what)


def _ort(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(
        None, dict(feeds)
    )


def joined(cases: Sequence[Case], opset: int) -> tuple[onnx.ModelProto, dict[str, Array], list[Array]]:
    """One model of all the cases, its feeds, and the reference's outputs."""
    nodes, inputs, initializers, outputs = [], [], [], []
    feeds: dict[str, Array] = {}
    references: list[Array] = []
    for index, item in enumerate(cases):
        names = []
        for position, value in enumerate(item.inputs):
            name = "" if value is None else f"c{index}_x{position}"
            names.append(name)
            if isinstance(value, Const):
                initializers.append(_initializer(value.array, name))
            elif value is not None:
                feeds[name] = value
                inputs.append(_value_info(name, value, _dims_of_input(item.dims, position), index))
        results = [f"c{index}_y{i}" for i in range(item.outputs)]
        node = oh.make_node(item.op_type, names, results, name=f"case_{index}", domain=item.domain, **item.attributes)
        nodes.append(node)
        wanted = _reference(item, node, opset)
        references += wanted
        outputs += [_value_info(name, array, "none", index) for name, array in zip(results, wanted, strict=True)]
    graph = oh.make_graph(nodes, "cases", inputs, outputs, initializers)
    opsets = [_opset(domain, opset) for domain in sorted({"", *(c.domain for c in cases)})]
    return oh.make_model(graph, opset_imports=opsets, ir_version=10), feeds, references


def _dims_of_input(dims: str, position: int) -> str:
    if dims != "first":
        return dims
    return "open" if position == 0 else "fixed"


def _opset(domain: str, opset: int) -> onnx.OperatorSetIdProto:
    """``opset`` is of ONNX's own domain; other domains have one version each here."""
    return oh.make_opsetid(domain, {"": opset, "ai.onnx.ml": 4}.get(domain, 1))


def _initializer(array: Array, name: str) -> onnx.TensorProto:
    return oh.make_tensor(name, _elem_type(array), array.shape, array.tobytes(), raw=True)


def _elem_type(array: Array) -> int:
    return oh.np_dtype_to_tensor_dtype(np.asarray(array).dtype)


def _value_info(name: str, array: Array, dims: str, index: int) -> onnx.ValueInfoProto:
    sizes: list[Any] = list(np.shape(array))
    if dims == "open":
        sizes = [f"{name}_d{axis}" for axis in range(len(sizes))]
    elif dims == "shared":
        sizes = [f"c{index}_n{size}" for size in sizes]
    elif dims == "none":
        sizes = [None for _ in sizes]
    return oh.make_tensor_value_info(name, _elem_type(array), sizes)


def _reference(item: Case, node: onnx.NodeProto, opset: int) -> list[Array]:
    if item.expected is not None:
        return list(item.expected)
    arrays = {
        name: value.array if isinstance(value, Const) else value
        for name, value in zip(node.input, item.inputs, strict=True)
        if name
    }
    infos = [oh.make_tensor_value_info(name, _elem_type(array), None) for name, array in arrays.items()]
    outs = [oh.make_value_info(name, onnx.TypeProto()) for name in node.output]
    graph = oh.make_graph([node], "reference", infos, outs)
    model = oh.make_model(graph, opset_imports=[_opset(item.domain, opset)])
    with np.errstate(all="ignore"):
        return [np.asarray(result) for result in ReferenceEvaluator(model).run(None, arrays)]
