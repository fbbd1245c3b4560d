"""A kernel's time and result, as a worker takes them; the kernels here are Python functions."""

import ctypes
import time

import ml_dtypes
import numpy as np
import pytest
import tvm  # noqa: F401  (the runtime)

from onnxkiln.tuning import run_kernel
from onnxkiln.tuning.run_kernel import agree


def argument(*shape, dtype="float32", is_weight=False, value=None):
    return {"shape": shape, "dtype": dtype, "is_weight": is_weight, "value": value}


ARGUMENTS = [argument(4, 8), argument(8, is_weight=True), argument(value=3), argument(4, 8)]


@pytest.fixture
def libraries(monkeypatch):
    """What ``load_module`` finds by path; a kernel is called with NumPy arrays."""
    found = {}

    def load(path):
        def main(*values):
            return found[path](*[np.from_dlpack(v) if hasattr(v, "__dlpack__") else v for v in values])

        return {"main": main}

    monkeypatch.setattr(run_kernel.tvm_ffi, "load_module", load)
    monkeypatch.setattr(run_kernel, "_references", type(run_kernel._references)())
    return found


def measure(library, reference="default", arguments=(ARGUMENTS,), scales=(1.0,), **options):
    settings = {"results": 1, "cold_bytes": 1 << 16, "seconds": 0.01, "slow": 60.0, **options}
    return run_kernel.measure(library, reference, arguments, scales, **settings)


def right(x, w, n, y):
    np.copyto(y, x * w + n)


def test_a_right_kernel_has_a_latency_for_each_placement(libraries):
    calls = []

    def noting(x, w, n, y):
        calls.append((x.ctypes.data, w.ctypes.data))
        right(x, w, n, y)

    libraries |= {"default": right, "other": noting}
    answer = measure("other")
    assert answer["status"] == "ok"
    assert run_kernel.PLACEMENTS[0] <= len(answer["seconds"]) <= run_kernel.PLACEMENTS[1]
    assert all(0 < seconds < 1 for seconds in answer["seconds"])
    timed = calls[1:]  # behind the call whose results are checked, on arrays as they come
    assert len(set(timed)) > run_kernel.PLACEMENTS[0]
    assert all(x % 64 == 0 and w % 64 == 0 for x, w in timed)


def test_weights_are_as_many_as_the_models_take_and_activations_are_written_before_each_call(libraries):
    weights, inputs = set(), []

    def noting(x, w, n, y):
        weights.add(w.ctypes.data)
        inputs.append(x.copy())
        right(x, w, n, y)
        x[:] = 0  # as if something else had used the buffer since

    libraries |= {"default": right, "other": noting}
    measure("other", cold_bytes=32 * 6, seconds=1.0)
    by_placement = (len(weights) - 1) / run_kernel.PLACEMENTS[0]
    assert by_placement > 3
    assert all((x == inputs[0]).all() for x in inputs)


def test_a_wrong_kernel_is_found_out(libraries):
    libraries |= {"default": right, "adds": lambda x, w, n, y: np.copyto(y, x * w + n + 1e-2), "idle": lambda *_: None}
    for name in ("adds", "idle"):
        answer = measure(name)
        assert answer["status"] == "wrong" and "not the default" in answer["words"]


def test_a_kernel_that_writes_past_its_result_is_found_out(libraries):
    def beyond(x, w, n, y):
        right(x, w, n, y)
        ctypes.memset(y.ctypes.data + y.nbytes, 0, 4)

    libraries |= {"default": right, "beyond": beyond}
    answer = measure("beyond")
    assert answer["status"] == "wrong" and "past the end" in answer["words"]


def test_every_set_of_arguments_is_checked_and_counts_by_its_scale(libraries):
    larger = [argument(8, 8), ARGUMENTS[1], ARGUMENTS[2], argument(8, 8)]

    def slow(x, w, n, y):
        time.sleep(0.008 if len(x) == 8 else 0.001)
        right(x, w, n, y)

    libraries |= {
        "default": right, "slow": slow, "half": lambda x, w, n, y: right(x[:4], w, n, y[:4])
    }  # fmt: skip
    assert measure("half", arguments=[ARGUMENTS, larger], scales=[1.0, 0.5])["status"] == "wrong"
    (latency, *_) = measure("slow", arguments=[ARGUMENTS, larger], scales=[1.0, 0.5])["seconds"]
    assert 0.0025 < latency < 0.02  # the mean of 1 ms and half of 8 ms, on a machine that may be busy


def test_what_is_far_too_slow_gets_no_second_call(libraries):
    calls = []

    def slow(x, w, n, y):
        calls.append(1)
        time.sleep(0.01)
        right(x, w, n, y)

    libraries |= {"default": right, "slow": slow}
    assert len(measure("slow", slow=0.005)["seconds"]) == 1 and len(calls) == 1


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "int64", "bool"])
def test_other_dtypes(libraries, dtype):
    libraries["default"] = lambda x, y: y.view("uint8").__setitem__(slice(None), x.view("uint8"))
    kinds = [argument(16, dtype=dtype), argument(16, dtype=dtype)]
    if dtype == "bfloat16":
        data = run_kernel._make(kinds, 1)
        assert data[0].dtype == ml_dtypes.bfloat16 and not data[1].any()
        return
    assert measure("default", arguments=[kinds])["status"] == "ok"


def test_agreement():
    want = np.array([1.0, -200.0, np.nan, np.inf, 0.0], np.float32)
    assert agree(want + np.array([0, 0.1, 0, 0, 0.01], np.float32), want)
    for place, value in ((0, 1.1), (1, -201.0), (2, 0.0), (3, -np.inf), (0, np.nan), (4, np.inf)):
        got = want.copy()
        got[place] = value
        assert not agree(got, want), (place, value)
    assert agree(np.array([1, 2]), np.array([1, 2])) and not agree(np.array([1, 3]), np.array([1, 2]))
    assert agree(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32))
