"""Runs of fixed shapes are recorded as a CUDA graph and started whole, beside a driver that records what is asked."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from gpu_emulation import NEEDS_CXX, build_kernels, calls, child

import onnxkiln

FIXED = """<ir_version: 10, opset_import: ["" : 20]>
fixed (float[3, 4] x, float[4] b) => (float[3, 4] y, float[3] total) {
  raised = Exp(x)
  y = Add(raised, b)
  axis = Constant<value_ints = [1]>()
  total = ReduceSum<keepdims = 0>(y, axis)
}"""
CONDITION = """<ir_version: 10, opset_import: ["" : 20]>
chosen (float[4] x, bool go) => (float[4] y) {
  y = If(go) <
    then_branch = once () => (float[4] a) { a = Exp(x) }, else_branch = other () => (float[4] b) { b = Neg(x) }
  >
}"""
RUNS = """
session = onnxkiln.load(sys.argv[1])
log = open(__import__("os").environ["FAKE_CUDA_LOG"], "a")
random = np.random.default_rng(0)
kept = []
for index in range(5):
    x, b = random.standard_normal((3, 4)).astype(np.float32), np.full(4, index, np.float32)
    print("run", index, session.graphs, file=log, flush=True)
    y, total = session.run(None, {"x": x, "b": b})
    kept.append((y, total, np.exp(x) + b))
for y, total, expected in kept:  # no run writes into an earlier one's results
    assert np.allclose(y, expected) and np.allclose(total, expected.sum(1)), (y, expected)
"""


def compiled(text: str, folder: Path) -> tuple[Path, str]:
    onnx.save(onnx.parser.parse_model(text), folder / "model.onnx")
    dump = folder / "dump"
    artifact = onnxkiln.compile(folder / "model.onnx", folder / "artifact", target="cuda:sm_90", dump_ir=dump)
    return artifact, str(build_kernels((dump / "kernels.cu").read_text(), folder))


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return compiled(FIXED, tmp_path_factory.mktemp("fixed"))


def of_run(artifact: Path, index: int) -> list[str]:
    log = (artifact.parent / "log").read_text().splitlines()
    starts = [at for at, line in enumerate(log) if line.startswith("run ")] + [len(log)]
    return log[starts[index] : starts[index + 1]]


@NEEDS_CXX
def test_from_the_third_run_on_one_call_starts_all_kernels(fixed: tuple[Path, str]) -> None:
    artifact, kernels = fixed
    done = child(artifact, RUNS + "print(session.graphs)\nsession.close()", FAKE_CUDA_KERNELS=kernels)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "recorded"
    assert [line for line in of_run(artifact, 0) if line.startswith("launch")]
    assert [line for line in of_run(artifact, 1) if line.startswith("record ")]
    streams = {line.split()[-1] for line in calls(artifact, "launch")}
    for index in (2, 3):
        lines = of_run(artifact, index)
        assert not [line for line in lines if line.startswith(("launch", "record", "malloc"))]
        (graph,) = [line for line in lines if line.startswith("graph-launch")]
        assert {graph.split()[-1]} == streams  # our own, not that of the recording
    assert len(calls(artifact, "graph-destroy")) == 1


@NEEDS_CXX
def test_other_work_takes_no_memory_of_the_recording(fixed: tuple[Path, str]) -> None:
    artifact, kernels = fixed
    code = RUNS + """
feeds = {"x": x, "b": b}
again = session.run(None, feeds)
second = onnxkiln.load(sys.argv[1])
second.use_graphs = False
for scale in range(4):
    other = second.run(None, {"x": x + scale, "b": b})
assert second.graphs == "off"
assert all(np.array_equal(a, b) for a, b in zip(session.run(None, feeds), again))
"""
    done = child(artifact, code, FAKE_CUDA_KERNELS=kernels)
    assert done.returncode == 0, done.stderr


def test_threads_share_a_session_with_a_recording(fixed: tuple[Path, str]) -> None:
    """No kernels: their stand-ins have one state for all threads."""
    code = """
from concurrent.futures import ThreadPoolExecutor
session = onnxkiln.load(sys.argv[1])
feeds = {"x": np.ones((3, 4), np.float32), "b": np.ones(4, np.float32)}
with ThreadPoolExecutor(8) as pool:
    results = list(pool.map(lambda _: session.run(None, feeds), range(64)))
assert all(y.shape == (3, 4) and total.shape == (3,) for y, total in results)
assert session.graphs == "recorded"
session.close()
"""
    done = child(fixed[0], code)
    assert done.returncode == 0, done.stderr
    started = len(calls(fixed[0], "graph-launch"))
    kinds = {line.split()[1] for line in calls(fixed[0], "launch")}
    assert 0 < started <= 62 and len(calls(fixed[0], "launch")) == (64 - started + 1) * len(kinds)


@NEEDS_CXX
def test_where_graphs_fail_kernels_are_started_one_by_one(fixed: tuple[Path, str]) -> None:
    artifact, kernels = fixed
    done = child(artifact, RUNS + "print(session.graphs)", FAKE_CUDA_KERNELS=kernels, FAKE_CUDA_NO_GRAPHS="1")
    assert done.returncode == 0, done.stderr
    assert "cudaGraphInstantiate failed" in done.stdout
    assert not calls(artifact, "graph-launch") and [line for line in of_run(artifact, 4) if line.startswith("launch")]


@NEEDS_CXX
def test_a_condition_on_data_is_not_recorded(tmp_path: Path) -> None:
    artifact, kernels = compiled(CONDITION, tmp_path)
    code = """
session = onnxkiln.load(sys.argv[1])
x = np.arange(4, dtype=np.float32)
for go in (True, True, True, False, True, False):
    (y,) = session.run(None, {"x": x, "go": np.array(go)})
    assert np.allclose(y, np.exp(x) if go else -x), (go, y)
print(session.graphs)
"""
    done = child(artifact, code, FAKE_CUDA_KERNELS=kernels)
    assert done.returncode == 0, done.stderr
    assert "vm.builtin" in done.stdout and not calls(artifact, "graph-launch")
