"""The algorithm of a convolution: by the formula, by a record of the log, by measuring; and what a build says of it."""

import numpy as np
import onnx
import onnx.helper as oh
import onnxruntime
import pytest
import tuning_cases as cases

import onnxkiln
from onnxkiln import algorithms as module
from onnxkiln.algorithms import (
    ALGORITHMS,
    Algorithms,
    accepts,
    kernel_of,
    left_of,
    rivals,
    text_of,
    version,
    workload_of,
)
from onnxkiln.artifacts.opening import OpenArtifact
from onnxkiln.schedules.winograd_plan import TRANSFORMS, Layer, choose, chosen_by
from onnxkiln.tuner import Tuning
from onnxkiln.tuning import session as session_module
from onnxkiln.tuning.budget import Budget
from onnxkiln.tuning.log import TuningLog
from onnxkiln.tuning.machine import machine_key
from onnxkiln.tuning.record import Record

LAYER = Layer(32, 32, 8, 9)


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setattr(session_module, "MEASURE_SECONDS", 0.01)
    monkeypatch.setattr(module, "RIVAL", 100.0)
    with TuningLog.open(tmp_path / "log.sqlite", shipped=False) as opened:
        yield opened


def record(winograd, seconds, **changes):
    key = machine_key(cases.HOST)
    values = {
        "workload": workload_of(LAYER), "task": text_of(LAYER), "template": module.NAME, "template_version": version(),
        "algorithm": "choice", "parameters": {module.PARAMETER: winograd}, "isa": key.isa, "threads": key.threads,
        "cache": key.cache, "machine": key.machine, "status": "ok", "seconds": (seconds,), "error": "",
        "features": {}, "versions": key.versions, "when": "2026-01-31T12:00:00Z",
    }  # fmt: skip
    return Record(**{**values, **changes})


@pytest.mark.parametrize("winograd", ALGORITHMS)
def test_what_is_chosen_goes_before_the_formula(winograd):
    with chosen_by(lambda layer: winograd if layer == LAYER else None):
        assert choose(32, 32, 8, 9, cases.HOST) is TRANSFORMS.get(winograd)
        assert kernel_of(LAYER, winograd, cases.HOST).algorithm == (f"winograd_f{winograd}" if winograd else "direct")
    formula = TRANSFORMS.get(rivals(LAYER, cases.HOST)[0])
    assert choose(32, 32, 8, 9, cases.HOST) is formula
    with chosen_by(lambda layer: 2):  # whatever is chosen, what no transform can compute stays direct
        assert choose(31, 32, 8, 9, cases.HOST) is None


def test_the_log_chooses_and_stale_records_do_not(log):
    chooser = Algorithms(Tuning(log), cases.HOST)
    assert chooser(LAYER) is None
    log.extend([record(0, 3e-6), record(2, 1e-6), record(4, 2e-6)])
    assert chooser(LAYER) == 2
    log.extend([record(4, 1e-9, template_version=version() - 1), record(3, 1e-9), record(0, 1e-9, template="conv2d")])
    assert chooser(LAYER) == 2
    assert not accepts(record(4, 1e-9, template_version=version() + 1))
    assert chooser(Layer(32, 32, 8, 8)) is None


def test_measuring_compares_all_rivals_once(log):
    chooser = Algorithms(Tuning(log, Budget(trials=100)), cases.HOST)
    chooser(LAYER)
    spent = chooser.measure(1 << 20)
    assert spent.measurements == module.ROUNDS * len(ALGORITHMS)
    found = {one.parameters[module.PARAMETER]: one for one in log.records({"template": module.NAME})}
    assert set(found) == set(ALGORITHMS) and all(len(one.seconds) == module.ROUNDS for one in found.values())
    fastest = min(found, key=lambda one: found[one].latency)
    assert found[chooser(LAYER)].latency <= 1.01 * found[fastest].latency
    assert spent.changed == (chooser(LAYER) != rivals(LAYER, cases.HOST)[0])
    assert chooser.measure(1 << 20).measurements == 0  # the log knows
    (entry,) = chooser.to_json()
    assert entry["from"] == "exact" and entry["parameters"] == {module.PARAMETER: chooser(LAYER)}
    assert left_of(Budget(trials=100), spent) == Budget(trials=100 - spent.measurements)


def test_a_small_budget_is_left_to_kernels(log):
    chooser = Algorithms(Tuning(log, Budget(trials=module.ROUNDS * len(ALGORITHMS))), cases.HOST)
    chooser(LAYER)
    assert chooser.measure(0).measurements == 0 and chooser.measure(0).changed is False


@pytest.mark.parametrize("winograd", ALGORITHMS)
def test_a_build_goes_by_the_log_and_computes_the_same(log, tmp_path, winograd):
    random = np.random.default_rng(0)
    weight = onnx.numpy_helper.from_array(random.standard_normal((32, 32, 3, 3), np.float32), "w")
    node = oh.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    infos = [oh.make_tensor_value_info(name, 1, [1, 32, 8, 9]) for name in ("x", "y")]
    graph = oh.make_graph([node], "g", infos[:1], infos[1:], [weight])
    onnx.save(oh.make_model(graph, opset_imports=[oh.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    log.append(record(winograd, 1e-6))
    artifact = onnxkiln.compile(tmp_path / "m.onnx", tmp_path / "out", log=str(log.path), shipped_log=False)
    with OpenArtifact(artifact) as opened:
        templates = {kernel.template for kernel in opened.manifest.kernels}
        entries = [one for one in opened.manifest.tuning_records if one["template"] == module.NAME]
    assert ("winograd_conv2d" in templates) == (winograd != 0)
    assert [entry["parameters"] for entry in entries] == [{module.PARAMETER: winograd}]
    x = random.standard_normal((1, 32, 8, 9), np.float32)
    (expected,) = onnxruntime.InferenceSession(tmp_path / "m.onnx").run(None, {"x": x})
    with onnxkiln.load(artifact) as session:
        np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=1e-4, atol=2e-3)
