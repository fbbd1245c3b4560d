"""Functions that take no schedule keep their loops and say why."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx_check import Const, case
from tvm import tirx

from onnxkiln.frontend import import_model
from onnxkiln.schedules.template import schedule_function
from onnxkiln.targets import parse


def functions_of(node, tmp_path) -> list[tirx.PrimFunc]:
    from onnx_check import joined

    onnx.save(joined([node], 20)[0], tmp_path / "model.onnx")
    module = import_model(tmp_path / "model.onnx").module
    return [function for function in module.functions.values() if isinstance(function, tirx.PrimFunc)]


X = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (case("TopK", X, Const(np.array([2])), outputs=2), "written as loops"),
        (case("ScatterND", X, np.array([[1]]), X[:1]), "written as loops"),
        (case("Tile", X, Const(np.array([0, 2]))), "no elements"),
    ],
)
def test_reason(node, reason, tmp_path):
    (function,) = functions_of(node, tmp_path)
    result = schedule_function(function, parse("cpu:x86-64-v3")[0])
    assert result.reason == reason and result.template is None and result.function.same_as(function)
