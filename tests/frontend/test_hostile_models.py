"""Small files that ask for much: each compiles within its limits, or is refused with words."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper as oh
import pytest
from children import run_child

PEAK_BYTES = 3 << 30
CODE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]), int(sys.argv[2])))
import onnxkiln
for path in sys.argv[3:]:
    try:
        onnxkiln.compile(path, path + ".kiln", level="O1", include_runtime=False, target=sys.argv[1])
    except onnxkiln.KilnError as error:
        print(path, "refused:", error)
print("done")
"""


def model(nodes: list[onnx.NodeProto], constants: dict[str, object], output: str = "y") -> onnx.ModelProto:
    initializers = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    value = [oh.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("x", output)]
    value[0].type.tensor_type.shape.dim.add(dim_param="n")
    graph = oh.make_graph(nodes, "g", value[:1], value[1:], initializers)
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 20)], ir_version=10)


def compile_all(folder, *models: onnx.ModelProto) -> str:
    """Compile in a child with bounded memory; what it printed."""
    paths = [folder / f"{number}.onnx" for number in range(len(models))]
    for path, made in zip(paths, models):
        onnx.save(made, path)
    child = run_child(CODE, "cpu", str(PEAK_BYTES), *paths, timeout=120)
    assert child.returncode == 0 and "done" in child.stdout, f"{child.returncode}\n{child.stderr[-3000:]}"
    return child.stdout


ONE, FOUR = np.ones(1, np.float32), np.ones(4, np.float32)
GROWING = {
    "ConstantOfShape": {"s": [1 << 40]},
    "Range": {"a": np.float32(0), "b": np.float32(2**39), "d": np.float32(1)},
    "Expand": {"w": ONE, "s": [1 << 40]},
    "Tile": {"w": FOUR, "s": [1 << 38]},
    "Pad": {"w": FOUR, "s": [1 << 38, 0]},
    "OneHot": {"i": np.arange(1000), "d": 1 << 36, "v": np.array([0, 1], np.float32)},
    "MatMul": {"w": np.ones((100_000, 1), np.float32), "v": np.ones((1, 100_000), np.float32)},
}


def test_constants_that_would_grow_are_not_made(tmp_path):
    """Folding any of these would take terabytes."""
    models = []
    for op_type, constants in GROWING.items():
        nodes = [
            oh.make_node(op_type, list(constants), ["c"]),
            oh.make_node("ReduceSum", ["c"], ["r"], keepdims=0),
            oh.make_node("Add", ["x", "r"], ["y"]),
        ]
        models.append(model(nodes, constants))
    compile_all(tmp_path, *models)


@pytest.mark.parametrize("levels", [30])
def test_graphs_nested_as_deep_as_files_can_hold(tmp_path, levels):
    """An If in an If: protobuf's own limit is about thirty."""

    def branch(level: int) -> onnx.GraphProto:
        name = f"v{level}"
        out = [oh.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)]
        if level == 0:
            return oh.make_graph([oh.make_node("Neg", ["x"], [name])], name, [], out)
        leaf_out = [oh.make_tensor_value_info(f"leaf{level}", onnx.TensorProto.FLOAT, None)]
        leaf = oh.make_graph([oh.make_node("Abs", ["x"], [f"leaf{level}"])], "leaf", [], leaf_out)
        node = oh.make_node("If", ["flag"], [name], then_branch=branch(level - 1), else_branch=leaf)
        return oh.make_graph([node], name, [], out)

    flag = [oh.make_node("ReduceMax", ["x"], ["m"], keepdims=0), oh.make_node("Cast", ["m"], ["flag"], to=9)]
    assert "refused" not in compile_all(tmp_path, model([*flag, *branch(levels).node], {}, f"v{levels}"))
