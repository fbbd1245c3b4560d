"""Dynamic quantization against the form that ONNX Runtime's quantizer writes, and against floating point."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnxruntime.quantization import QuantType, quantize_dynamic
from quantized_models import graph_model, node, noise, operators, residual_network, rewritten, run, signal_to_noise

from onnxkiln.errors import UsageError
from onnxkiln.quantization.fold_scales import fold_scales
from onnxkiln.quantization.insert_dynamic import insert_dynamic
from onnxkiln.quantization.plan import Selection, make_plan


def rewrite(model: ir.Model) -> None:
    fold_scales(model)
    insert_dynamic(model, make_plan(model.graph, Selection(), carry=False))


def test_matrix_products_are_as_close_as_onnx_runtimes(tmp_path):
    nodes = [node("MatMul", "x w", "m"), node("Add", "m b", "a"), node("Relu", "a", "r"), node("MatMul", "r v", "y")]
    constants = {"w": noise(6, 8), "b": noise(8, seed=1), "v": noise(8, 5, seed=2)}
    model = graph_model(nodes, {"x": ["n", 3, 6]}, ["y"], constants)
    onnx.save(model, tmp_path / "float.onnx")
    quantize_dynamic(tmp_path / "float.onnx", tmp_path / "ort.onnx", weight_type=QuantType.QInt8, per_channel=True)
    made, feeds = rewritten(model, rewrite), {"x": noise(2, 3, 6, seed=3)}
    assert operators(made).count("MatMulInteger") == 2
    (exact,), (theirs,), (ours,) = run(model, feeds), run(onnx.load(tmp_path / "ort.onnx"), feeds), run(made, feeds)
    assert signal_to_noise(exact, ours) > 30
    assert signal_to_noise(exact, theirs) > 30


@pytest.mark.parametrize("opset", [11, 17, 21])
def test_every_row_has_its_own_scale(opset):
    """A row that is a thousand times larger costs the others nothing; a row of zeros stays one."""
    model = graph_model([node("MatMul", "x w", "y")], {"x": ["n", 3, 6]}, ["y"], {"w": noise(6, 8)}, opset)
    x = noise(2, 3, 6, seed=3)
    x[0, 1] *= 1000
    x[1, 2] = 0
    made = rewritten(model, rewrite)
    (exact,), (found,) = run(model, {"x": x}), run(made, {"x": x})
    rows = exact.reshape(6, 8), found.reshape(6, 8)
    assert all(signal_to_noise(a, b) > 30 for a, b in zip(*rows, strict=True) if a.any())
    assert not found[1, 2].any()
    low, high = np.minimum(x.min(-1, keepdims=True), 0), np.maximum(x.max(-1, keepdims=True), 0)
    scale = np.maximum((high - low) * np.float32(1 / 255), np.float32(1e-30))
    weights = np.abs(noise(6, 8)).max(axis=0) / np.float32(127)
    zero = np.rint(-low / scale)
    integers = np.clip(np.rint(x / scale) + zero, 0, 255) - zero
    expected = (integers @ np.rint(noise(6, 8) / weights)) * scale * weights
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_rows_of_one_sign_use_all_levels():
    """What is never negative (behind ReLU) rounds twice as finely as by its magnitude alone."""
    model = graph_model([node("MatMul", "x w", "y")], {"x": ["n", 64]}, ["y"], {"w": noise(64, 8)})
    made = rewritten(model, rewrite)
    for x in (np.abs(noise(50, 64, seed=3)), -np.abs(noise(50, 64, seed=3)), noise(50, 64, seed=3)):
        integers = run_integers(made, x)
        assert integers.min() == 0 and integers.max() == 255
        (exact,), (found,) = run(model, {"x": x}), run(made, {"x": x})
        assert signal_to_noise(exact, found) > 35


def run_integers(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """The uint8 that the product reads."""
    name = next(item.input[0] for item in model.graph.node if item.op_type == "MatMulInteger")
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, None))
    return run(watched, {"x": x})[-1]


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_with_every_bias(transposed):
    for bias in (noise(5), noise(1, 5), np.float32(2), noise(3, 1)):
        constants = {"w": noise(5, 7) if transposed else noise(7, 5), "b": bias}
        nodes = [node("Gemm", "x w b", "y", transB=transposed, beta=0.5)]
        model, feeds = graph_model(nodes, {"x": [3, 7]}, ["y"], constants), {"x": noise(3, 7)}
        made = rewritten(model, rewrite)
        assert "MatMulInteger" in operators(made)
        assert signal_to_noise(run(model, feeds)[0], run(made, feeds)[0]) > 30


def test_convolutions_and_shared_data():
    model, feeds = residual_network(), {"x": noise(2, 3, 13, 13)}
    made = rewritten(model, rewrite)
    assert operators(made).count("ConvInteger") == 3
    assert [output.name for output in made.graph.output] == ["y"]
    assert signal_to_noise(run(model, feeds)[0], run(made, feeds)[0]) > 25
    nodes = [node("MatMul", "x w", "a"), node("MatMul", "x w", "b"), node("Add", "a b", "y")]
    shared = rewritten(graph_model(nodes, {"x": [2, 4]}, ["y"], {"w": noise(4, 4)}), rewrite)
    assert operators(shared).count("ReduceMax") == operators(shared).count("ReduceMin") == 1
    assert len([t for t in shared.graph.initializer if list(t.dims) == [4, 4]]) == 1


def test_an_old_opset_is_refused():
    with pytest.raises(UsageError, match="needs opset 11, the model has 10"):
        rewrite(ir.from_proto(residual_network(opset=10)))
