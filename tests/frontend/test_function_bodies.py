"""Operators without a converter of ours run through ONNX's own definition of them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper as oh
import pytest
from onnx.parser import parse_model
from onnx_check import Case, Const, case, check_cases, check_model
from tiny_models import save

from onnxkiln.errors import ConversionError
from onnxkiln.frontend import import_model

rng = np.random.default_rng(8)


def floats(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_plain_bodies(dims: str) -> None:
    check_cases([case("SwiGLU", floats(3, 8), floats(3, 8), dims=dims)], opset=28)
    check_cases([case(name, Const(np.array(9)), dims=dims) for name in ("HannWindow", "BlackmanWindow")])


@pytest.mark.parametrize("dims", ["fixed", "open"])
def test_bodies_that_depend_on_the_node(dims: str) -> None:
    scores, labels = floats(4, 3), np.array([0, 2, 1, 2])
    check_cases(
        [
            case("SoftmaxCrossEntropyLoss", scores, labels, dims=dims),
            case("SoftmaxCrossEntropyLoss", scores, labels, dims=dims, reduction="none"),
            case("NegativeLogLikelihoodLoss", scores, labels, dims=dims, reduction="sum"),
        ],
        rtol=1e-4,
    )


def test_attention() -> None:
    q, k, v = floats(2, 3, 4, 8), floats(2, 3, 6, 8), floats(2, 3, 6, 8)
    check_cases([case("Attention", q, k, v), case("Attention", q, k, v, is_causal=1, scale=0.3)], opset=24, rtol=1e-4)


@pytest.mark.parametrize(("types", "words"), [
    ((1, 10, 1), "node 'att' (Attention): inputs of one type are needed; Q is float32, K is float16"),
    ((10, 10, 1), "node 'att' (Attention): inputs of one type are needed; Q is float16, V is float32"),
])  # fmt: skip
def test_inputs_of_one_type_are_asked_for_at_the_node_and_not_inside_its_body(types, words, tmp_path) -> None:
    inputs = [oh.make_tensor_value_info(name, kind, [1, 2, 3, 4]) for name, kind in zip("qkv", types, strict=True)]
    output = oh.make_tensor_value_info("y", types[0], [1, 2, 3, 4])
    graph = oh.make_graph([oh.make_node("Attention", ["q", "k", "v"], ["y"], name="att")], "g", inputs, [output])
    path = save(oh.make_model(graph, opset_imports=[oh.make_opsetid("", 23)], ir_version=10), tmp_path)
    with pytest.raises(ConversionError) as caught:
        import_model(path)
    assert words in str(caught.value) and str(path) in str(caught.value)


def test_in_a_subgraph() -> None:
    model = parse_model(
        """<ir_version: 10, opset_import: ["": 28]>
        g (bool flag, float[n, 4] x, float[n, 4] y) => (float[n, 4] z) {
            z = If (flag) <
                then_branch = a () => (float[n, 4] p) { p = SwiGLU (x, y) },
                else_branch = b () => (float[n, 4] q) { q = Mul (x, y) }
            >
        }"""
    )
    x, y = floats(3, 4), floats(3, 4)
    for flag in (True, False):
        sigmoid = 1 / (1 + np.exp(-x))
        check_model_against(model, {"flag": np.array(flag), "x": x, "y": y}, x * sigmoid * y if flag else x * y)


def check_model_against(model: onnx.ModelProto, feeds: dict[str, np.ndarray], expected: np.ndarray) -> None:
    from onnx_check import assert_same, run

    assert_same(run(model, feeds)[0], expected, "z", rtol=1e-5)


def test_what_can_not_be_converted_keeps_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from onnx_check import Compiled

    from onnxkiln.errors import UnsupportedOperators
    from onnxkiln.frontend import function_bodies

    supported = function_bodies._is_supported
    monkeypatch.setattr(function_bodies, "_is_supported", lambda n, o: n.op_type != "Cos" and supported(n, o))
    model = parse_model(
        """<ir_version: 10, opset_import: ["": 22]>
        g (int64 n) => (float[m] y) { y = HannWindow (n) }"""
    )
    with pytest.raises(UnsupportedOperators, match="HannWindow"):
        Compiled(model)


def test_body_of_a_body() -> None:
    case_ = Case("SoftmaxCrossEntropyLoss", [floats(4, 3), np.array([0, 2, 1, 2])], {"reduction": "mean"}, 2)
    check_cases([case_], opset=13, rtol=1e-4)


def test_feeds_of_every_size() -> None:
    model = parse_model(
        """<ir_version: 10, opset_import: ["": 28]>
        g (float[n, m] x, float[n, m] y) => (float[n, m] z) { z = SwiGLU (x, y) }"""
    )
    check_model(model, [{"x": floats(n, m), "y": floats(n, m)} for n, m in [(1, 1), (3, 7), (0, 2)]])
