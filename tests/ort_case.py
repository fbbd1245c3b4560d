"""Cases whose expected outputs are ONNX Runtime's, for operators where ONNX leaves rounding or corner cases open."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnx.helper as oh
import onnxruntime as ort
from onnx_check import Case, Const


def by_runtime(item: Case, opset: int = 20) -> Case:
    """The case with ONNX Runtime's answer as what is expected."""
    given = [value.array if isinstance(value, Const) else value for value in item.inputs]
    arrays = [None if value is None else np.asarray(value) for value in given]
    names = ["" if array is None else f"x{i}" for i, array in enumerate(arrays)]
    outputs = [f"y{i}" for i in range(item.outputs)]
    node = oh.make_node(item.op_type, names, outputs, domain=item.domain, **item.attributes)
    feeds = {name: array for name, array in zip(names, arrays, strict=True) if array is not None}
    infos = [oh.make_tensor_value_info(n, oh.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in feeds.items()]
    graph = oh.make_graph([node], "g", infos, [oh.make_value_info(name, onnx.TypeProto()) for name in outputs])
    versions = {"": opset, "ai.onnx.ml": 4, "com.microsoft": 1}
    opsets = [oh.make_opsetid(domain, version) for domain, version in versions.items()]
    model = oh.make_model(graph, opset_imports=opsets, ir_version=9)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return replace(item, expected=session.run(None, feeds))
