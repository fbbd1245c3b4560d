"""The graph that the whole pipeline makes of a small network, held against a text.

After a change that is meant: ``ONNXKILN_UPDATE_GOLDEN=1 pytest tests/passes/test_golden.py``, then read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from pass_graphs import const, emit, graph, operators
from tvm import relax

from onnxkiln import targets
from onnxkiln.passes.pipeline import Pipeline

O = relax.op  # noqa: E741
GOLDEN = Path(__file__).parent.parent / "golden"
TARGET = targets.parse("cpu:x86-64-v3")[0]


def ones(*shape: int) -> relax.Expr:
    return const(np.ones(shape, "float32"))


def residual_network(x: relax.Expr) -> relax.Expr:
    a = emit(O.nn.relu(O.multiply(O.nn.conv2d(x, ones(8, 3, 1, 1)), ones(8, 1, 1))))
    b = emit(O.nn.conv2d(a, ones(8, 1, 3, 3), padding=(1, 1, 1, 1), groups=8))
    pooled = O.mean(O.add(O.nn.conv2d(O.nn.relu(b), ones(8, 8, 1, 1)), a), [2, 3])
    return O.nn.softmax(O.add(O.matmul(pooled, ones(8, 10)), ones(10)), -1)


def attention(x: relax.Expr) -> relax.Expr:
    q, k, v = (emit(O.matmul(x, const(np.full((8, 8), value, "float32")))) for value in (1, 2, 3))
    shares = O.nn.softmax(O.matmul(q, O.permute_dims(k, [0, 2, 1])), -1)
    return O.nn.layer_norm(O.add(O.matmul(shares, v), x), ones(8), ones(8), [-1], 1e-5)


def line_network(x: relax.Expr) -> relax.Expr:
    y = emit(O.nn.relu(O.add(O.nn.conv1d(x, ones(8, 4, 3)), ones(1, 8, 1))))
    return O.sigmoid(O.nn.conv1d(y, ones(2, 8, 1)))


NETWORKS = {
    "residual_network": (residual_network, ("n", 3, "h", "w")),
    "attention": (attention, ("n", "s", 8)),
    "line_network": (line_network, ("n", 4, "w")),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_operators_after_the_pipeline(name: str) -> None:
    build, shape = NETWORKS[name]
    text = ""
    for level in ("O1", "O2"):
        found = operators(Pipeline(level).optimize(graph(build, shape), TARGET))
        text += f"{level}\n" + "".join(f"  {operator}\n" for operator in found)
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("ONNXKILN_UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()
