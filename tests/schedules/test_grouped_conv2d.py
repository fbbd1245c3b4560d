"""Grouped convolutions, whose blocks of 16 outputs span groups of any width, against ONNX Runtime."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxkiln
from onnxkiln.artifacts.opening import OpenArtifact
from onnxkiln.compare import compare
from onnxkiln.schedules.conv2d import pack_grouped

# (groups, channels per group, outputs per group): narrower than a block, as wide, wider, dividing it or not.
GROUPS = [(13, 2, 3), (4, 4, 4), (2, 3, 16), (3, 5, 20), (32, 1, 2), (2, 7, 1)]


def weights(groups: int, per_group: int, outputs: int) -> np.ndarray:
    rng = np.random.default_rng(groups)
    return rng.standard_normal((groups * outputs, per_group, 3, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """One graph with a convolution for each case, over inputs of open height and width."""
    nodes, inputs, outputs, constants = [], [], [], []
    for index, (groups, per_group, out) in enumerate(GROUPS):
        constants.append(numpy_helper.from_array(weights(groups, per_group, out), f"w{index}"))
        attributes = {"group": groups, "pads": [1, 0, 1, 1], "strides": [1 + index % 2, 1]}
        nodes.append(helper.make_node("Conv", [f"x{index}", f"w{index}"], [f"y{index}"], **attributes))
        shape = ["n", groups * per_group, "h", "w"]
        inputs.append(helper.make_tensor_value_info(f"x{index}", TensorProto.FLOAT, shape))
        outputs.append(helper.make_tensor_value_info(f"y{index}", TensorProto.FLOAT, None))
    graph = helper.make_graph(nodes, "grouped", inputs, outputs, constants)
    path = tmp_path_factory.mktemp("grouped") / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_every_width_of_group(model, tmp_path):
    artifact = onnxkiln.compile(model, tmp_path / "artifact")
    reference = onnxruntime.InferenceSession(model)
    with onnxkiln.load(artifact) as session:
        for n, height, width in ((1, 9, 11), (2, 2, 2), (1, 5, 30)):
            rng = np.random.default_rng(width)
            shapes = {item.name: (n, item.shape[1], height, width) for item in reference.get_inputs()}
            feeds = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
            for case, expected, found in zip(GROUPS, reference.run(None, feeds), session.run(None, feeds), strict=True):
                assert compare(str(case), expected, found).problem is None
    with OpenArtifact(artifact) as opened:
        assert sum(kernel.calls for kernel in opened.manifest.kernels if kernel.template == "conv2d") == len(GROUPS)


def test_outputs_meet_zeros_for_the_channels_of_other_groups():
    weight = weights(13, 2, 3)
    packed = pack_grouped(weight, 13)
    assert packed.shape == (3, 3, 3, 12, 16), "16 outputs of 3 a group span at most 6 groups of 2 channels"
    # Output 17 is the third of group 5, which is the first group of the second block (outputs 16 to 31).
    np.testing.assert_array_equal(packed[1, 2, 0, :2, 1], weight[17, :, 2, 0])
    assert not packed[1, :, :, 2:, 1].any()
