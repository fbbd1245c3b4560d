"""Optional values inside a graph: all is known when compiling."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper as oh
import pytest
from onnx_check import Compiled

from onnxkiln.errors import ConversionError

FLOATS = oh.make_tensor_type_proto(1, ["n"])


def model(*nodes: onnx.NodeProto, outputs: dict[str, int]) -> Compiled:
    graph = oh.make_graph(
        list(nodes),
        "optional",
        [oh.make_tensor_value_info("x", 1, ["n"])],
        [oh.make_tensor_value_info(name, dtype, None) for name, dtype in outputs.items()],
    )
    return Compiled(oh.make_model(graph, opset_imports=[oh.make_opsetid("", 18)], ir_version=10))


def test_values_and_their_absence():
    compiled = model(
        oh.make_node("Optional", ["x"], ["full"]),
        oh.make_node("Optional", [], ["empty"], type=FLOATS),
        oh.make_node("OptionalHasElement", ["full"], ["a"]),
        oh.make_node("OptionalHasElement", ["empty"], ["b"]),
        oh.make_node("OptionalHasElement", ["x"], ["c"]),
        oh.make_node("OptionalHasElement", [""], ["d"]),
        oh.make_node("OptionalGetElement", ["full"], ["got"]),
        oh.make_node("Neg", ["got"], ["y"]),
        oh.make_node("SequenceConstruct", ["x", "x"], ["s"]),
        oh.make_node("Optional", ["s"], ["held"]),
        oh.make_node("OptionalGetElement", ["held"], ["back"]),
        oh.make_node("ConcatFromSequence", ["back"], ["z"], axis=0),
        outputs={"a": 9, "b": 9, "c": 9, "d": 9, "y": 1, "z": 1},
    )
    x = np.arange(3, dtype=np.float32)
    *flags, y, z = compiled({"x": x})
    assert [bool(flag) for flag in flags] == [True, False, True, False]
    np.testing.assert_array_equal(y, -x)
    np.testing.assert_array_equal(z, np.concatenate([x, x]))


def test_nothing_to_get():
    with pytest.raises(ConversionError, match="the optional has no value"):
        model(
            oh.make_node("Optional", [], ["empty"], type=FLOATS),
            oh.make_node("OptionalGetElement", ["empty"], ["y"]),
            outputs={"y": 1},
        )
