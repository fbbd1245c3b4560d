"""Reshape, Flatten, Squeeze, Unsqueeze, Shape and Size, with shapes known when compiling and when running."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx.parser import parse_model
from onnx_check import Compiled, Const, case, check_cases, check_model

import onnxkiln
from onnxkiln.errors import KilnError

HEADER = '<ir_version: 8, opset_import: ["": 17]>'


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize("dims", ["fixed", "first"])
@pytest.mark.parametrize("known", [True, False])
def test_reshape(dims: str, known: bool) -> None:
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    targets = [ints(6, 4), ints(0, -1), ints(-1), ints(2, 0, 2, 2), ints(4, 3, 2, 1), ints(0, 0, 0)]
    if not known:
        targets = [target for target in targets if 0 not in target]  # run-time dims of 0 are sizes
    cases = [case("Reshape", x, Const(target) if known else target, dims=dims) for target in targets]
    empty = np.zeros((0, 3), np.float32)
    cases.append(case("Reshape", empty, Const(ints(3, 0)), dims=dims, allowzero=1))
    check_cases(cases)


@pytest.mark.parametrize("dims", ["fixed", "first"])
def test_others(dims: str) -> None:
    x = np.arange(6, dtype=np.int32).reshape(1, 6, 1)
    check_cases(
        [
            *(case("Flatten", x, axis=axis, dims=dims) for axis in (0, 1, 2, 3, -1)),
            case("Squeeze", x, Const(ints(0, 2)), dims=dims),
            case("Squeeze", x, Const(ints(-1)), dims=dims),
            case("Unsqueeze", x, Const(ints(0, -1)), dims=dims),
            case("Unsqueeze", x, Const(ints(2)), dims=dims),
            case("Shape", x, dims=dims),
            case("Shape", x, start=1, end=-1, dims=dims),
            case("Size", x, dims=dims),
            case("Identity", x, dims=dims),
        ]
    )


@pytest.mark.parametrize("dims", ["fixed", "first"])
def test_axes_known_when_running(dims: str) -> None:
    x = np.arange(6, dtype=np.int32).reshape(1, 6, 1)
    empty = np.zeros((0, 1), np.float32)
    check_cases(
        [
            *(case("Squeeze", x, ints(*axes), dims=dims) for axes in ((0,), (-1, 0), (2,))),
            *(case("Unsqueeze", x, ints(*axes), dims=dims) for axes in ((0,), (4, 1), (-1, 0, 2))),
            case("Unsqueeze", np.float32(7), ints(0), dims=dims),
            case("Squeeze", np.ones((1, 1), np.float32), ints(1, 0), dims=dims),
            case("Unsqueeze", empty, ints(-2), dims=dims),
            case("Squeeze", empty, ints(1), dims=dims),
        ]
    )


@pytest.mark.parametrize(
    ("op_type", "axes"), [("Squeeze", [1]), ("Squeeze", [3]), ("Unsqueeze", [4]), ("Unsqueeze", [-5]), ("Both", [1, 1])]
)
def test_impossible_axes_end_the_run(op_type: str, axes: list[int]) -> None:
    for name in ("Squeeze", "Unsqueeze") if op_type == "Both" else (op_type,):
        text = f"""{HEADER} g (float[1, 6, 1] x, int64[{len(axes)}] axes) => (float[] z) {{ z = {name}(x, axes) }}"""
        model = parse_model(text)
        model.graph.output[0].type.tensor_type.ClearField("shape")
        compiled = Compiled(model)
        with pytest.raises(Exception, match=r"(?i)shape|match|dim"):
            compiled({"x": np.zeros((1, 6, 1), np.float32), "axes": np.array(axes, np.int64)})


def test_axes_as_attributes() -> None:
    x = np.zeros((1, 2, 1, 3), np.float32)
    squeezed, unsqueezed = np.zeros((2, 3), np.float32), np.zeros((1, 1, 2, 1, 3, 1), np.float32)
    cases = [case("Squeeze", x, axes=[0, 2], expected=squeezed), case("Unsqueeze", x, axes=[0, 5], expected=unsqueezed)]
    check_cases(cases, opset=11)


def test_inferred_dim_beside_a_size_of_0() -> None:
    """The divisor of what is left over can be 0 when the model runs: no trap."""
    text = f"""{HEADER} g (float[n, m, 6] x) => (float[p, q] z) {{
        s = Shape(x)
        zero = Constant<value_ints = [0]>()
        one = Constant<value_ints = [1]>()
        n = Gather(s, zero)
        m = Gather(s, one)
        sum = Add(n, m)
        rest = Constant<value_ints = [-1]>()
        t = Concat<axis = 0>(sum, rest)
        z = Reshape(x, t)
    }}"""
    compiled = Compiled(parse_model(text))
    assert compiled({"x": np.zeros((2, 2, 6), np.float32)})[0].shape == (4, 6)
    assert compiled({"x": np.zeros((0, 0, 6), np.float32)})[0].size == 0
    with pytest.raises(Exception, match=r"(?i)shape|match|dim"):
        compiled({"x": np.zeros((1, 4, 6), np.float32)})


def test_sizes_cancel() -> None:
    text = f"""{HEADER} g (float[n, m, 6] x) => (float[p, 3, q] z) {{
        s = Shape(x)
        zero = Constant<value_ints = [0]>()
        n = Gather(s, zero)
        rest = Constant<value_ints = [3, -1]>()
        t = Concat<axis = 0>(n, rest)
        z = Reshape(x, t)
    }}"""
    check_model(text, [{"x": np.arange(n * m * 6, dtype=np.float32).reshape(n, m, 6)} for n, m in [(1, 1), (2, 5)]])


def test_squeeze_of_all_axes_keeps_an_open_dim_and_refuses_1_there() -> None:
    """ONNX would drop it, and the result would have another rank."""
    text = HEADER + "g (float[n, 1, 2] x) => (float[n, 2] y) { y = Squeeze(x) }"
    compiled = Compiled(parse_model(text))
    assert compiled({"x": np.ones((3, 1, 2), np.float32)})[0].shape == (3, 2)
    with pytest.raises(Exception, match=r"(?i)shape|match|dim"):
        compiled({"x": np.ones((1, 1, 2), np.float32)})
    fixed = Compiled(parse_model(text), {"x": [1, 1, 2]})
    assert fixed({"x": np.ones((1, 1, 2), np.float32)})[0].shape == (2,)


def test_an_open_dim_that_is_0_in_a_new_shape_is_refused_with_words(tmp_path: Path) -> None:
    """ONNX reads it as "the size of the input": the two differ where the dims have changed places."""
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 20]>
        g (float[n, m] x) => (float[a, b] y, float[c, d] same) {
            s = Shape (x)
            zero = Constant <value_ints = [0]> ()
            minus = Constant <value_ints = [-1]> ()
            n1 = Gather (s, zero)
            swapped = Concat <axis = 0> (minus, n1)
            y = Reshape (x, swapped)
            same = Reshape (x, s)
        }"""
    )
    onnx.save(model, tmp_path / "model.onnx")
    with onnxkiln.load(onnxkiln.compile(tmp_path / "model.onnx", tmp_path / "artifact")) as session:
        assert [y.shape for y in session.run(None, {"x": np.ones((2, 6), np.float32)})] == [(6, 2), (2, 6)]
        with pytest.raises(KilnError, match="'the size of the input'"):
            session.run(None, {"x": np.ones((0, 6), np.float32)})
