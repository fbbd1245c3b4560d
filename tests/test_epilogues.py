"""Every activation, in the pieces that exporters write, is computed inside of the kernel in front of it."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from pass_graphs import operators

import onnxkiln
from onnxkiln import targets
from onnxkiln.artifacts.opening import OpenArtifact
from onnxkiln.compare import compare_all
from onnxkiln.frontend import import_model
from onnxkiln.passes.pipeline import Pipeline

NUMBERS = {
    "three": 3, "six": 6, "sixth": 1 / 6, "half": 0.5, "one": 1, "root": 2**0.5, "cubic": 0.044715,
    "tangent": 0.7978845608, "quick": 1.702, "zero": 0,
}  # fmt: skip
ACTIVATIONS = {
    "Relu": "Y = Relu (T)",
    "Relu6": "Y = Clip (T, zero, six)",
    "LeakyRelu": "Y = LeakyRelu <alpha = 0.1> (T)",
    "PRelu": "Y = PRelu (T, slope)",
    "Elu": "Y = Elu (T)",
    "Tanh": "Y = Tanh (T)",
    "Softplus": "Y = Softplus (T)",
    "HardSigmoid": "Y = HardSigmoid (T)",
    "HardSwish": "Y = HardSwish (T)",
    "HardSwish of PyTorch": "A = Add (T, three)  B = Clip (A, zero, six)  C = Mul (T, B)  Y = Div (C, six)",
    "HardSwish of PaddlePaddle": "A = Add (T, three)  B = Clip (A, zero, six)  C = Mul (T, B)  Y = Mul (C, sixth)",
    "HardSwish by HardSigmoid": "A = HardSigmoid <alpha = 0.1666667, beta = 0.5> (T)  Y = Mul (T, A)",
    "SiLU": "A = Sigmoid (T)  Y = Mul (T, A)",
    "QuickGelu": "A = Mul (T, quick)  B = Sigmoid (A)  Y = Mul (T, B)",
    "GELU": "Y = Gelu (T)",
    "GELU with tanh": 'Y = Gelu <approximate = "tanh"> (T)',
    "GELU in pieces": "A = Div (T, root)  B = Erf (A)  C = Add (B, one)  D = Mul (T, C)  Y = Mul (D, half)",
    "GELU with tanh in pieces": "A = Pow (T, three)  B = Mul (A, cubic)  C = Add (T, B)  D = Mul (C, tangent)"
    "  E = Tanh (D)  F = Add (E, one)  G = Mul (T, F)  Y = Mul (G, half)",
    "Mish": "Y = Mish (T)",
    "Mish in pieces": "A = Softplus (T)  B = Tanh (A)  Y = Mul (T, B)",
    "Mish in small pieces": "A = Exp (T)  B = Add (A, one)  C = Log (B)  D = Tanh (C)  Y = Mul (T, D)",
    "a residual": "A = Add (T, X)  Y = Relu (A)",
    "a scaled residual": "A = Mul (T, half)  B = Add (X, A)  Y = Relu (B)",
}
KERNELS = {
    "conv2d": ("1,16,9,7", "T = Conv (X, w, bias)", "16,16,1,1", "16,1,1"),
    "depthwise_conv2d": ("1,16,9,7", "T = Conv <group = 16, pads = [1,1,1,1]> (X, w, bias)", "16,1,3,3", "16,1,1"),
    "winograd_conv2d": ("1,32,21,19", "T = Conv <pads = [1,1,1,1]> (X, w, bias)", "32,32,3,3", "32,1,1"),
    "matmul": ("1,10,16", "M = MatMul (X, w)  T = Add (M, bias)", "16,16", "16"),
    "matmul of Gemm": ("10,16", "T = Gemm (X, w, bias)", "16,16", "16"),
}


def chain(kernel: str) -> onnx.ModelProto:
    """A layer for each activation, one after the other; each has weights of its own, and each result is an output."""
    shape, layer, weight, slope = KERNELS[kernel]
    lines, results = [], []
    for number, activation in enumerate(ACTIVATIONS.values()):
        known = {"X": f"y{number - 1}" if number else "x", "Y": f"y{number}"}
        names = re.compile(r"\b[A-GMTwXY]\b")
        text = names.sub(lambda found: known.get(found[0], f"{found[0]}{number}"), f"{layer}  {activation}")  # noqa: B023
        lines.append(text)
        results.append(f"float[{shape}] y{number}")
    weights = ", ".join(f"float[{weight}] w{number}" for number in range(len(ACTIVATIONS)))
    numbers = ", ".join(f"float {name} = {{{value}}}" for name, value in NUMBERS.items())
    model = onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["" : 20]>
        g (float[{shape}] x) => ({", ".join(results)})
        <{weights}, {numbers}, float[16] bias, float[{slope}] slope> {{ {" ".join(lines)} }}""".replace(
            "float[16] bias", f"float[{slope.split(',')[0]}] bias"
        )
    )
    data = np.random.default_rng(3)
    for value in model.graph.value_info:
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        spread = 1.5 / max(1.0, np.prod(dims[1:] if len(dims) == 4 else dims[:1])) ** 0.5
        array = (data.normal(size=dims) * (spread if len(dims) > 1 else 0.3)).astype("float32")
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
    del model.graph.value_info[:]
    return model


@pytest.mark.parametrize("kernel", KERNELS)
def test_each_layer_is_one_function(kernel: str, tmp_path) -> None:
    onnx.save(chain(kernel), tmp_path / "model.onnx")
    module = Pipeline("O2").optimize(import_model(tmp_path / "model.onnx").module, targets.parse("cpu:x86-64-v3")[0])
    called = [name for name in operators(module) if "transpose" not in name and "reshape" not in name]
    assert len(called) == len(ACTIVATIONS), called
    assert all(kernel.split(" ")[0] in name for name in called), called


def test_what_they_compute(tmp_path) -> None:
    model = chain("depthwise_conv2d")
    onnx.save(model, tmp_path / "model.onnx")
    artifact = onnxkiln.compile(tmp_path / "model.onnx", tmp_path / "artifact", include_runtime=False)
    with OpenArtifact(artifact) as opened:
        assert all(kernel.vectorized for kernel in opened.manifest.kernels)
    x = np.random.default_rng(4).normal(size=(1, 16, 9, 7)).astype("float32")
    with onnxkiln.load(artifact) as session:
        found = session.run(None, {"x": x})
    expected = ReferenceEvaluator(model).run(None, {"x": x})
    assert not [str(one) for one in compare_all(list(ACTIVATIONS), expected, found) if one.problem]
