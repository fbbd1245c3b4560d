"""Models that the zoo finishes itself, on small stand-ins; sounds and pictures that are made for it."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from zoo_check.cases import Input
from zoo_check.reference_child import MAKERS
from zoo_check.sounds import chord, log_power, utterance
from zoo_models.yolox_nms import SIZE, STRIDES, build_yolox_nms

CELLS = sum((SIZE // stride) ** 2 for stride in STRIDES)


def detector():
    """Gives its input back: what a YOLOX network would have found."""
    shape = [1, CELLS, 6]
    node = helper.make_node("Identity", ["images"], ["output"], name="Identity_1")
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("images", "output")]
    graph = helper.make_graph([node], "yolox", infos[:1], infos[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8).SerializeToString()


def test_boxes_come_out_of_grid_cells_and_the_overlapping_go():
    model = ReferenceEvaluator(build_yolox_nms(detector()))
    found = np.zeros((1, CELLS, 6), np.float32)
    first_of_16 = (SIZE // 8) ** 2
    found[0, first_of_16 + 27] = [0.5, 0.25, np.log(2), np.log(4), 0.9, 0.5]  # row 1, column 1 of 26x26
    found[0, first_of_16 + 28] = [-0.5, 0.25, np.log(2), np.log(4), 0.9, 0.4]  # the same box from the cell beside it
    found[0, 3] = [0, 0, 0, 0, 0.3, 0.2]  # too weak
    boxes, scores = model.run(None, {"images": found})
    np.testing.assert_allclose(boxes, [[24 - 16, 20 - 32, 24 + 16, 20 + 32]], rtol=1e-6)
    np.testing.assert_allclose(scores, [0.45], rtol=1e-6)


def test_sounds_are_as_long_as_asked_and_within_bounds():
    for samples in (0, 1, 701, 40000):
        sound = utterance(samples)
        assert sound.shape == (samples,) and np.abs(sound).max(initial=0) < 1
    assert chord(100, 22050).shape == (100,)
    power = log_power(utterance(16000), 32)
    assert power.shape == ((16000 - 512) // 160 + 1, 32) and np.isfinite(power).all()


@pytest.mark.parametrize(
    ("maker", "inputs"),
    [
        ("speech", [Input("w", "float32", ["n", "samples"]), Input("lengths", "int64", ["n"])]),
        ("speech_windows", [Input("x", "float32", ["n", 576]), Input("h", "float32", [1, 1, 128])]),
        ("quality_spectrograms", [Input("x", "float32", ["n", 3, "frames", 160]), Input("h", "float32", [4, 1, 96])]),
        ("quality_spectrograms", [Input("x", "float32", [1, 1, "frames", 257]), Input("e", "float32", [1, 64])]),
        ("mel_patch", [Input("x", "float32", ["n", 76, 32, 1])]),
        ("struck_chord", [Input("x", "float32", ["n", 43844, 1])]),
        ("brain_waves", [Input("x", "float32", ["n", 100, "time"])]),
        ("grey_line", [Input("x", "float32", [1, 1, 64, "width"])]),
        ("printed_page", [Input("x", "float32", [1, 3, 800, 608])]),
        ("picture_of_signs", [Input("x", "float32", [1, 3, 416, 416])]),
        ("t5_sentence", [Input("input_ids", "int64", ["n", "m"]), Input("attention_mask", "int64", ["n", "m"])]),
        ("chinese_sentence", [Input("token_ids", "int64", ["n", "m"]), Input("length", "int64", ["k"])]),
        ("arabic_letters", [Input("x", "int64", ["n", "m"])]),
    ],
)
def test_realistic_inputs_have_the_shape_and_dtype_of_the_model(maker, inputs):
    feeds = MAKERS[maker](inputs, lambda feeds: [])
    assert list(feeds) == [item.name for item in inputs]
    for item in inputs:
        value = feeds[item.name]
        assert value.dtype == item.dtype and value.ndim == len(item.shape)
        assert all(size == dim for size, dim in zip(value.shape, item.shape, strict=True) if isinstance(dim, int))
        assert np.isfinite(value).all()
