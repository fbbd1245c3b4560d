"""Shape arithmetic stays symbolic: the output's dims are expressions, and right at every size."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.parser import parse_model
from onnx_check import Compiled, check_model
from onnxruntime import InferenceSession

HEADER = '<ir_version: 8, opset_import: ["": 17]>'

DIMS = """
    zero = Constant<value_ints = [0]>()
    one = Constant<value_ints = [1]>()
    s = Shape(x)
    n = Gather(s, zero)
    m = Gather(s, one)
"""


def reshaping(lines: str) -> str:
    """A model that makes a tensor of ones of the shape that ``lines`` compute into ``shape``."""
    return f"{HEADER} g (float[n, m] x) => (float[p, q] y) {{ {DIMS} {lines} y = ConstantOfShape(shape) }}"


CASES = {
    "sums": "p = Add(n, m) q = Mul(n, m) shape = Concat<axis = 0>(p, q)",
    "quotients": """two = Constant<value_ints = [2]>() d = Div(m, two) r = Mod(m, two) e = Sub(d, r) z = Max(e, r)
        shape = Concat<axis = 0>(z, n)""",
    "half rounded down": """k = Constant<value_floats = [0.5]>() f = Cast<to = 1>(m) h = Mul(f, k) d = Floor(h)
        c = Cast<to = 7>(d) shape = Concat<axis = 0>(c, n)""",
    "half rounded up": """k = Constant<value_floats = [2.0]>() f = Cast<to = 1>(m) h = Div(f, k) d = Ceil(h)
        c = Cast<to = 7>(d) shape = Concat<axis = 0>(c, n)""",
    "third cut off": """k = Constant<value_floats = [3.0]>() f = Cast<to = 1>(m) h = Div(f, k) c = Cast<to = 7>(h)
        shape = Concat<axis = 0>(c, n)""",
    "scaled by three halves": """k = Constant<value_floats = [1.5]>() f = Cast<to = 1>(s) h = Mul(f, k) d = Floor(h)
        shape = Cast<to = 7>(d)""",
    "moved about": """t = Unsqueeze(s, zero) u = Squeeze(t, zero) back = Constant<value_ints = [-1]>()
        far = Constant<value_ints = [-9]>() shape = Slice(u, back, far, zero, back)""",
    "chosen": "never = Constant<value_ints = [-5]>() c = Less(s, never) shape = Where(c, never, s)",
}


@pytest.mark.parametrize("name", CASES)
def test_dims_are_expressions(name: str) -> None:
    model = parse_model(reshaping(CASES[name]))
    compiled = Compiled(model)
    script = compiled.imported.module["main"].script()
    assert "tensor_to_shape" not in script, "sizes are read from a tensor when the model runs"
    session = InferenceSession(model.SerializeToString())
    for n, m in [(1, 1), (2, 3), (5, 8), (7, 13), (4, 1)]:
        feeds = {"x": np.zeros((n, m), np.float32)}
        assert compiled(feeds)[0].shape == session.run(None, feeds)[0].shape


@pytest.mark.parametrize("scale", [0.7, 1 / 3, 1e-3])
def test_factors_that_floats_round_are_left_to_floats(scale: float) -> None:
    """0.7f * 10 is 7 in float32 and 6.99999988 exactly."""
    lines = f"""k = Constant<value_floats = [{scale}]>() f = Cast<to = 1>(s) h = Mul(f, k) d = Floor(h)
        shape = Cast<to = 7>(d)"""
    check_model(reshaping(lines), [{"x": np.zeros((n, m), np.float32)} for n, m in [(10, 20), (30, 3), (9, 1000)]])


def test_values_as_tensors() -> None:
    """Sizes that end up in data: whole, fractional, compared."""
    model = f"""{HEADER} g (float[n, m] x) => (float[2] half, int64[2] twice, bool[2] small, float[2] root) {{
        s = Shape(x)
        k = Constant<value_float = 0.25>()
        f = Cast<to = 1>(s)
        half = Mul(f, k)
        two = Constant<value_int = 2>()
        twice = Mul(s, two)
        three = Constant<value_int = 3>()
        small = Less(s, three)
        root = Sqrt(f)
    }}"""
    check_model(model, [{"x": np.zeros((n, m), np.float32)} for n, m in [(1, 7), (2, 3), (0, 5)]])
