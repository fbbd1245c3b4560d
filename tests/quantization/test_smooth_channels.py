"""Smoothed products compute the same; data with outlying channels loses less to rounding."""

import numpy as np
import onnx_ir as ir
from quantized_models import graph_model, node, noise, operators, rewritten, run

from onnxkiln.quantization.layer_noise import add_copies, add_up
from onnxkiln.quantization.parameters import Range, affine_of
from onnxkiln.quantization.plan import Selection, make_plan
from onnxkiln.quantization.smooth_channels import factors_of, smooth_channels, smoothable

OUTLIERS = np.array([1, 1, 80, 1, 0.01, 1], np.float32)
INPUT = noise(9, 6, seed=4) * OUTLIERS


def smoothed(model, data):
    """Rewritten with the magnitudes that the graph's own inputs have; returns how many values were smoothed."""

    def rewrite(changed: ir.Model) -> None:
        plan = make_plan(changed.graph, Selection(), carry=False)
        sizes = {value: data[value.name] for value in smoothable(plan)}
        factors = {value.name: factors_of(sizes[value], layers) for value, layers in smoothable(plan).items()}
        assert smooth_channels(changed.graph, plan, factors) == len(factors)

    return rewritten(model, rewrite)


def noise_of(model):
    noises = {}

    def rewrite(changed: ir.Model) -> None:
        plan = make_plan(changed.graph, Selection(), carry=False)
        values = {value.name: value for value in plan.values}
        (name,) = values
        (seen,) = run(with_output(model, name), {"x": INPUT})
        scales = {name: affine_of(Range(float(seen.min()), float(seen.max())))}
        noises.update(add_copies(changed, plan, scales))

    add_up(noises, run(rewritten(model, rewrite), {"x": INPUT}))
    return min(layer.decibels for layer in noises.values())


def with_output(model, name):
    if name == "x":
        name = "same"
        changed = ir.from_proto(model)
        changed.graph.append(
            ir.node(
                "Identity", [changed.graph.inputs[0]], outputs=[ir.Value(name=name, type=changed.graph.inputs[0].type)]
            )
        )
    else:
        changed = ir.from_proto(model)
    value = next(v for item in changed.graph for v in item.outputs if v.name == name)
    value.type = ir.TensorType(ir.DataType.FLOAT)
    changed.graph.outputs[:] = [value]
    return ir.to_proto(changed)


def test_a_product_is_the_same_and_rounds_better():
    nodes = [node("MatMul", "x w1", "a"), node("Gemm", "x w2 b", "c", transB=1), node("Concat", "a c", "y", axis=1)]
    constants = {"w1": noise(6, 4), "w2": noise(3, 6, seed=1), "b": noise(3)}
    model = graph_model(nodes, {"x": [9, 6]}, ["y"], constants)
    better = smoothed(model, {"x": np.abs(INPUT).max(axis=0)})
    assert operators(better) == ["Mul", "MatMul", "Gemm", "Concat"]
    np.testing.assert_allclose(run(better, {"x": INPUT})[0], run(model, {"x": INPUT})[0], rtol=1e-4, atol=1e-3)
    assert noise_of(better) > noise_of(model) + 3


def normalized(outputs):
    nodes = [node("LayerNormalization", "x g b", "h"), node("MatMul", "h w", "y")]
    constants = {"g": OUTLIERS, "b": noise(6), "w": noise(6, 4)}
    return graph_model(nodes, {"x": [9, 6]}, outputs, constants)


def test_factors_go_into_a_normalization_that_nothing_else_reads():
    model = normalized(["y"])
    (seen,) = run(with_output(model, "h"), {"x": noise(9, 6)})
    better = smoothed(model, {"h": np.abs(seen).max(axis=0)})
    assert operators(better) == ["LayerNormalization", "MatMul"]
    np.testing.assert_allclose(run(better, {"x": INPUT})[0], run(model, {"x": INPUT})[0], rtol=1e-4, atol=1e-4)
    kept = smoothed(normalized(["y", "h"]), {"h": np.abs(seen).max(axis=0)})
    assert operators(kept) == ["LayerNormalization", "Mul", "MatMul"]
    for found, expected in zip(run(kept, {"x": INPUT}), run(normalized(["y", "h"]), {"x": INPUT}), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_factors_of_silent_channels_are_finite():
    layer = next(iter(smoothable(make_plan(ir.from_proto(normalized(["y"])).graph, Selection(), carry=False)).values()))
    factors = factors_of(np.array([0, 1, 0, 5, 1e30, 1e-30]), layer)
    assert np.isfinite(factors).all()
    assert (factors > 0).all()
