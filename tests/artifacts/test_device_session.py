"""Artifacts for GPUs, loaded beside a pretended driver that records what is asked of it."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from gpu_emulation import NEEDS_CXX, build_kernels, calls, child

import onnxkiln
from onnxkiln.errors import UsageError

MODEL = """<ir_version: 10, opset_import: ["" : 20]>
tiny (float[n, 4] x, float[4] b) => (float[n, 4] y, float[n] total)
<float[4] w = {1, 2, 3, 4}> {
  scaled = Mul(x, w)
  y = Add(scaled, b)
  axis = Constant<value_ints = [1]>()
  total = ReduceSum<keepdims = 0>(y, axis)
}"""
LOAD = "session = onnxkiln.load(sys.argv[1], device=sys.argv[2])"
RUN = f"""{LOAD}
x = np.arange(12, dtype=np.float32).reshape(3, 4)
y, total = session.run(None, {{"x": x, "b": np.float32([1, 1, 1, 1])}})
expected = x * np.float32([1, 2, 3, 4]) + 1
"""
CHECK = "assert np.array_equal(y, expected) and np.allclose(total, expected.sum(1))"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpu")
    onnx.save(onnx.parser.parse_model(MODEL), folder / "model.onnx")
    target = "cuda:sm_80,sm_90"
    return onnxkiln.compile(folder / "model.onnx", folder / "artifact", target=target, dump_ir=folder / "dump")


@pytest.fixture(scope="module")
def kernels(artifact: Path) -> str:
    return str(build_kernels((artifact.parent / "dump" / "kernels.cu").read_text(), artifact.parent))


def refusal(artifact: Path, code: str = LOAD, device: str = "auto", **settings: str) -> str:
    done = child(artifact, code, device, **settings)
    assert done.returncode == 1, done.stderr
    error = done.stderr[done.stderr.rindex("onnxkiln.errors.") :]
    assert "what to do:" in error
    return error


@NEEDS_CXX
@pytest.mark.parametrize(
    ("gpu", "code"),
    [("80", "cubin 80"), ("86", "cubin 80"), ("90", "cubin 90"), ("120", "ptx 90")],
)
def test_the_nearest_code_is_chosen_and_runs(artifact: Path, kernels: str, gpu: str, code: str) -> None:
    shown = f'print(session.device)\n{CHECK}'
    done = child(artifact, RUN + shown, FAKE_CUDA_DEVICES=gpu, FAKE_CUDA_KERNELS=kernels)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"cuda:0 (Pretended GPU 0, sm_{gpu}, device/")
    assert calls(artifact, "module ") == [f"module {code}"]


@NEEDS_CXX
def test_everything_runs_on_one_stream_of_its_own(artifact: Path, kernels: str) -> None:
    done = child(artifact, RUN + CHECK, FAKE_CUDA_KERNELS=kernels)
    assert done.returncode == 0, done.stderr
    (stream,) = [line.split()[-1] for line in calls(artifact, "stream-create")]
    launches = calls(artifact, "launch")
    assert len(launches) >= 2 and all(line.endswith(f"stream {stream}") for line in launches)
    log = (artifact.parent / "log").read_text().splitlines()
    back = max(index for index, line in enumerate(log) if line.startswith("memcpy to-host"))
    assert any(line.startswith("stream-synchronize") for line in log[back:]), "results are there when run returns"


@NEEDS_CXX
def test_repeated_runs_allocate_nothing_new(artifact: Path, kernels: str) -> None:
    again = """
import os
run = lambda: session.run(None, {"x": x, "b": x[0]})
run(), run()  # the first one's results lie in memory of their own
print("again", file=open(os.environ["FAKE_CUDA_LOG"], "a"), flush=True)
run()
"""
    done = child(artifact, RUN + again, FAKE_CUDA_KERNELS=kernels)
    assert done.returncode == 0, done.stderr
    log = (artifact.parent / "log").read_text().splitlines()
    assert not [line for line in log[log.index("again") :] if line.startswith("malloc")]


@NEEDS_CXX
def test_a_second_session_shares_the_kernels_and_outlives_the_first(artifact: Path, kernels: str) -> None:
    code = f"{RUN}\nsecond = onnxkiln.load(sys.argv[1])\nsession.close()\nsession = second\n" + RUN[len(LOAD) :] + CHECK
    done = child(artifact, code, FAKE_CUDA_KERNELS=kernels)
    assert done.returncode == 0, done.stderr
    assert len(calls(artifact, "module ")) == 1


@NEEDS_CXX
def test_tensors_on_the_gpu_go_in_and_out_without_a_copy(artifact: Path, kernels: str) -> None:
    code = f"""{LOAD}
import tvm_ffi
gpu, make = tvm_ffi.device("cuda", 0), tvm_ffi.get_global_func("runtime.TVMTensorAllocWithScope")
fill = tvm_ffi.get_global_func("runtime.TVMTensorCopyFromTo")
asked = []
class Tensor:  # as torch's: it hears on which stream it is wanted
    def __init__(self, array):
        self.tensor = make(tvm_ffi.Shape(array.shape), "float32", gpu, None)
        fill(tvm_ffi.from_dlpack(array), self.tensor)
    def __dlpack__(self, stream=None, **rest):
        asked.append(stream)
        return self.tensor.__dlpack__()
    def __dlpack_device__(self):
        return self.tensor.__dlpack_device__()
x = np.arange(12, dtype=np.float32).reshape(3, 4)
inputs = [Tensor(x), Tensor(np.ones(4, np.float32))]
log = open(__import__("os").environ["FAKE_CUDA_LOG"], "a")
print("begin", file=log, flush=True)
y, total = session.run_dlpack(inputs)
print("end", file=log, flush=True)
assert (2, 0) == tuple(int(part) for part in y.__dlpack_device__())
assert len(asked) == 2 and asked[0] == asked[1] != 0
host = make(tvm_ffi.Shape(y.shape), "float32", tvm_ffi.device("cpu", 0), None)
fill(y, host)
y, expected = np.from_dlpack(host), x * np.float32([1, 2, 3, 4]) + 1
assert np.array_equal(y, expected)
try:
    session.run_dlpack([x, x[0]])
except onnxkiln.KilnError as error:
    print(error)
"""
    done = child(artifact, code, FAKE_CUDA_KERNELS=kernels)
    assert done.returncode == 0, done.stderr
    log = (artifact.parent / "log").read_text().splitlines()
    between = log[log.index("begin") : log.index("end")]
    assert not [line for line in between if line.startswith("memcpy")]
    assert [line for line in between if line.startswith("launch")]
    assert between[-1].startswith("stream-synchronize")
    assert "'x'" in done.stdout and "what to do" in done.stdout


@NEEDS_CXX
def test_the_libraries_that_the_artifact_carries_are_enough(artifact: Path, kernels: str) -> None:
    """As where TVM isn't installed: both runtimes are the artifact's copies."""
    absent = """from onnxkiln.artifacts import device_loading, runtime
device_loading.installed = runtime.installed = lambda name: None
"""
    opened = """
maps = open("/proc/self/maps").read()
assert "runtime/libtvm_runtime_cuda.so" in maps and "tvm/lib" not in maps
assert "tvm" not in sys.modules
"""
    done = child(artifact, absent + RUN + opened + CHECK, FAKE_CUDA_KERNELS=kernels)
    assert done.returncode == 0, done.stderr


def test_many_threads_share_one_session(artifact: Path) -> None:
    code = f"""{LOAD}
from concurrent.futures import ThreadPoolExecutor
feeds = {{"x": np.ones((3, 4), np.float32), "b": np.ones(4, np.float32)}}
with ThreadPoolExecutor(8) as pool:
    results = list(pool.map(lambda _: session.run(None, feeds), range(64)))
assert all(y.shape == (3, 4) and total.shape == (3,) for y, total in results)
session.close()
"""
    done = child(artifact, code)
    assert done.returncode == 0, done.stderr
    assert len(calls(artifact, "launch")) == 64 * len({line.split()[1] for line in calls(artifact, "launch")})


def test_no_driver(artifact: Path) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has a driver")
    with pytest.raises(onnxkiln.KilnError, match=r"no NVIDIA driver.*\n.*what to do: install it"):
        onnxkiln.load(artifact)


def test_no_gpu(artifact: Path) -> None:
    assert "driver sees no GPU" in refusal(artifact, FAKE_CUDA_DEVICES="")
    assert "there is no GPU cuda:2" in refusal(artifact, device="cuda:2", FAKE_CUDA_DEVICES="80,90")


def test_the_asked_gpu_is_taken(artifact: Path) -> None:
    done = child(artifact, LOAD + "\nprint(session.device)", "cuda:1", FAKE_CUDA_DEVICES="80,90")
    assert done.stdout.startswith("cuda:1 (Pretended GPU 1, sm_90, device/sm_90.cubin"), done.stderr


def test_a_driver_that_is_too_old(artifact: Path) -> None:
    assert "driver is for CUDA 12.4; 13.0 is needed" in refusal(artifact, FAKE_CUDA_VERSION="12040")


def test_a_gpu_without_code(artifact: Path) -> None:
    error = refusal(artifact, FAKE_CUDA_DEVICES="75")
    assert "no code for Pretended GPU 0 (sm_75); it holds cubin for sm_80, cubin for sm_90, ptx for sm_90" in error
    assert "--target cuda:sm_75" in error


def test_ptx_that_is_newer_than_the_driver(artifact: Path) -> None:
    toolkit = json.loads((artifact / "manifest.json").read_text())["device"]["toolkit"]
    if toolkit == "13.0":
        pytest.skip("no driver that is new enough for libcudart is older")
    error = refusal(artifact, FAKE_CUDA_DEVICES="120", FAKE_CUDA_VERSION="13000")
    assert f"that is of CUDA {toolkit} and the driver of 13.0" in error


def test_memory_that_is_used_up(artifact: Path) -> None:
    assert "weights don't fit" in refusal(artifact, FAKE_CUDA_MEMORY="8")
    assert "memory of cuda:0" in refusal(artifact, RUN, FAKE_CUDA_MEMORY="100")


def test_a_runtime_library_that_is_missing(artifact: Path) -> None:
    """Another name stands for it: a machine may have the library where the linker finds it."""
    code = f"""import onnxkiln.artifacts.device_loading as loading
loading.wheel_folder, loading._CUDART = lambda: None, "libcudart.so.absent"
{LOAD}"""
    error = refusal(artifact, code)
    assert "libcudart.so.absent can't be opened" in error and "nvidia-cuda-runtime" in error


def test_processors_and_gpus_are_not_mixed_up(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="compiled for GPUs; it can't run on the processor"):
        onnxkiln.load(artifact, device="cpu")
    made = onnxkiln.compile(artifact.parent / "model.onnx", tmp_path / "cpu")
    with pytest.raises(UsageError, match=r"compiled for processors; it can't run on cuda:0"):
        onnxkiln.load(made, device="cuda:0")
    with onnxkiln.load(made) as session:
        assert session.device == "cpu"


def test_an_artifact_is_the_same_each_time(artifact: Path, tmp_path: Path) -> None:
    again = onnxkiln.compile(artifact.parent / "model.onnx", tmp_path / "again", target="cuda:sm_80,sm_90")
    files = sorted(path.relative_to(artifact) for path in artifact.rglob("*") if path.is_file())
    assert [path for path in files if (artifact / path).read_bytes() != (again / path).read_bytes()] == []
    assert Path("device/sm_80.cubin") in files and Path("runtime/libtvm_runtime_cuda.so") in files
