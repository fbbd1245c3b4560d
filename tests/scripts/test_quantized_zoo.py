"""The quantized zoo's own logic, and a small network through all of its forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.helper as oh
import pytest

from quantized_zoo import compare_form
from zoo_check.quantized_forms import FORMS, operators, prepare
from zoo_check.spread import judge, moved, moved_model

rng = np.random.default_rng(19)


def network(path: Path) -> None:
    """Two convolutions, a sum, a pool and a product, of opset 12: the quantizer needs 13."""
    shapes = {"w1": (8, 3, 3, 3), "w2": (8, 8, 1, 1), "b": (8,), "w3": (8, 5), "c": (5,)}
    weights = [oh.make_tensor(name, 1, s, (rng.standard_normal(s) / 3).ravel()) for name, s in shapes.items()]
    nodes = [
        oh.make_node("Conv", ["x", "w1", "b"], ["a"], pads=[1, 1, 1, 1]),
        oh.make_node("Relu", ["a"], ["r"]),
        oh.make_node("Conv", ["r", "w2"], ["s"]),
        oh.make_node("Add", ["r", "s"], ["t"]),
        oh.make_node("GlobalAveragePool", ["t"], ["p"]),
        oh.make_node("Flatten", ["p"], ["f"]),
        oh.make_node("Gemm", ["f", "w3", "c"], ["y"]),
    ]
    x, y = oh.make_tensor_value_info("x", 1, ["n", 3, 9, 9]), oh.make_tensor_value_info("y", 1, ["n", 5])
    graph = oh.make_graph(nodes, "g", [x], [y], weights)
    onnx.save(oh.make_model(graph, opset_imports=[oh.make_opsetid("", 12)], ir_version=8), path)


OPERATORS = {"qdq": "QuantizeLinear", "qoperator": "QLinearConv", "dynamic": "ConvInteger"}


@pytest.mark.parametrize(("form", "expected"), OPERATORS.items())
def test_a_small_network_in_each_form(form: str, expected: str, tmp_path: Path) -> None:
    source, prepared, model = (tmp_path / f"{name}.onnx" for name in ("float", "prepared", "quantized"))
    network(source)
    prepare(source, prepared)
    feeds = [{"x": rng.standard_normal((n, 3, 9, 9)).astype(np.float32)} for n in (2, 1)]
    FORMS[form](prepared, model, feeds)
    assert operators(model)[expected] >= 2
    row, problems = compare_form("small", form, model, feeds, tmp_path)
    assert not problems
    assert row[-1] == "right"


def test_judged_by_floats_tolerance_and_by_the_spread() -> None:
    expected = np.array([1.0, 2.0], np.float32)
    assert judge("y", expected + np.float32(1e-4), expected, 0.0) is None
    assert judge("y", expected + np.float32(0.1), expected, 0.06) is None
    assert "0.1 away" in str(judge("y", expected + np.float32(0.1), expected, 0.04))
    assert judge("y", np.array([np.nan, 2], np.float32), expected, 1.0) is not None
    assert judge("y", expected.astype(np.float64), expected, 1.0) is not None
    assert judge("y", expected[:1], expected, 1.0) is not None


def test_floats_are_moved_in_their_last_places(tmp_path: Path) -> None:
    network(tmp_path / "m.onnx")
    before, after = onnx.load(tmp_path / "m.onnx"), onnx.load_model_from_string(moved_model(tmp_path / "m.onnx", 1))
    for a, b in zip(before.graph.initializer, after.graph.initializer, strict=True):
        old, new = onnx.numpy_helper.to_array(a), onnx.numpy_helper.to_array(b)
        np.testing.assert_allclose(new, old, rtol=4e-7)
        assert (new != old).any()
    huge = np.array([-np.finfo(np.float32).max, 1], np.float32)
    assert moved({"x": huge}, 1)["x"][0] == huge[0]
    assert moved({"i": np.arange(3)}, 1)["i"].tolist() == [0, 1, 2]
