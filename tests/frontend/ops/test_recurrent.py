"""LSTM, GRU and RNN against ONNX Runtime: directions, lengths, states, activations, open sizes."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_check import Case, Const, case, check_cases
from ort_case import by_runtime
from tvm import te, tirx

from onnxkiln.errors import ConversionError
from onnxkiln.frontend.recurrence import Layer, run_layer
from onnxkiln.schedules.generic import is_vectorized

RNG = np.random.default_rng(12)
TIME, BATCH, INPUT, HIDDEN = 5, 3, 4, 6
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def floats(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) * 0.7).astype(np.float32)


def layer(
    op_type: str, directions: int = 1, *, bias: bool = True, hidden: int = HIDDEN, **extra: object
) -> Case:
    gates, dims = GATES[op_type], extra.pop("dims", "fixed")
    inputs: list = [
        floats(TIME, BATCH, INPUT),
        Const(floats(directions, gates * hidden, INPUT)),
        Const(floats(directions, gates * hidden, hidden)),
        Const(floats(directions, 2 * gates * hidden)) if bias else None,
        np.array(extra.pop("lengths"), np.int32) if "lengths" in extra else None,
    ]
    if extra.pop("states", False):
        inputs += [floats(directions, BATCH, hidden) for _ in range(2 if op_type == "LSTM" else 1)]
    if extra.pop("peepholes", False):
        inputs += [None] * (7 - len(inputs)) + [Const(floats(directions, 3 * hidden))]
    direction = {"direction": "bidirectional"} if directions == 2 else {}
    outputs = 3 if op_type == "LSTM" else 2
    return by_runtime(case(op_type, *inputs, outputs=outputs, dims=dims, hidden_size=hidden, **{**direction, **extra}))


@pytest.mark.parametrize("dims", ["fixed", "open"])
@pytest.mark.parametrize("op_type", ["LSTM", "GRU", "RNN"])
def test_layers(op_type, dims):
    cases = [
        layer(op_type, dims=dims),
        layer(op_type, 2, states=True, dims=dims),
        layer(op_type, direction="reverse", lengths=[5, 2, 3], states=True, dims=dims),
        layer(op_type, 2, bias=False, lengths=[1, 5, 4], dims=dims),
    ]
    if dims == "fixed":
        cases.append(layer(op_type, clip=0.3))
    check_cases(cases, atol=1e-5)


def test_layers_wider_than_a_vector():
    """37 units: two vectors, and five that are left over."""
    cases = [layer(op_type, hidden=37, states=True, lengths=[5, 2, 3]) for op_type in GATES]
    cases.append(layer("GRU", hidden=37, linear_before_reset=1))
    cases += [layer("LSTM", hidden=131), layer("GRU", hidden=60)]  # several tiles of columns and a narrower one
    check_cases(cases, atol=1e-5)


@pytest.mark.parametrize("gates", GATES.values())
def test_no_long_loop_of_a_layer_is_left_scalar(gates):
    activations = [tirx.sigmoid, tirx.tanh, tirx.tanh] if gates == 4 else [tirx.sigmoid, tirx.tanh][-gates:]
    shapes = [(5, 2, gates * 32), (32 * gates * 32,), (32,), (96,), (2, 32), (2, 32)]
    inputs = [te.placeholder(shape, "float32") for shape in shapes] + [te.placeholder((2,), "int64")]
    function = te.create_prim_func([*inputs, *run_layer(Layer(gates, 32, False, activations), *inputs)])
    assert is_vectorized(function)


def test_variants():
    cases = [
        layer("LSTM", peepholes=True, states=True),
        layer("LSTM", 2, peepholes=True),
        layer("LSTM", input_forget=1),
        layer("LSTM", activations=["HardSigmoid", "Relu", "Softsign"]),
        layer("GRU", linear_before_reset=1, states=True),
        layer("GRU", 2, linear_before_reset=1),
        layer("GRU", activations=["Sigmoid", "ScaledTanh"], activation_alpha=[0.5], activation_beta=[0.3]),
        layer("RNN", 2, activations=["Relu", "LeakyRelu"], activation_alpha=[0.2]),
        layer("RNN", activations=["Affine"], activation_alpha=[0.4], activation_beta=[0.1]),
    ]
    check_cases(cases, atol=1e-5)


def test_batch_first():
    wanted = layer("LSTM")
    swapped = [wanted.inputs[0].transpose(1, 0, 2).copy(), *wanted.inputs[1:]]
    whole, hidden, cell = wanted.expected
    expected = [whole.transpose(2, 0, 1, 3), hidden.transpose(1, 0, 2), cell.transpose(1, 0, 2)]
    check_cases([case("LSTM", *swapped, outputs=3, hidden_size=HIDDEN, layout=1, expected=expected)], atol=1e-5)


def test_refusals():
    good = layer("GRU")
    wrong = [good.inputs[0], good.inputs[1], Const(floats(2, 3 * HIDDEN, HIDDEN))]
    with pytest.raises(ConversionError, match=r"recurrent weight has shape \[2, 18, 6\] for 1 direction"):
        check_cases([case("GRU", *wrong, outputs=2, expected=good.expected)])
    with pytest.raises(ConversionError, match="unknown activation 'Gelu'"):
        check_cases([case("RNN", *layer("RNN").inputs, outputs=2, activations=["Gelu"], expected=good.expected)])
