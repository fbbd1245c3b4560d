"""``scripts/bench_tuned.py``: the same code is measured once, results are kept, ratios are of neighbours."""

from types import SimpleNamespace

import pytest
from source_tree import ROOT

import bench_tuned

MODEL = SimpleNamespace(name="resnet18", path=lambda: ROOT / "tests" / "models" / "simple_model.onnx", listed=None)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Measures by a table of seconds; ``state.code`` says each build's code."""
    state = SimpleNamespace(code={"tuned": "a", "shipped": "b", "untuned": "c"}, measured=[])
    monkeypatch.setattr(bench_tuned, "load_models", lambda names=(): [MODEL])
    monkeypatch.setattr(bench_tuned, "_built", lambda model, name, options: tmp_path / name)
    monkeypatch.setattr(bench_tuned, "library_digest", lambda artifact: state.code[artifact.name])
    seconds = {"tuned": [1.0, 2.0, 9.0], "shipped": [1.1, 2.2, 9.0], "untuned": [2.0, 2.0, 9.0],
               "onnxruntime": [2.0, 4.0, 9.0], "openvino": [1.0, 1.0, 9.0]}  # fmt: skip

    def side_by_side(runners, model, options):
        state.measured.append(sorted(runners))
        return {name: seconds[name] for name in runners}

    monkeypatch.setattr(bench_tuned, "side_by_side", side_by_side)
    state.run = lambda *more: bench_tuned.main(["--folder", str(tmp_path), "run", "LOG", *more])
    return state


def test_the_table(bench, capsys):
    assert bench.run("--compare", "onnxruntime,openvino") == 0
    row, mean = (line.split() for line in capsys.readouterr().out.splitlines()[-3:-1])
    assert row == ["resnet18", "1", "2000.000", "2200.000", "2000.000", "1.000", "1.100", "0.500", "1.000", "1.000"]
    assert mean[-5:] == row[-5:]


def test_the_same_code_is_measured_once(bench, capsys):
    bench.code |= {"shipped": "a", "untuned": "a"}
    assert bench.run() == 0
    assert bench.measured == [["onnxruntime", "tuned"]]
    row = capsys.readouterr().out.splitlines()[-3].split()
    assert row[5:] == ["1.000", "1.000", "0.500"]


def test_results_are_kept_for_the_same_code(bench):
    bench.run()
    bench.run()
    assert len(bench.measured) == 1
    bench.code["tuned"] = "another"
    bench.run()
    bench.run("--again")
    assert len(bench.measured) == 3


def test_a_model_that_fails_is_named(bench, capsys, monkeypatch):
    def fail(*_):
        raise RuntimeError("no such engine")

    monkeypatch.setattr(bench_tuned, "side_by_side", fail)
    assert bench.run() == 1
    assert "resnet18: no such engine" in capsys.readouterr().err


def test_builds_side_by_side_for_real(tmp_path, monkeypatch, capsys):
    """A small model, compiled by this checkout and run in processes of its own."""
    listed = SimpleNamespace(ranges={}, shape=lambda name: (1, 3, 32, 32))
    model = SimpleNamespace(name="resnet18", path=MODEL.path, listed=listed)
    monkeypatch.setattr(bench_tuned, "load_models", lambda names=(): [model])
    options = ["--compare", "", "--processes", "1", "--rounds", "1", "--seconds", "0.001"]
    assert bench_tuned.main(["--folder", str(tmp_path), "run", str(tmp_path / "log"), *options]) == 0
    assert capsys.readouterr().out.splitlines()[2].split()[-2:] == ["1.000", "1.000"]
