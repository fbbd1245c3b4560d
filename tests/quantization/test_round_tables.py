"""Tables of embeddings become int8, a scale for each row; what else reads them, and what is small, stays."""

import numpy as np
import onnx
import pytest
from quantized_models import graph_model, node, noise, operators, rewritten, run

import onnxkiln
from onnxkiln.errors import UsageError
from onnxkiln.quantization.plan import Selection
from onnxkiln.quantization.round_tables import round_tables

TABLE = noise(517, 31) * np.exp(noise(517, 1, seed=4))


def made(nodes, constants, outputs=("y",), shape=("n", 3), selection=None):
    """(model, rewritten model, names), with indices ``i`` of int64."""
    model = graph_model(nodes, {"i": list(shape)}, list(outputs), constants)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    names = []
    return model, rewritten(model, lambda it: names.extend(round_tables(it, selection or Selection()))), names


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0, 3)])
def test_rows_are_within_half_a_step_of_their_own(shape):
    model, found, names = made([node("Gather", "t i", "y")], {"t": TABLE}, shape=shape)
    index = np.random.default_rng(0).integers(-517, 517, shape)  # from the end too
    (exact,), (rows,) = run(model, {"i": index}), run(found, {"i": index})
    assert names == ["y_node"] and rows.shape == exact.shape == (*shape, 31)
    step = np.abs(exact).max(axis=-1, keepdims=True, initial=0) / 127
    assert (np.abs(rows - exact) <= step / 2 + 1e-6).all()
    assert all(t.data_type == onnx.TensorProto.INT8 or t.dims[-1] == 1 for t in found.graph.initializer if t.dims)


def test_readers_share_a_table_and_others_keep_theirs():
    nodes = [node("Gather", "t i", "a"), node("Gather", "t i", "b"), node("MatMul", "a v", "c")]
    nodes += [node("Add", "b b", "d"), node("MatMul", "c u", "y")]
    constants = {"t": TABLE, "v": noise(31, 517), "u": noise(517, 3)}
    _, found, names = made(nodes, constants, ("y", "d"))
    assert names == ["a_node", "b_node"] and operators(found).count("Gather") == 4
    assert sum(t.data_type == onnx.TensorProto.INT8 for t in found.graph.initializer) == 1


@pytest.mark.parametrize(
    ("table", "attributes", "selection"),
    [
        (noise(8, 8), {}, Selection()),
        (TABLE, {"axis": 1}, Selection()),
        (noise(20, 20, 20), {}, Selection()),
        (np.where(TABLE > 3, np.inf, TABLE).astype(np.float32), {}, Selection()),
        (TABLE, {}, Selection(ops=("Gather",))),
        (TABLE, {}, Selection(nodes=("y_*",))),
    ],
    ids=["small", "axis", "rank", "infinite", "excluded", "named"],
)
def test_what_is_left_alone(table, attributes, selection):
    _, found, names = made([node("Gather", "t i", "y", **attributes)], {"t": table}, shape=(2,), selection=selection)
    assert names == [] and operators(found) == ["Gather"]


def test_size_is_a_choice_of_quantization(tmp_path):
    nodes = [node("Gather", "t i", "a"), node("MatMul", "a w", "y")]
    model, _, _ = made(nodes, {"t": TABLE, "w": noise(31, 16, seed=2)})
    onnx.save(model, tmp_path / "m.onnx")
    sizes, index = {}, np.arange(6).reshape(2, 3)
    (exact,) = run(model, {"i": index})
    for prefer in ("speed", "size"):
        artifact = onnxkiln.compile(tmp_path / "m.onnx", tmp_path / prefer, quantize="int8-dynamic", prefer=prefer)
        sizes[prefer] = sum(file.stat().st_size for file in artifact.glob("weights.*"))
        with onnxkiln.load(artifact) as session:
            (found,) = session.run(None, {"i": index})
        assert np.abs(found - exact).max() < 0.03 * np.abs(exact).max()
    assert sizes["size"] < 0.4 * sizes["speed"]
    with pytest.raises(UsageError, match="preference 'small' is not known"):
        onnxkiln.compile(tmp_path / "m.onnx", tmp_path / "x", quantize="int8-dynamic", prefer="small")
    with pytest.raises(UsageError, match="prefer is for quantization only"):
        onnxkiln.compile(tmp_path / "m.onnx", tmp_path / "x", prefer="size")
