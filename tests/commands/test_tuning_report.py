"""``--report``: the page shows what was measured, now or before."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxkiln.tuning import session as session_module
from onnxkiln.tuning.log import TuningLog


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two products of 24 rows, each with several register tiles to choose from."""
    random = np.random.default_rng(0)
    weights = {"w": random.standard_normal((64, 96), np.float32), "v": random.standard_normal((96, 96), np.float32)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["r"]),
             helper.make_node("MatMul", ["r", "v"], ["y"])]  # fmt: skip
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [24, size]) for name, size in (("x", 64), ("y", 96)))
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "products", [x], [y], initializers)
    path = tmp_path_factory.mktemp("model") / "products.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(session_module, "MEASURE_SECONDS", 0.01)


def rows(page):
    return re.findall("<tr>(<td>.*?)</tr>", page.read_text(encoding="utf-8"))


def test_tuning_then_what_the_log_knows(kiln, model, tmp_path):
    log, page, later = tmp_path / "log", tmp_path / "out.html", tmp_path / "later.html"
    done = kiln("tune", model, "--budget", "6t", "--log", log, "--report", page, "--json")
    assert done.code == 0, done.err
    tasks = json.loads(done.out)["targets"][0]["tasks"]
    text = page.read_text(encoding="utf-8")
    assert len(rows(page)) == len(tasks) > 0
    assert "Latency while tuning" in text and "Roofline" in text and "GFLOPS, " in text
    measured = [task for task in tasks if task["seconds"]]
    assert all(f"{task['seconds'] * 1e3:.3g} ms" in text for task in measured)
    # Later nothing is measured, and the figures are the log's.
    assert kiln("tune", model, "--dry-run", "--log", log, "--report", later).code == 0
    assert "Latency while tuning" not in later.read_text(encoding="utf-8")
    again = rows(later)
    assert all(any(f"<td>{task['seconds'] * 1e3:.3g} ms</td>" in row for row in again) for task in measured)
    assert not any("<td>–</td>" in row for row in again)


def test_compiling(kiln, model, tmp_path):
    page = tmp_path / "out.html"
    common = ("compile", model, "-o", tmp_path / "out", "--no-runtime", "--log", tmp_path / "log", "--report", page)
    assert kiln(*common, "--tune", "3t").code == 0
    assert len(rows(page)) > 0
    page.unlink()
    done = kiln(*common)
    assert done.code == 0 and "was not written" in done.err and not page.exists()


def test_functions_are_kept_for_exports(kiln, model, tmp_path):
    log = tmp_path / "log"
    assert kiln("tune", model, "--budget", "6t", "--log", log, "--json").code == 0
    with TuningLog.open(log) as records:
        measured = {one.workload for one in records.records()}
        assert measured and measured <= set(records.modules())
    done = kiln("log", "export", tmp_path / "db", "--form", "metaschedule", "--log", log, "--json")
    exported = json.loads(done.out)
    assert exported["records"] > 0
    assert {why.split(": ")[-1] for _, why in exported["skipped"]} <= {
        "another register tile is another function, which a trace can't make"
    }
    back = json.loads(kiln("log", "import", tmp_path / "db", "--log", tmp_path / "new", "--json").out)
    assert back["sources"][0]["new"] == exported["records"]


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--target", "cpu,cpu:x86-64-v3"], "one target"), (["--report", "absent/out.html"], "no folder absent")],
)
def test_refusals(kiln, model, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    done = kiln("tune", model, "--dry-run", "--report", "out.html", *options)
    assert done.code == 2 and words in done.err
