"""``scripts/bench.py``: the generated models are what they are called, costs are counted right, results are kept."""

import json
import shutil

import numpy as np
import onnx
import onnx.helper as oh
import onnxruntime
import pytest
from source_tree import ROOT

import bench
from bench_limits.cost import cost_of
from bench_limits.machine import measure_limits
from bench_limits.table import cells, format_all, header, limit_ms, to_markdown
from bench_models import bert
from bench_models.catalog import GENERATED, Generated, generate, load_models
from bench_models.mobilenet import build_mobilenet_v2
from bench_models.resnet import build_resnet18, build_resnet50


def weights_of(model):
    return sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)


# Weights and multiplications (in millions) of torchvision's models, whose normalisations these have folded into biases.
@pytest.mark.parametrize(
    ("build", "weights", "millions"),
    [(build_resnet18, 11_684_712, 1814), (build_resnet50, 25_530_472, 4089), (build_mobilenet_v2, 3_487_818, 301)],
)
def test_networks_are_those_of_the_papers(build, weights, millions, tmp_path):
    model = build()
    assert weights_of(model) == pytest.approx(weights, abs=2)  # mobilenet's limits of Clip are two more
    onnx.save(model, tmp_path / "m.onnx")
    cost = cost_of(tmp_path / "m.onnx", {"x": (1, 3, 224, 224)})
    assert cost.flops / 2e6 == pytest.approx(millions, rel=0.003)


def test_outputs_are_of_a_sane_size():
    session = onnxruntime.InferenceSession(build_mobilenet_v2().SerializeToString())
    (logits,) = session.run(None, {"x": np.random.default_rng(0).standard_normal((2, 3, 224, 224), np.float32)})
    assert logits.shape == (2, 1000)
    assert 1e-3 < np.abs(logits).max() < 1e3


def test_bert_has_its_layers(monkeypatch):
    assert (bert.LAYERS, bert.WIDTH, bert.WORDS) == (12, 768, 30522)
    monkeypatch.setattr(bert, "WORDS", 10)
    monkeypatch.setattr(bert, "LAYERS", 2)
    model = bert.build_bert_base()
    layer = 4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768 + 4 * 768
    assert weights_of(model) == pytest.approx((10 + 2 + 512 + 2) * 768 + 2 * layer, abs=20)
    assert sum(node.op_type == "LayerNormalization" for node in model.graph.node) == 5


def test_the_same_file_each_time(tmp_path):
    made = []

    def build():
        made.append(build_mobilenet_v2())
        return made[-1]

    item = Generated("tiny", build, {"x": (1, 3, 224, 224)})
    path = generate(item, tmp_path)
    before = path.stat().st_mtime_ns, path.read_bytes()
    assert (generate(item, tmp_path).stat().st_mtime_ns, path.read_bytes()) == before
    path.write_bytes(b"cut")
    assert generate(item, tmp_path).read_bytes() == before[1]
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.onnx"]


def test_the_list_is_the_zoo_and_the_generated():
    names = [model.name for model in load_models()]
    assert len(names) == len(set(names)) >= 12
    assert {item.name for item in GENERATED} < set(names)
    assert [model.name for model in load_models(["bert_base"])] == ["bert_base"]
    with pytest.raises(SystemExit, match="no model 'unicorn'"):
        load_models(["unicorn"])


def test_costs_of_products_and_convolutions(tmp_path):
    """A grouped and a transposed convolution and a product; a table that is only looked up is not read."""
    random = np.random.default_rng(0)
    shapes = {"w": (6, 2, 3, 3), "t": (6, 5, 2, 2), "m": (7, 3), "table": (1000, 7)}
    weights = [onnx.numpy_helper.from_array(random.random(shape, np.float32), n) for n, shape in shapes.items()]
    nodes = [
        oh.make_node("Conv", ["x", "w"], ["c"], group=2, pads=[1, 1, 1, 1]),
        oh.make_node("ConvTranspose", ["c", "t"], ["y"], strides=[2, 2]),
        oh.make_node("Gather", ["table", "ids"], ["rows"]),
        oh.make_node("MatMul", ["rows", "m"], ["z"]),
    ]
    inputs = [oh.make_tensor_value_info("x", 1, ["n", 4, 8, 9]), oh.make_tensor_value_info("ids", 7, [11])]
    outputs = [oh.make_tensor_value_info(name, 1, None) for name in ("y", "z")]
    graph = oh.make_graph(nodes, "g", inputs, outputs, weights)
    onnx.save(oh.make_model(graph, opset_imports=[oh.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    cost = cost_of(tmp_path / "m.onnx", {"x": (3, 4, 8, 9), "ids": (11,)})
    conv, transposed, product = 3 * 6 * 72 * 2 * 9, 3 * 6 * 72 * 5 * 4, 11 * 7 * 3
    assert cost.flops == 2 * (conv + transposed + product)
    assert cost.weight_bytes == 4 * (6 * 2 * 9 + 6 * 5 * 4 + 7 * 3)


@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler")
def test_the_machine_is_measured():
    found = measure_limits(1, 1 << 20)
    assert 1 < found.gflops < 2000
    assert 0.5 < found.gbytes < 5000


def result(name, threads, p50, theirs, flops=2e9, weight_bytes=1e6):
    def measured(milliseconds, problem=None):
        return {"p50": milliseconds, "ratio": milliseconds / p50, "pss": 5e7, "load_ms": 99.0, "problem": problem}

    entries = [
        {"engine": "onnxkiln", "measured": measured(p50), "words": ""},
        {"engine": "onnxruntime", "measured": measured(theirs, "differs"), "words": ""},
        {"engine": "tract", "measured": None, "words": "can't"},
    ]
    return {
        "model": name,
        "settings": {"threads": threads},
        "headline": f"{name} on a machine",
        "cells": [["onnxkiln", "1"] + ["2"] * 8],
        "report": {"machine": {"cpu": "A CPU", "cpus": 2, "isa": "x"}, "entries": entries},
        "limits": {"flops": flops, "weight_bytes": weight_bytes, "gflops": 100.0, "gbytes": 10.0},
    }


def test_the_limit_is_the_larger_of_the_two():
    assert limit_ms(result("a", 1, 40.0, 50.0)) == (20.0, "arithmetic")
    assert limit_ms(result("a", 1, 40.0, 50.0, flops=1e6, weight_bytes=5e8)) == (50.0, "memory")


def test_the_table():
    results = [result("a", 1, 40.0, 50.0), result("b", 2, 0.5, 0.25)]
    assert all(len(line) == len(header(results)) for line in cells(results))
    assert cells(results)[0] == ["a", "1", "40.00", "50.00", "1.25", "-", "-", "50", "99", "20.00", "50%", "arithmetic"]
    text = format_all(results)
    assert "a, ONNX Runtime: differs" in text and "b, tract: can't" in text
    rows = [line for line in to_markdown(results).splitlines() if line.startswith("|")]
    assert len(rows) == 4 + 2 * 3


def test_results_are_kept_for_the_same_settings(tmp_path, monkeypatch, capsys):
    """A second run measures nothing, another number of threads does, and a cut file is measured again."""
    measured = []
    model = tmp_path / "m.onnx"
    shutil.copy(ROOT / "tests" / "models" / "simple_model.onnx", model)
    item = Generated("resnet18", lambda: None, {"x": (1, 3, 32, 32)})
    entry = bench.BenchModel("resnet18", lambda: model, item)

    class Report:
        def to_json(self):
            return result("resnet18", 1, 1.0, 2.0)["report"]

    monkeypatch.setattr(bench, "load_models", lambda names=(): [entry])
    monkeypatch.setattr(bench, "benchmark", lambda *a, **options: measured.append(options["threads"]) or Report())
    monkeypatch.setattr(bench, "headline", lambda report: "headline")
    monkeypatch.setattr(bench, "rows", lambda report: [["onnxkiln"] * 10])
    monkeypatch.setattr(bench, "_limits", lambda *a: result("a", 1, 1.0, 2.0)["limits"])
    run = ["--folder", str(tmp_path / "out"), "run", "--compare", "onnxruntime"]
    assert bench.main(run) == bench.main(run) == 0
    assert measured == [1]
    assert bench.main([*run, "--threads", "2"]) == 0
    (tmp_path / "out" / "resnet18.1t.json").write_text("{")
    with pytest.raises(json.JSONDecodeError):
        json.loads((tmp_path / "out" / "resnet18.1t.json").read_text())
    assert bench.main(run) == 0
    assert measured == [1, 2, 1]
    assert bench.main([*run, "--again"]) == 0
    assert measured == [1, 2, 1, 1]
    assert "resnet18" in capsys.readouterr().out
    assert "| resnet18 |" in (tmp_path / "out" / "report.md").read_text()
