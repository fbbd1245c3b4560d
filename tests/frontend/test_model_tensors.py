"""The headers of tensors: found wherever they are, refused before anything is allocated for them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper as oh
import pytest
from tiny_models import WEIGHT, inside, matmul, save

from onnxkiln.errors import ModelError
from onnxkiln.frontend import import_model
from onnxkiln.frontend.model_tensors import tensors_of


def tensor(name: str = "t") -> onnx.TensorProto:
    return oh.make_tensor(name, 1, [2], [1.0, 2.0])


def test_every_hiding_place_is_found():
    model = inside()
    graph = model.graph
    graph.sparse_initializer.add(values=tensor("sv"), indices=oh.make_tensor("si", 7, [2], [0, 1]), dims=[4])
    node = graph.node.add(op_type="Odd", output=["o"])
    node.attribute.add(name="one", type=onnx.AttributeProto.TENSOR, t=tensor("a1"))
    node.attribute.add(name="many", type=onnx.AttributeProto.TENSORS, tensors=[tensor("a2"), tensor("a3")])
    inner = onnx.GraphProto(initializer=[tensor("g1")])
    inner.node.add(op_type="Constant").attribute.add(name="value", type=onnx.AttributeProto.TENSOR, t=tensor("g2"))
    node.attribute.add(name="body", type=onnx.AttributeProto.GRAPH, g=inner)
    node.attribute.add(
        name="bodies", type=onnx.AttributeProto.GRAPHS, graphs=[onnx.GraphProto(initializer=[tensor("g3")])]
    )
    function = model.functions.add(name="f", domain="d")
    function.node.add(op_type="Constant").attribute.add(name="value", type=onnx.AttributeProto.TENSOR, t=tensor("f1"))
    function.attribute_proto.add(name="default", type=onnx.AttributeProto.TENSOR, t=tensor("f2"))
    model.training_info.add().initialization.initializer.append(tensor("t1"))
    found = {held.tensor.name for held in tensors_of(model)}
    assert found == {"w", "sv", "si", "a1", "a2", "a3", "g1", "g2", "g3", "f1", "f2", "t1"}


def weighing(**fields: object) -> onnx.TensorProto:
    return onnx.TensorProto(**{"name": "w", "data_type": 1, "dims": WEIGHT.shape, **fields})


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (
            weighing(dims=[1 << 40, 1 << 20], raw_data=b"1234"),
            "its dims need 4611686018427387904 bytes, the file holds 4",
        ),
        (weighing(dims=[1 << 40], float_data=[1.0]), "its dims need 1099511627776 elements, the file holds 1"),
        (weighing(dims=[-3, 4], raw_data=WEIGHT.tobytes()), r"the dims \[-3, 4\] can't be"),
        (weighing(dims=[1] * 100, raw_data=b"1234"), "can't be those of a tensor"),
        (weighing(raw_data=WEIGHT.tobytes()[:-1]), "its dims need 48 bytes, the file holds 47"),
        (weighing(raw_data=WEIGHT.tobytes(), data_type=99), "unknown element type 99"),
        (weighing(), "its dims need 12 elements, the file holds 0"),
    ],
)
def test_promises_that_the_file_does_not_keep(weight, words, tmp_path):
    with pytest.raises(ModelError, match=f"initializer 'w' of the graph: .*{words}"):
        import_model(save(matmul(weight), tmp_path))


def test_more_bytes_than_allowed(tmp_path):
    path = save(inside(), tmp_path)
    with pytest.raises(ModelError, match="take more than 47 bytes"):
        import_model(path, max_bytes=47)
    import_model(path, max_bytes=48)


def test_promises_of_external_data_count_too(tmp_path):
    from tiny_models import external

    huge = external("w", WEIGHT, location="w.bin")
    huge.dims[:] = [1 << 30, 1 << 30]
    with pytest.raises(ModelError, match="take more than"):
        import_model(save(matmul(huge), tmp_path))


def test_types_of_less_than_a_byte_are_packed(tmp_path):
    packed = oh.make_tensor("w", onnx.TensorProto.INT4, [3], np.array([1, -2, 3], np.int8))
    model = matmul(packed, [oh.make_node("Cast", ["w"], ["v"], to=1), oh.make_node("Mul", ["x", "v"], ["y"])])
    model.opset_import[0].version = 21
    import_model(save(model, tmp_path))
