"""From a float model and calibration data to an artifact that computes in integers."""

import json

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from quantized_models import graph_model, node, noise, residual_network, run, signal_to_noise

import onnxkiln
from onnxkiln.errors import AccuracyError, InputError, UsageError
from onnxkiln.frontend import import_model
from onnxkiln.quantization.settings import settings_of
from onnxkiln.quantizer import Quantized
from onnxkiln.verifier import verify

DATA = {"x": noise(12, 3, 13, 13)}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "network.onnx"
    onnx.save(residual_network(), path)
    return path


def compiled(model, folder, **options):
    return onnxkiln.compile(model, folder / "artifact", include_runtime=False, **{"level": "O1", **options})


def answer(artifact, feeds):
    with onnxkiln.load(artifact) as session:
        return session.run(None, feeds), session.manifest


def test_an_artifact_agrees_with_onnx_runtime_on_the_same_integers(model, tmp_path):
    calibration = tmp_path / "ranges.json"
    artifact = compiled(model, tmp_path, quantize="int8", calibrate=DATA, save_calibration=calibration, level="O2")
    feeds = {"x": noise(5, 3, 13, 13, seed=7)}
    (found,), manifest = answer(artifact, feeds)
    (exact,) = run(onnx.load(model), feeds)
    made: list[onnx.ModelProto] = []
    quantized = Quantized(settings_of("int8", calibration))

    def rewrite(graph: ir.Model, source) -> None:
        quantized.rewrite(graph, source)
        made.append(ir.to_proto(graph))

    import_model(model, rewrite=rewrite)
    (expected,) = run(made[0], feeds)
    assert signal_to_noise(expected, found) > 40  # a few values fall on the other side of a half
    assert signal_to_noise(exact, found) > 25
    assert manifest.quantization["int8"] == ["c1_node", "c2_node", "c3_node", "y_node"]
    assert manifest.quantization["samples"] == 12
    assert json.loads(calibration.read_text())["ranges"]["r1"][0] == 0


def test_a_saved_calibration_gives_the_same_artifact_without_data(model, tmp_path):
    calibration = tmp_path / "ranges.json"
    first = compiled(model, tmp_path, quantize="int8", calibrate=DATA, save_calibration=calibration)
    second = onnxkiln.compile(
        model, tmp_path / "second", include_runtime=False, level="O1", quantize="int8", calibrate=str(calibration)
    )
    assert (first / "weights.bin").read_bytes() == (second / "weights.bin").read_bytes()
    feeds = {"x": noise(1, 3, 13, 13)}
    np.testing.assert_array_equal(answer(first, feeds)[0][0], answer(second, feeds)[0][0])
    stages = []
    onnxkiln.compile(
        model,
        second,
        include_runtime=False,
        level="O1",
        quantize="int8",
        calibrate=str(calibration),
        progress=lambda *s: stages.append(s),
    )
    assert [stage for stage, _, _ in stages] == [onnxkiln.UP_TO_DATE]
    other = tmp_path / "other.onnx"
    onnx.save(residual_network(opset=18), other)
    with pytest.raises(UsageError, match="another model's calibration"):
        onnxkiln.compile(other, tmp_path / "third", quantize="int8", calibrate=str(calibration))
    with pytest.raises(UsageError, match="has no range for the value 'c3'"):
        document = json.loads(calibration.read_text())
        del document["ranges"]["c3"]
        calibration.write_text(json.dumps(document))
        onnxkiln.compile(model, tmp_path / "third", quantize="int8", calibrate=str(calibration))


def test_excluded_layers_compute_in_floating_point(model, tmp_path):
    artifact = compiled(model, tmp_path, quantize="int8", calibrate=DATA, exclude=["op:Conv"])
    assert answer(artifact, {"x": noise(1, 3, 13, 13)})[1].quantization["int8"] == ["y_node"]
    with pytest.raises(UsageError, match="nothing in the model is called 'nothing'"):
        onnxkiln.compile(model, tmp_path / "b", quantize="int8", calibrate=DATA, exclude=["nothing"])
    with pytest.raises(UsageError, match="no layer can be quantized"):
        onnxkiln.compile(model, tmp_path / "b", quantize="int8", calibrate=DATA, exclude=["*"])


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"quantize": "int4", "calibrate": DATA}, UsageError, "quantize 'int4' is not known"),
        ({"quantize": "int8"}, UsageError, "needs calibration data"),
        ({"calibrate": DATA}, UsageError, "for quantization only"),
        ({"quantize": "int8", "calibrate": DATA, "calibrator": "best"}, UsageError, "calibrator 'best' is not known"),
        ({"quantize": "int8", "calibrate": {"y": noise(1, 3, 13, 13)}}, InputError, "lacks 'x'"),
        ({"quantize": "int8", "calibrate": {"x": noise(1, 3, 13, 12)}}, InputError, r"shape \[1, 3, 13, 12\]"),
    ],
)
def test_what_does_not_go_together_is_refused_before_the_long_part(model, tmp_path, options, error, words):
    with pytest.raises(error, match=words):
        compiled(model, tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_values_that_are_not_finite_are_named(tmp_path):
    nodes = [node("Log", "x", "l"), node("MatMul", "l w", "y")]
    onnx.save(graph_model(nodes, {"x": [1, 4]}, ["y"], {"w": noise(4, 4)}), tmp_path / "log.onnx")
    with pytest.raises(InputError, match="the value 'l' is NaN or infinite"):
        compiled(tmp_path / "log.onnx", tmp_path, quantize="int8", calibrate={"x": np.zeros((1, 4), np.float32)})


def test_verifying_against_the_float_model_says_why_it_differs(model, tmp_path):
    artifact = compiled(model, tmp_path, quantize="int8", calibrate=DATA)
    report = verify(artifact, model, {"x": noise(1, 3, 13, 13)})
    assert not report.agrees
    assert report.finding is None
    assert "differs from a float model by design" in report.notes[0]


def test_a_constant_value_is_noted_and_computes(tmp_path):
    nodes = [node("Mul", "x zero", "z"), node("MatMul", "z w", "m"), node("Add", "m b", "y")]
    constants = {"zero": np.float32(0), "w": noise(4, 4), "b": noise(4)}
    onnx.save(graph_model(nodes, {"x": ["n", 4]}, ["y"], constants), tmp_path / "still.onnx")
    artifact = compiled(tmp_path / "still.onnx", tmp_path, quantize="int8", calibrate={"x": noise(3, 4)})
    (found,), manifest = answer(artifact, {"x": noise(2, 4)})
    np.testing.assert_allclose(found, np.stack([constants["b"]] * 2), rtol=1e-6)
    assert manifest.quantization["notes"] == ["value 'z' was 0 throughout the calibration data"]


def test_dynamic_quantization_needs_no_data(model, tmp_path):
    artifact = compiled(model, tmp_path, quantize="int8-dynamic")
    feeds = {"x": noise(2, 3, 13, 13, seed=9)}
    (found,), manifest = answer(artifact, feeds)
    assert signal_to_noise(run(onnx.load(model), feeds)[0], found) > 25
    assert (manifest.quantization["scheme"], len(manifest.quantization["int8"])) == ("int8-dynamic", 4)


def lossy(folder):
    """A network whose first layer is hopeless in 8 bits: its weights of one channel span six decades."""
    weight = noise(6, 8, seed=2)
    weight[0] *= 1e-6
    nodes = [node("Mul", "x wide", "s"), node("MatMul", "s w", "m"), node("Relu", "m", "r"), node("MatMul", "r v", "y")]
    wide = np.array([1e6, 1, 1, 1, 1, 1], np.float32)
    constants = {"wide": wide, "w": weight, "v": noise(8, 5, seed=3)}
    onnx.save(graph_model(nodes, {"x": ["n", 6]}, ["y"], constants), folder / "lossy.onnx")
    return folder / "lossy.onnx"


@pytest.mark.parametrize("metric", ["cosine", "function"])
def test_a_budget_leaves_the_worst_layer_in_floating_point(tmp_path, metric):
    path, data = lossy(tmp_path), {"x": noise(20, 6)}
    (expected,) = run(onnx.load(path), data)

    def closeness(session):
        (found,) = session.run(None, data)
        return float((found * expected).sum() / max(np.linalg.norm(found) * np.linalg.norm(expected), 1e-9))

    saved = tmp_path / "ranges.json"
    chosen = closeness if metric == "function" else metric
    options = {"calibrate": data, "max_drop": 0.003, "metric": chosen, "save_calibration": saved}
    report = answer(compiled(path, tmp_path, quantize="int8", **options), data)[1].quantization
    assert (report["float"], report["int8"]) == (["m_node"], ["y_node"])
    assert report["budget"]["quantized"] >= report["budget"]["least"] == pytest.approx(0.997, abs=1e-4)
    again = onnxkiln.compile(
        path, tmp_path / "again", include_runtime=False, level="O1", quantize="int8", calibrate=str(saved)
    )
    assert answer(again, data)[1].quantization["float"] == ["m_node"]
    with pytest.raises(UsageError, match="says already which layers"):
        onnxkiln.compile(path, tmp_path / "more", quantize="int8", calibrate=str(saved), max_drop="1%")


def test_a_budget_that_holds_costs_no_layer(tmp_path):
    artifact = compiled(
        lossy(tmp_path), tmp_path, quantize="int8-dynamic", max_drop="100%", calibrate={"x": noise(2, 6)}
    )
    report = answer(artifact, {"x": noise(1, 6)})[1].quantization
    assert report["float"] == []
    assert report["budget"]["metric"] == "agreement"


def test_budgets_that_cannot_be_met_and_metrics_that_fail(tmp_path):
    (tmp_path / "in").mkdir()
    model, data = lossy(tmp_path / "in"), {"x": noise(3, 6)}
    values = iter([1.0, *[0.0] * 20])
    with pytest.raises(
        AccuracyError, match=r"can't be met: fp32 has 1, at least 0.9 is asked for, .* came to 0 at best"
    ):
        compiled(model, tmp_path, quantize="int8", calibrate=data, max_drop=0.1, metric=lambda _session: next(values))
    with pytest.raises(UsageError, match="failed: ZeroDivisionError"):
        compiled(model, tmp_path, quantize="int8", calibrate=data, max_drop=0.1, metric=lambda _session: 1 / 0)
    with pytest.raises(UsageError, match="needs a bound"):
        compiled(model, tmp_path, quantize="int8", calibrate=data, metric="cosine")
    with pytest.raises(UsageError, match="compares on calibration data"):
        compiled(model, tmp_path, quantize="int8-dynamic", max_drop="1%")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_improvements_keep_the_function_and_are_saved(model, tmp_path):
    saved, feeds = tmp_path / "ranges.json", {"x": noise(3, 3, 13, 13, seed=8)}
    improve = ["bias", "equalize", "smooth"]
    options = {"calibrate": DATA, "improve": improve, "save_calibration": saved}
    artifact = compiled(model, tmp_path, quantize="int8", **options)
    (found,), manifest = answer(artifact, feeds)
    assert manifest.quantization["improve"] == improve
    assert signal_to_noise(run(onnx.load(model), feeds)[0], found) > 25
    document = json.loads(saved.read_text())
    assert set(document["shifts"]) == {"c1_node", "c2_node", "c3_node", "y_node"}
    again = onnxkiln.compile(
        model, tmp_path / "again", include_runtime=False, level="O1", quantize="int8", calibrate=str(saved)
    )
    np.testing.assert_array_equal(answer(again, feeds)[0][0], found)
    with pytest.raises(UsageError, match="has improvements of its own"):
        onnxkiln.compile(model, tmp_path / "more", quantize="int8", calibrate=str(saved), improve=["bias"])
    with pytest.raises(UsageError, match="improvement 'magic' is not known"):
        onnxkiln.compile(model, tmp_path / "more", quantize="int8", calibrate=DATA, improve=["magic"])
