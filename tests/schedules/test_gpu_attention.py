"""Attention on GPUs in one kernel, run thread by thread on the processor, against ONNX's reference evaluator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from gpu_emulation import NEEDS_CXX, check_emulated, compile_emulated, run_emulated
from onnx_check import case

from onnxkiln.artifacts import nvrtc
from onnxkiln.artifacts.cubin import kernels_of_cubin
from onnxkiln.artifacts.opening import OpenArtifact
from onnxkiln.gpus import GPUS
from onnxkiln.schedules.gpu import attention

RANDOM = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def rows(batch: int, heads: int, queries: int, keys: int, width: int, values: int = 0) -> list[np.ndarray]:
    shapes = (queries, width), (keys, width), (keys, values or width)
    return [floats(batch, heads, *shape) for shape in shapes]


MASK = np.where(RANDOM.random((37, 41)) > 0.3, 0, -np.inf).astype(np.float32)
MASK[5] = -np.inf  # a row that sees nothing
CASES = [
    case("Attention", *rows(1, 1, 1, 1, 1)),
    case("Attention", *rows(2, 3, 37, 41, 16)),
    case("Attention", *rows(1, 2, 3, 130, 64, 7)),
    case("Attention", *rows(1, 2, 33, 64, 64), is_causal=1),
    case("Attention", *rows(1, 1, 65, 5, 128), softcap=2.0),
    case("Attention", *rows(1, 2, 37, 41, 8), MASK[:, :]),
    case("Attention", floats(1, 4, 9, 8), floats(1, 2, 11, 8), floats(1, 2, 11, 8)),
    case("Attention", *rows(2, 2, 19, 23, 16), dims="open"),
    case("Attention", *rows(1, 1, 5, 9, 256)),
]


@NEEDS_CXX
def test_kernels_compute_what_onnx_says(tmp_path: Path) -> None:
    artifact = check_emulated(CASES, tmp_path, opset=23)
    with OpenArtifact(artifact) as opened:
        found = [kernel.template for kernel in opened.manifest.kernels]
    assert found.count(attention.NAME) >= len(CASES) - 1, found  # of open sizes one looks whether there are any


AFTER = """<ir_version: 10, opset_import: ["" : 20]>
weighted (float[2, 3, n, 8] q, float[2, 3, 8, m] k, float[2, 3, m, 5] v, float[2, 1, n, m] w) => (float[2, 3, n, 5] y) {
  scores = MatMul(q, k)
  shares = Softmax<axis = -1>(scores)
  kept = Mul(shares, w)
  y = MatMul(kept, v)
}"""


@NEEDS_CXX
def test_what_follows_the_softmax_sees_whole_sums(tmp_path: Path) -> None:
    artifact, kernels = compile_emulated(onnx.parser.parse_model(AFTER), tmp_path, machine_code=False)
    with OpenArtifact(artifact) as opened:
        found = {kernel.template: kernel.calls for kernel in opened.manifest.kernels}
    assert found[attention.NAME] == 1 and not {"gpu_matmul", "gpu_rows"} & found.keys()
    source = (tmp_path / "dump" / "kernels.cu").read_text()
    (use,) = (use for use in kernels_of_cubin(nvrtc.compile_cubin(source, GPUS["sm_90"])) if "attention" in use.name)
    assert use.stack_bytes == 0
    feeds = []
    for n, m in ((1, 1), (37, 67), (32, 64)):
        shapes = {"q": (2, 3, n, 8), "k": (2, 3, 8, m), "v": (2, 3, m, 5), "w": (2, 1, n, m)}
        feeds.append({name: floats(*shape) for name, shape in shapes.items()})
    for order in ({}, {"EMULATOR_REVERSE": "1"}):
        for feed, (found,) in zip(feeds, run_emulated(artifact, kernels, feeds, tmp_path, **order)):
            scores = feed["q"].astype(np.float64) @ feed["k"]
            shares = np.exp(scores - scores.max(-1, keepdims=True))
            expected = (shares / shares.sum(-1, keepdims=True) * feed["w"]) @ feed["v"]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
