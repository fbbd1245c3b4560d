"""The quantized zoo's own logic, and a small network through all of its forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.helper as oh
import pytest

from quantized_zoo import compare_form
from zoo_check import segments
from zoo_check.meaning import best_class, direction
from zoo_check.quantized_forms import FORMS, operators, prepare
from zoo_check.segments import check_parts, judge_part
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
    power = oh.make_node("Pow", ["y", "two"], ["z"])
    before.graph.node.append(power)
    before.graph.initializer.append(oh.make_tensor("two", 1, [], [2.0]))
    onnx.save(before, tmp_path / "m.onnx")
    kept = onnx.load_model_from_string(moved_model(tmp_path / "m.onnx", 1)).graph.initializer[-1]
    assert onnx.numpy_helper.to_array(kept) == 2.0
    huge = np.array([-np.finfo(np.float32).max, 1], np.float32)
    assert moved({"x": huge}, 1)["x"][0] == huge[0]
    assert moved({"i": np.arange(3)}, 1)["i"].tolist() == [0, 1, 2]


def test_parts_are_judged_by_one_quantum() -> None:
    expected = np.array([0, 7, 255], np.uint8)
    assert judge_part("q", expected, expected) == (None, 0)
    assert judge_part("q", np.array([0, 8, 254], np.uint8), expected) == (None, 2)
    problem, _ = judge_part("q", np.array([0, 9, 255], np.uint8), expected)
    assert problem == "q: 1 of 3 elements up to 2 quanta away"
    assert judge_part("q", np.array([255, 7, 255], np.uint8), expected)[0] is not None  # no wrapping
    sums = np.array([5, -6], np.int32)
    assert judge_part("s", sums, sums) == (None, 0)
    assert judge_part("s", sums + np.int32(1), sums)[0] is not None


def test_a_part_that_is_wrong_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, prepared, model = (tmp_path / f"{name}.onnx" for name in ("float", "prepared", "quantized"))
    network(source)
    prepare(source, prepared)
    feeds = [{"x": rng.standard_normal((2, 3, 9, 9)).astype(np.float32)}]
    FORMS["qdq"](prepared, model, feeds)
    original = segments.divided

    def changed(whole: onnx.ModelProto, values: segments.Feeds) -> onnx.ModelProto:
        made = original(whole, values)
        scale = next(t for t in made.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and not t.dims)
        scale.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(scale) * np.float32(1.1), scale.name))
        return made

    assert not check_parts(model, feeds, tmp_path).problems
    monkeypatch.setattr(segments, "divided", changed)
    assert check_parts(model, feeds, tmp_path).problems


def test_what_is_read_has_to_be_the_same(tmp_path: Path) -> None:
    feeds = {"x": np.zeros(1, np.float32)}
    answers = [lambda _feeds, row=row: [np.array([row], np.float32)] for row in ([1, 2], [2, 1], [1.01, 2])]
    assert best_class(tmp_path, feeds, answers[0], answers[2:])[1] == []
    assert best_class(tmp_path, feeds, answers[0], answers[1:])[1]
    assert direction(tmp_path, feeds, answers[0], answers[2:])[1] == []
    assert direction(tmp_path, feeds, answers[0], answers[1:])[1]
