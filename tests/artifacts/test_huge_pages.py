"""Large activations are asked for in huge pages, once and before anything is written to them; nothing else is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_artifacts
from children import check_child

import onnxkiln
from onnxkiln.artifacts import huge_pages
from onnxkiln.artifacts.export import export
from onnxkiln.artifacts.manifest import Activations

LARGE = huge_pages.LEAST // 4 * 3


@pytest.fixture
def advised(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(huge_pages, "advise", lambda address, size: calls.append((address, size)))
    return calls


def scale(folder: Path, n: int, activations: Activations | None = None) -> Path:
    request = tiny_artifacts.scale_request(n, activations=activations or Activations())
    return export(request, folder / "artifact", False)


def check(session: onnxkiln.Session, n: int) -> np.ndarray:
    x = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    (y,) = session.run(None, {"x": x})
    np.testing.assert_allclose(y, x * tiny_artifacts.scale_weights(n) + x, rtol=1e-5, atol=1e-6)
    return y


def test_what_kernels_write_and_only_in_the_first_run(tmp_path: Path, advised: list[tuple[int, int]]) -> None:
    with onnxkiln.load(scale(tmp_path, LARGE)) as session:
        y = check(session, LARGE)
        assert advised == [(y.ctypes.data, y.nbytes)]  # neither the input nor the weights, which are as large
        check(session, LARGE)
        check(session, LARGE)
    assert len(advised) == 1


@pytest.mark.parametrize("activations", [Activations(), Activations(bytes=4 * 1024)])
def test_small_activations_are_left_alone(
    tmp_path: Path, advised: list[tuple[int, int]], activations: Activations
) -> None:
    with onnxkiln.load(scale(tmp_path, 1024, activations)) as session:
        check(session, 1024)
    assert advised == []


def test_a_known_small_total_needs_no_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huge_pages._Adviser, "instrument", lambda *_: pytest.fail("looked at a call"))
    with onnxkiln.load(scale(tmp_path, 1024, Activations(bytes=4096))) as session:
        check(session, 1024)


def test_whole_pages_inside_a_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int, int]] = []

    class Library:
        def __init__(self, _name: None) -> None:
            self.madvise = lambda start, size, advice: asked.append((start.value, size.value, advice))

    monkeypatch.setattr(huge_pages.ctypes, "CDLL", Library)
    huge_pages.advise(4096 * 3 + 64, 4096 * 4)
    huge_pages.advise(4096 * 3, 4096 * 2)
    huge_pages.advise(4096 * 3 + 1, 4096)
    assert asked == [(4096 * 4, 4096 * 3, 14), (4096 * 3, 4096 * 2, 14)]


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="a kernel without huge pages")
def test_the_kernel_is_asked(tmp_path: Path) -> None:
    """The mapping around an output carries the mark "hg"."""
    check_child(
        """
        import sys, numpy, onnxkiln
        n = int(sys.argv[2])
        def marked(address):
            inside = False
            for line in open("/proc/self/smaps"):
                head = line.split()[0]
                if "-" in head and not head.endswith(":"):
                    start, end = (int(part, 16) for part in head.split("-"))
                    inside = start <= address < end
                elif inside and head == "VmFlags:":
                    return "hg" in line.split()
            raise AssertionError("not mapped")
        with onnxkiln.load(sys.argv[1]) as session:
            y, = session.run(None, {"x": numpy.ones(n, "float32")})
            assert marked(y.ctypes.data + y.nbytes // 2)
        """,
        scale(tmp_path, LARGE),
        LARGE,
    )
