"""No data makes compiled code read or write outside of its tensors: inputs lie between pages that can't be touched.

Run in a child process, which a stray access would kill.
"""

from __future__ import annotations

import ctypes
import mmap
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx_check import Case, _joined, case

LIMITS = np.iinfo(np.int64)
WILD = np.array([LIMITS.min, LIMITS.max, -(2**40), 2**31, -6, 5, 4, -5, 0], np.int64)
X = np.arange(5 * 4 * 3, dtype=np.float32).reshape(5, 4, 3)
UPDATES = np.ones((9, 4, 3), np.float32)


def cases() -> list[Case]:
    columns = np.broadcast_to(WILD[:, None, None], (9, 4, 3)).copy()
    tuples = np.stack([WILD, WILD[::-1]], -1)
    boxes = np.array([[0, 0, 3, 3], [-1e30, 0, 1e30, 2], [np.nan, np.inf, -np.inf, 1]], np.float32)
    image, any_ = X[None, :, :, :], X
    return [
        case("Gather", X, WILD, expected=any_),
        case("Gather", X, WILD, axis=1, expected=any_),
        case("GatherElements", X, columns, expected=any_),
        case("GatherND", X, tuples, expected=any_),
        case("ScatterElements", X, columns, UPDATES, expected=any_),
        case("ScatterND", X, WILD[:, None], UPDATES, reduction="add", expected=any_),
        case("Slice", X, WILD[:3], WILD[::-1][:3].copy(), np.arange(3), np.array([1, -2, 3]), expected=any_),
        case("OneHot", WILD, np.array(5), np.array([0, 1], np.float32), expected=any_),
        case("Compress", X, WILD != 0, axis=0, expected=any_),
        case("ReverseSequence", X, WILD[:4], expected=any_),
        case("RoiAlign", image, boxes, WILD[:3], sampling_ratio=2, output_height=2, output_width=2, expected=any_),
        case("RoiAlign", image, boxes[:1], WILD[1:2], expected=any_),
        case("Pad", X, np.array([30, 0, 0, 41, 0, 0]), mode="reflect", expected=any_),
        case("Pad", X, np.array([30, 0, 0, 41, 0, 0]), mode="wrap", expected=any_),
        case("Resize", image, None, np.array([1, 1, 1.7, 0.3], np.float32), mode="linear", expected=any_),
        case("TopK", X, np.array([4]), outputs=2, axis=1, expected=[any_, any_]),
        case("Trilu", X, WILD[1:2], expected=any_),
    ]


def fenced(array: np.ndarray, at_end: bool) -> np.ndarray:
    """A copy whose last (or first) byte touches a page that may not be read or written."""
    page = mmap.PAGESIZE
    pages = -(-array.nbytes // page) + 2
    memory = mmap.mmap(-1, pages * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for first in (start, start + (pages - 1) * page):
        assert protect(first, page, 0) == 0
    offset = (pages - 1) * page - array.nbytes if at_end else page
    copy = np.frombuffer(memory, array.dtype, array.size, offset).reshape(array.shape)
    copy[...] = array
    return copy


def main(folder: Path) -> None:
    import onnxkiln

    model, feeds, _ = _joined(cases(), 20)
    onnx.save(model, folder / "model.onnx")
    session = onnxkiln.load(onnxkiln.compile(folder / "model.onnx", folder / "artifact"))
    for at_end in (True, False):
        outputs = session.run(None, {name: fenced(array, at_end) for name, array in feeds.items()})
        assert len(outputs) == len(model.graph.output)
    print("all read within their tensors")


def test_wild_indices_stay_inside(tmp_path):
    code = f"import sys; sys.path[:0] = {sys.path!r}; import runpy; runpy.run_path({__file__!r}, run_name='child')"
    child = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert child.returncode == 0 and "all read within" in child.stdout, child.stderr[-3000:]


def test_the_fence_kills():
    """The check itself works: one element past the end ends the process."""
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}; import runpy, ctypes, numpy as np\n"
        f"fenced = runpy.run_path({__file__!r})['fenced']\n"
        "a = fenced(np.ones(5, np.float32), True); ctypes.c_float.from_address(a.ctypes.data + 20).value"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=100)
    assert child.returncode < 0


if __name__ == "child":
    main(Path(sys.argv[1]))
