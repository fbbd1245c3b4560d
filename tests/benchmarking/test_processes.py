"""The child process that holds an engine: what it answers, and how its end is told."""

import os
import signal

import numpy as np
import pytest

from onnxkiln.benchmarking import processes
from onnxkiln.benchmarking.processes import EngineFailed, EngineProcess, Job


@pytest.fixture
def job(scale, model, feeds, tmp_path):
    np.savez(tmp_path / "feeds.npz", **feeds)
    return Job(
        str(scale), str(model), str(tmp_path / "feeds.npz"), 1, {"x": ("float32", (1024,))}, {"x": [1024]}
    )


def test_it_runs_blocks_and_saves_outputs(job, feeds, tmp_path):
    with EngineProcess("onnxkiln", job) as process:
        assert set(process.started) == {"import_s", "open_s", "first_s"}
        assert process.ask("run") == {}
        assert len(process.ask("block", seconds=0.0)["seconds"]) == 2
        assert process.ask("memory")["pss"] > 1e6
        process.ask("save", path=str(tmp_path / "out.npz"))
    with np.load(tmp_path / "out.npz") as file:
        np.testing.assert_allclose(file["arr_0"], feeds["x"] * np.linspace(-1, 1, 1024) + feeds["x"], rtol=1e-5)


@pytest.mark.parametrize("engine", ["onnxruntime", "tvm"])
def test_peers_give_the_same(engine, job, feeds, tmp_path):
    with EngineProcess(engine, job) as process:
        process.ask("save", path=str(tmp_path / "out.npz"))
    with np.load(tmp_path / "out.npz") as file:
        np.testing.assert_allclose(file["arr_0"], feeds["x"] * np.linspace(-1, 1, 1024) + feeds["x"], rtol=1e-5)


@pytest.mark.parametrize("engine", ["openvino", "tract"])
def test_peers_that_may_be_absent(engine, job, feeds, tmp_path):
    pytest.importorskip(engine)
    test_peers_give_the_same(engine, job, feeds, tmp_path)


def test_a_crash_is_told_by_its_signal(job):
    with EngineProcess("onnxkiln", job) as process:
        os.kill(process._process.pid, signal.SIGSEGV)
        with pytest.raises(EngineFailed, match="killed by signal 11"):
            process.ask("run")


def test_a_hang_is_given_up_and_leaves_no_process(job, monkeypatch):
    with EngineProcess("onnxkiln", job) as process:
        os.kill(process._process.pid, signal.SIGSTOP)
        monkeypatch.setattr(processes, "PATIENCE_S", 0.1)
        with pytest.raises(EngineFailed, match="gave no answer"):
            process.ask("run")
    assert process._process.returncode == -signal.SIGKILL
