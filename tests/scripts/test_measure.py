"""``scripts/measure.py``: what it measures is measured right, on a tiny artifact, and verdicts follow the promises."""

import json
import types
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tiny_artifacts

import measure
from measures import deployment, greedy, loading, open_dims, overhead, sharing
from measures.models import Prepared
from onnxkiln.benchmarking.benchmark import make_job


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    artifact, model = tiny_artifacts.write(tiny_artifacts.scale_request(), folder), tiny_artifacts.scale_model(folder)
    job = make_job(artifact, model, {"x": np.ones(1024, np.float32)}, 1, folder)
    return Prepared("scale", model, artifact, job)


@pytest.fixture(autouse=True)
def nothing_is_fetched(monkeypatch, prepared):
    for module in (deployment, loading, sharing):
        monkeypatch.setattr(module, "prepare", lambda name, scratch: prepared)


def test_a_deployment_runs_from_its_folder_and_is_counted(tmp_path, prepared):
    found = deployment.measure("scale", tmp_path / "kept")
    everything = sum(path.stat().st_size for path in (tmp_path / "kept").rglob("*") if path.is_file())
    assert found["bytes"] == sum(found["parts"].values()) == everything - 4096
    assert found["weights"] == 4096
    assert found["passed"] and 5e6 < found["bytes"] < found["as_installed"]
    assert "beside 0.0 MB of weights" in deployment.show(found)


def test_a_deployment_that_lacks_something_is_told(tmp_path, prepared):
    deployment.deploy(prepared.artifact, tmp_path / "folder")
    (tmp_path / "folder" / "onnxkiln" / "targets.py").unlink()
    with pytest.raises(SystemExit, match=r"(?s)does not run.*targets"):
        deployment._run(tmp_path / "folder", Path(prepared.job.feeds), tmp_path)


def test_two_processes_are_added_up(prepared):
    found = sharing.measure("scale")
    assert found["one"] < found["two"] < 2.5 * found["one"]
    assert found["growth"] == found["two"] / found["one"]
    assert found["weights"] == pytest.approx(4096, rel=0.02)
    assert not found["passed"]  # of weights of 4 kB there is little to share
    assert "PSS of one process" in sharing.show(found)


@pytest.mark.parametrize(
    ("size", "ours", "theirs", "passed"),
    [
        (4e6, 150, 100, True), (4e6, 161, 100, False), (30e6, 99, 100, True), (30e6, 101, 100, False),
        (10e6, 500, 100, True),
    ],
)  # fmt: skip
def test_how_loading_is_judged(size, ours, theirs, passed, monkeypatch, tmp_path, prepared):
    model = tmp_path / "m.onnx"
    model.touch()
    with open(model, "rb+") as file:
        file.truncate(int(size))
    own = Prepared("m", model, prepared.artifact, prepared.job)
    calls = []

    def load(engine, job):
        calls.append(engine)
        # The first of each, which finds cold files, is far slower and must not count.
        return 9999.0 if len(calls) <= 2 else {"onnxkiln": ours, "onnxruntime": theirs}[engine]

    monkeypatch.setattr(loading, "prepare", lambda name, scratch: own)
    monkeypatch.setattr(loading, "_load_ms", load)
    (found,) = loading.measure(("m",))
    assert (found["ms"], found["onnxruntime_ms"], found["passed"]) == (ours, theirs, passed)
    assert len(calls) == 2 * (loading.PROCESSES + 1)
    assert ("TOO SLOW" in loading.show([found])) != passed


def test_loading_is_timed_in_fresh_processes(prepared):
    assert 10 < loading._load_ms("onnxkiln", prepared.job) < 30_000


def test_calls_of_an_empty_graph(monkeypatch):
    monkeypatch.setattr(overhead, "CALLS", 20)
    monkeypatch.setattr(overhead, "ROUNDS", 1)
    found = overhead.measure()
    assert all(found[name] > 0 for name in ("run_us", "bare_us", "onnxruntime_us"))
    assert "an empty graph: run" in overhead.show(found)


@pytest.mark.parametrize("passed", [True, False])
def test_the_exit_code_is_the_verdict(passed, monkeypatch, capsys):
    monkeypatch.setattr(overhead, "measure", lambda: {"passed": passed})
    assert measure.main(["overhead", "--json"]) == (0 if passed else 1)
    assert json.loads(capsys.readouterr().out) == {"passed": passed}


def test_a_continuation_feeds_back_its_past_and_takes_the_most_likely():
    lengths = []

    def run(feeds):
        ids, past = feeds["input_ids"], feeds["past_key_values.0.key"]
        lengths.append((ids.shape[1], past.shape[2]))
        logits = np.zeros((1, ids.shape[1], 50), np.float32)
        logits[0, -1, (ids[0, -1] + 1) % 50] = 1  # counts on from the last token
        fresh = np.zeros((1, 2, ids.shape[1], 4), np.float32)
        return [logits, np.concatenate([past, fresh], axis=2)]

    inputs = {"input_ids": ("batch", "seq"), "past_key_values.0.key": ("batch", 2, "past", 4)}
    outputs = ["logits", "present.0.key"]
    assert greedy.continued(run, inputs, outputs, (7, 8, 9), 4) == [10, 11, 12, 13]
    assert lengths == [(3, 0), (1, 3), (1, 4), (1, 5)]


def test_open_and_fixed_are_timed_turn_by_turn():
    class Timed:
        def __init__(self, log, name):
            self.log, self.name = log, name

        def run(self, _names, _feeds):
            self.log.append(self.name)

    log = []
    times = open_dims.alternated(Timed(log, "open"), Timed(log, "fixed"), {}, seconds=0)
    assert log == ["open", "fixed"] * open_dims.LEAST_ROUNDS and all(time >= 0 for time in times)
    found = [{"model": "m", "sizes": [{"sizes": {"n": 3}, "open_ms": 2.0, "fixed_ms": 1.0, "ratio": 2.0}]}]
    assert "n=3" in open_dims.show(found) and "ratio 2.000" in open_dims.show(found)


def test_convolutions_are_measured_against_an_instruction_set(monkeypatch):
    from measures import convolutions

    monkeypatch.setattr(convolutions, "SHAPES", ((5, 4, 20, 3, 2),))
    monkeypatch.setattr(convolutions, "ROUNDS", 1)
    (found,) = convolutions.measure("cpu")
    assert found["gflops"] > 0 and found["limit"] > 0 and found["share"] == found["gflops"] / found["limit"]
    assert "5x5, 4 to 20, 3x3/2" in convolutions.show([found])


def test_pairs_of_depthwise_and_pointwise_are_those_of_the_network(monkeypatch):
    from measures import depthwise

    pairs = depthwise.pairs()
    assert sum(pairs.values()) == 17 and pairs[(7, 960, 1, 160)] == 2 and pairs[(56, 96, 2, 24)] == 1
    monkeypatch.setattr(depthwise, "pairs", lambda: {(9, 16, 2, 7): 3})
    monkeypatch.setattr(depthwise, "ROUNDS", 1)
    (found,) = depthwise.measure("cpu")
    assert found["us"] > 0 and 0 <= found["saved_us"] < found["us"] and found["rows"] == 9
    assert "9x9, 16 to 7, /2" in depthwise.show([found])
    shown = depthwise.show([{**found, "us": 20.0, "saved_us": 1.0}])
    assert shown.endswith("all: 60 us, of which keeping rows in the cache could save 3")


def test_networks_over_sequences_are_valid_and_measured(monkeypatch):
    """Each model runs in ONNX Runtime at its sizes, open dims or not; one goes all the way."""
    from measures import networks, sequences
    from token_networks.catalog import NETWORKS

    for network in NETWORKS.values():
        for kind in network.kinds:
            session = onnxruntime.InferenceSession(network.model(kind).SerializeToString())
            assert all(np.isfinite(output).all() for output in session.run(None, network.feeds())), network.name
    monkeypatch.setattr(networks, "SECONDS", 0)
    (found,) = sequences.measure("small_mlp:open")
    assert found["problem"] == "" and found["used"] < 1


def test_networks_are_measured_and_checked(monkeypatch):
    """A network of each kind of open dims; a wrong answer fails it whatever its time, and so does a slow right one."""
    from conv_networks.catalog import BATCH, FIXED, SIZE, ConvNetwork
    from measures import networks

    def small(net):
        return net.classifier(net.squeeze_excite(net.conv("x", 5, 3, 2, act="silu"), 2), 3)

    network = ConvNetwork(small, (1, 3, 9, 7))
    monkeypatch.setattr(networks, "NETWORKS", {"small": network})
    monkeypatch.setattr(networks, "SECONDS", 0)
    every = networks.NETWORKS
    assert networks.chosen(["small:size"], every) == [(network, SIZE)]
    assert networks.chosen(["fixed"], every) == [(network, FIXED)] and len(networks.chosen([], every)) == 3
    with pytest.raises(SystemExit, match="larger"):
        networks.chosen(["larger"], every)

    (found,) = networks.measure("small:batch")
    assert found["kind"] == BATCH and found["problem"] == "" and found["ratio"] == found["ms"] / found["runtime_ms"]
    monkeypatch.setattr(networks, "alternated", lambda runs: [3.0, 1.0])
    (found,) = networks.measure("small:fixed")
    assert not found["passed"] and "over" in networks.show([found])
    monkeypatch.setattr(networks, "alternated", lambda runs: [1.0, 3.0])
    monkeypatch.setattr(networks, "_runtime", lambda path: _Wrong())
    (found,) = networks.measure("small:fixed")
    assert not found["passed"] and "differ" in networks.line(found)


class _Wrong:
    def run(self, names, feeds):
        return [np.full((1, 3), 1e3, np.float32)]

    def get_outputs(self):
        return [types.SimpleNamespace(name="y")]


def test_generated_networks_run():
    """The weights follow from the name; open dims are the model's, and its values stay of a size."""
    from conv_networks.catalog import NETWORKS

    network = NETWORKS["tcn"]
    first, again = network.model("size"), network.model("size")
    dims = first.graph.input[0].type.tensor_type.shape.dim
    assert first == again and [dim.dim_param for dim in dims] == ["batch", "", "length"]
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 32, 50), np.float32)}
    (y,) = onnxruntime.InferenceSession(first.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)
    assert y.shape == (2, 10) and np.isfinite(y).all() and y.std() > 0.01


def test_quantized_models_are_judged_by_time_and_by_quanta(monkeypatch):
    from measures import quantized

    rows = {
        "resnet50": {"form": "static", "ratio": 0.4, "of_float": 0.2, "within": 1.0, "same_top": True},
        "ppocr_det": {"form": "static", "ratio": 1.2, "of_float": 0.9, "within": 1.0, "same_top": True},
        "bert_base": {"form": "dynamic", "ratio": 0.7, "of_float": 0.5, "within": 0.98, "same_top": True},
        "minilm_qdq": {"form": "as found", "ratio": 0.85, "of_float": None, "within": 1.0, "same_top": True},
    }
    monkeypatch.setattr(quantized, "_case", lambda name: name)
    monkeypatch.setattr(
        quantized,
        "_measure",
        lambda name: {"name": name, "own_ratio": None, "weights": 0.25, "peer_ms": 2.0, "ours_ms": 1.0, "kernels": {}}
        | rows[name],
    )
    found = {row["name"]: row for row in quantized.measure(*rows)}
    assert {name: row["passed"] for name, row in found.items()} == {
        "resnet50": True, "ppocr_det": False, "bert_base": False, "minilm_qdq": True,
    }  # fmt: skip
    assert found["resnet50"]["mean"] == pytest.approx((0.4 * 1.2) ** 0.5)
    text = quantized.show(list(found.values()))
    assert "ppocr_det misses" in text and "resnet50 misses" not in text and "geometric mean" in text
    rows["resnet50"]["of_float"] = 0.3
    assert not quantized.measure("resnet50")[0]["passed"]
