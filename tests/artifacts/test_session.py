"""Running: what goes in, what comes out, and what is refused, in ONNX Runtime's manner."""

from __future__ import annotations

import signal
import sys
import timeit
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tiny_artifacts
from children import check_child, run_child

import onnxkiln
from onnxkiln.artifacts.session import NodeArg, Session
from onnxkiln.contract import Contract, TensorSpec
from onnxkiln.errors import ArtifactError, InputError, KilnError, UsageError

W = tiny_artifacts.scale_weights()


@pytest.fixture(scope="module")
def scaler(scale: Path) -> Iterator[Session]:
    with onnxkiln.load(scale) as session:
        yield session


@pytest.fixture(scope="module")
def adder(add: Path) -> Iterator[Session]:
    with onnxkiln.load(add) as session:
        yield session


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def at_offset(array: np.ndarray, offset: int) -> np.ndarray:
    """The same values, ``offset`` bytes past a multiple of 64."""
    memory = np.zeros(array.nbytes + 128, np.uint8)
    start = -memory.ctypes.data % 64 + offset
    result = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    result[...] = array
    assert result.ctypes.data % 64 == offset
    return result


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def misaligned(array: np.ndarray) -> np.ndarray:
    memory = np.zeros(array.nbytes + 1, np.uint8)
    memory[1:] = array.view(np.uint8).reshape(-1)
    return memory[1:].view(array.dtype).reshape(array.shape)


def test_inputs_and_outputs_are_described_as_onnx_runtime_does(adder: Session) -> None:
    assert adder.get_inputs() == [NodeArg(name, ["rows", 4], "tensor(float)") for name in ("a", "b")]
    assert [(arg.name, arg.shape, arg.type) for arg in adder.get_outputs()] == [
        ("total", ["rows", 4], "tensor(float)"),
        ("again", ["rows", 4], "tensor(float)"),
    ]


@pytest.mark.parametrize("offset", [0, 4, 16, 32])
def test_inputs_at_any_address(offset: int, scaler: Session) -> None:
    x = at_offset(random(1024), offset)
    np.testing.assert_allclose(scaler.run(None, {"x": x})[0], x * W + x, atol=1e-6)


def test_code_that_assumes_alignment_faults(tmp_path: Path) -> None:
    """Why the artifact's code must not: the same module built with TVM's default assumption."""
    target = tiny_artifacts.targets.host()
    module = tiny_artifacts.build(tiny_artifacts.parse(tiny_artifacts.SCALE, n=1024, align=64), target)
    folder = tiny_artifacts.write(tiny_artifacts.scale_request(libraries=[(target, module)]), tmp_path)
    code = """
    import sys, numpy, onnxkiln
    session = onnxkiln.load(sys.argv[1])
    memory = numpy.zeros(8192, "uint8")
    start = -memory.ctypes.data % 64 + int(sys.argv[2])
    session.run(None, {"x": memory[start : start + 4096].view("float32")})
    """
    check_child(code, folder, "0")
    assert run_child(code, folder, "4").returncode == -signal.SIGSEGV


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("strided", lambda x: np.repeat(x, 3)[::3]),
        ("reversed", lambda x: x[::-1].copy()[::-1]),
        ("big-endian", lambda x: x.astype(">f4")),
        ("read-only", lambda x: read_only(x.copy())),
        ("misaligned", misaligned),
        ("subclass", lambda x: x.view(np.recarray)),
        ("another dtype object", lambda x: x.view(np.dtype("float32", metadata={"a": 1}))),
    ],
)
def test_awkward_memory_is_copied(name: str, change: Any, scaler: Session) -> None:
    x = random(1024)
    np.testing.assert_allclose(scaler.run(None, {"x": change(x)})[0], x * W + x, atol=1e-6)


def test_fortran_order(adder: Session) -> None:
    a, b = np.asfortranarray(random(5, 4)), random(4, 5).T
    total, again = adder.run(None, {"a": a, "b": b})
    np.testing.assert_allclose(total, a + b)
    np.testing.assert_allclose(again, a + b + b)


@pytest.mark.parametrize("rows", [0, 1, 7, 64])
def test_open_dims(rows: int, adder: Session) -> None:
    a, b = random(rows, 4), random(rows, 4) * 2
    total, again = adder.run(None, {"a": a, "b": b})
    assert total.shape == again.shape == (rows, 4)
    np.testing.assert_allclose(total, a + b)


def test_outputs_by_name(adder: Session) -> None:
    ones = np.ones((2, 4), np.float32)
    again, total, twice = adder.run(["again", "total", "again"], {"a": ones, "b": ones})
    assert (again[0, 0], total[0, 0], twice[0, 0]) == (3, 2, 3)
    assert adder.run([], {"a": ones, "b": ones}) == []
    with pytest.raises(InputError, match=r"unknown output.* 'sum'(?s:.*)outputs: total, again"):
        adder.run(["sum"], {"a": ones, "b": ones})


def test_outputs_own_their_memory(scaler: Session) -> None:
    kept = [(x, scaler.run(None, {"x": x})[0]) for x in (random(1024) * n for n in range(5))]
    for x, y in kept:
        np.testing.assert_allclose(y, x * W + x, atol=1e-6)
    _, y = kept[0]
    y[:] = 7  # writable, and nobody else's
    np.testing.assert_allclose(kept[1][1], kept[1][0] * W + kept[1][0], atol=1e-6)


def test_outputs_outlive_the_session(scale: Path) -> None:
    x = random(1024)
    with onnxkiln.load(scale) as session:
        y = session.run(None, {"x": x})[0]
    np.testing.assert_allclose(y, x * W + x, atol=1e-6)


def test_inputs_are_not_kept(scaler: Session) -> None:
    x = random(1024)
    before = sys.getrefcount(x)
    scaler.run(None, {"x": x})
    assert sys.getrefcount(x) == before


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({}, ["missing input 'a'", "missing input 'b'"]),
        ({"a": np.ones((2, 4), np.float32)}, ["missing input 'b'"]),
        ({"a": 1, "b": 2, "c": 3}, ["unknown input 'c'", "'a' must be a NumPy array, found int"]),
        ({"a": np.ones((2, 4)), "b": np.ones((2, 4), np.float32)}, ["'a' must have dtype float32, found float64"]),
        ({"a": [[1.0] * 4], "b": np.ones((1, 4), np.float32)}, ["'a' must be a NumPy array, found list"]),
        ({"a": np.ones(4, np.float32), "b": np.ones((1, 4), np.float32)}, ["rank 2, shape [rows, 4], found [4]"]),
        ({"a": np.ones((2, 3), np.float32), "b": np.ones((2, 4), np.float32)}, ["shape [rows, 4], found [2, 3]"]),
        (
            {"a": np.ones((2, 4), np.float32), "b": np.ones((3, 4), np.float32)},
            ["dim 'rows' is 2 (axis 0 of 'a') and 3 (axis 0 of 'b')"],
        ),
        (
            {"a": np.ones((65, 4), np.float32), "b": np.ones((65, 4), np.float32)},
            ["dim 'rows' is 65 (axis 0 of 'a'); the model was compiled for 0..64"],
        ),
        ([], ["feeds must be a mapping from input names to arrays, found list"]),
    ],
)
def test_feeds_that_do_not_fit(feeds: Any, words: list[str], adder: Session) -> None:
    with pytest.raises(InputError) as caught:
        adder.run(None, feeds)
    text = str(caught.value)
    assert all(word in text for word in words), text
    assert "a: float32[rows, 4]; b: float32[rows, 4]" in text
    ones = np.ones((2, 4), np.float32)
    assert adder.run(None, {"a": ones, "b": ones})[0][0, 0] == 2


def test_wrong_static_shape(scaler: Session) -> None:
    with pytest.raises(InputError, match=r"'x' must have shape \[1024\], found \[1023\]"):
        scaler.run(None, {"x": np.ones(1023, np.float32)})
    with pytest.raises(InputError, match="rank 1"):
        scaler.run(None, {"x": np.ones((), np.float32)})


def test_a_surplus_input_is_refused(scaler: Session) -> None:
    with pytest.raises(InputError, match="unknown input 'y'"):
        scaler.run(None, {"x": random(1024), "y": random(1)})


@pytest.mark.parametrize(
    ("dtype", "op"),
    [("bool", "and"), ("int64", "+"), ("int8", "+"), ("uint8", "+"), ("float16", "+"), ("float64", "+")],
)
def test_dtypes(dtype: str, op: str, tmp_path: Path) -> None:
    a, b = (np.arange(12).reshape(3, 4) % n > 0 for n in (2, 3))
    a, b = a.astype(dtype), b.astype(dtype)
    with onnxkiln.load(tiny_artifacts.write(tiny_artifacts.add_request(dtype, op), tmp_path)) as session:
        total = session.run(["total"], {"a": a, "b": b})[0]
        assert total.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(total, a & b if dtype == "bool" else a + b)
        swapped = session.run(["total"], {"a": np.asfortranarray(a), "b": b.astype(b.dtype.newbyteorder())})[0]
        np.testing.assert_array_equal(swapped, total)


def test_bfloat16_through_ml_dtypes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_artifacts.write(tiny_artifacts.add_request("bfloat16"), tmp_path)
    a = np.arange(12).reshape(3, 4).astype(ml_dtypes.bfloat16)
    with onnxkiln.load(folder) as session:
        assert session.get_inputs()[0].type == "tensor(bfloat16)"
        for feed in (a, np.asfortranarray(a), read_only(a.copy())):
            total = session.run(["total"], {"a": feed, "b": a})[0]
            assert total.dtype == a.dtype
            np.testing.assert_array_equal(total, a + a)
        with pytest.raises(InputError, match="dtype bfloat16, found uint16"):
            session.run(None, {"a": a.view(np.uint16), "b": a})
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ArtifactError, match=r"dtype bfloat16(?s:.*)pip install ml_dtypes"):
        onnxkiln.load(folder)


def test_scalars_in_and_out(tmp_path: Path) -> None:
    script = """
@I.ir_module
class Module:
    @R.function
    def main(x: R.Tensor((), "float32"), weights: R.Object):
        with R.dataflow():
            y = R.multiply(x, R.const(3.0, "float32"))
            out = (y,)
            R.output(out)
        return out
"""
    target = tiny_artifacts.targets.host()
    contract = Contract((TensorSpec("x", "float32", ()),), (TensorSpec("y", "float32", ()),))
    library = target, tiny_artifacts.build(tiny_artifacts.parse(script), target)
    folder = tiny_artifacts.write(
        tiny_artifacts.scale_request(libraries=[library], weights=[], contract=contract), tmp_path
    )
    with onnxkiln.load(folder) as session:
        for x in (np.array(2, np.float32), np.float32(2), np.array(2, ">f4")):
            y = session.run(None, {"x": x})[0]
            assert y.shape == () and y == 6


def test_what_the_compiled_code_refuses_has_words(tmp_path: Path) -> None:
    """A contract that promises less than the code checks: the virtual machine's error arrives as ours."""
    wider = Contract(
        tuple(TensorSpec(name, "float32", ("rows", "columns")) for name in "ab"),
        (TensorSpec("total", "float32", ("rows", "columns")),),
    )
    folder = tiny_artifacts.write(tiny_artifacts.add_request(contract=wider), tmp_path)
    with onnxkiln.load(folder) as session:
        bad = np.ones((2, 5), np.float32)
        for _ in range(3):
            with pytest.raises(KilnError, match=r"the compiled model refused to run: \S"):
                session.run(None, {"a": bad, "b": bad})
        good = np.ones((2, 4), np.float32)
        assert session.run(None, {"a": good, "b": good})[0][0, 0] == 2


def test_dlpack_in_and_out_without_a_copy(adder: Session) -> None:
    a, b = random(3, 4), random(3, 4)
    total, again = adder.run_dlpack([a, b])
    np.testing.assert_allclose(np.from_dlpack(total), a + b)
    chained, _ = adder.run_dlpack([total, again])
    np.testing.assert_allclose(np.from_dlpack(chained), a + b + a + b + b, rtol=1e-6)
    assert adder.run_dlpack([a[:0], a[:0]])[0].shape == (0, 4)
    with pytest.raises(InputError, match="expected 2 inputs, found 1"):
        adder.run_dlpack([a])


def test_other_libraries_tensors_are_taken(adder: Session) -> None:
    class Foreign:
        """Speaks DLPack and nothing else."""

        def __init__(self, array: np.ndarray):
            self.array = array

        def __dlpack__(self, **options: Any) -> Any:
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return self.array.__dlpack_device__()

    ones = np.ones((2, 4), np.float32)
    assert adder.run(None, {"a": Foreign(ones), "b": ones})[0][0, 0] == 2


def test_a_closed_session(scale: Path) -> None:
    session = onnxkiln.load(scale)
    session.close()
    session.close()
    with pytest.raises(UsageError, match="the session is closed"):
        session.run(None, {"x": random(1024)})
    with onnxkiln.load(scale) as again:
        again.run(None, {"x": random(1024)})


def test_run_options_are_refused(scaler: Session) -> None:
    with pytest.raises(UsageError, match="run_options"):
        scaler.run(None, {"x": random(1024)}, object())


def test_profile_names_the_functions(adder: Session) -> None:
    ones = np.ones((2, 4), np.float32)
    report = {item.name: item for item in adder.profile({"a": ones, "b": ones}, runs=4)}
    assert report["add"].calls == 2
    assert 0 < report["add"].seconds < 0.1
    assert set(report) == {"add", "(virtual machine)"}
    with pytest.raises(InputError):
        adder.profile({"a": ones})


def test_a_run_costs_little_more_than_the_bare_call(scaler: Session) -> None:
    """Under 5 us: the best of many short windows, which a busy machine leaves undisturbed now and then."""
    x = random(1024)
    feeds, machine, weights = {"x": x}, scaler._idle[0], scaler._weights

    def best(call: Callable[[], Any]) -> float:
        return min(timeit.repeat(call, number=50, repeat=1000)) / 50

    extra = best(lambda: scaler.run(None, feeds)) - best(lambda: machine(x, weights))
    assert extra < 5e-6, f"{extra * 1e6:.1f} us"


def test_memory_is_flat_over_many_runs_and_ever_new_shapes(scale: Path, add: Path) -> None:
    check_child(
        """
        import sys, numpy, onnxkiln
        def pages():
            return int(open("/proc/self/statm").read().split()[1]) * 4096
        def growth(session, feeds):
            run, first = session.run, None
            for number, feed in enumerate(feeds):
                run(None, feed)
                if number == 1000:
                    first = pages()
            return pages() - first
        x = numpy.ones(1024, "float32")
        with onnxkiln.load(sys.argv[1]) as session:
            grown = growth(session, ({"x": x} for _ in range(10_000)))
            assert grown < 1 << 20, f"{grown} bytes over 9000 runs"
        with onnxkiln.load(sys.argv[2]) as session:
            base = numpy.ones((200_000, 4), "float32")
            session.contract.dims.clear()
            sizes = (base[: 7 + 61 * (n * 7919 % 3000)] for n in range(2000))
            grown = growth(session, ({"a": part, "b": part} for part in sizes))
            assert grown < 64 << 20, f"{grown} bytes over 1000 new shapes"
        """,
        scale,
        add,
    )
