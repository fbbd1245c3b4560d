"""No data makes compiled code read or write outside of its tensors: see ``guard_pages``."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from guard_pages import COMPILER, run_guarded
from onnx_check import Case, case, joined

import onnxkiln

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler on this machine")

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


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bounds")
    model, feeds, _ = joined(cases(), 20)
    onnx.save(model, folder / "model.onnx")
    artifact = onnxkiln.compile(folder / "model.onnx", folder / "artifact", include_runtime=False)
    return artifact, feeds, len(model.graph.output)


@pytest.mark.parametrize("at_end", [True, False])
def test_wild_indices_stay_inside(at_end, artifact, tmp_path):
    folder, feeds, outputs = artifact
    (found,) = run_guarded(folder, [feeds], tmp_path, at_end)
    assert len(found) == outputs
