"""What a tuner may choose: every candidate computes the same, on sizes that no tile divides, fixed and open."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from conv_cases import Conv
from pass_graphs import const, data, emit, graph
from tvm import relax, tirx

from onnxkiln import targets
from onnxkiln.passes.lower import build
from onnxkiln.passes.pipeline import Pipeline
from onnxkiln.passes.schedule_functions import schedule_functions
from onnxkiln.schedules import conv2d
from onnxkiln.schedules.choices import Choices, choices_of
from onnxkiln.schedules.retile import retile
from onnxkiln.schedules.template import schedule_function, schedule_with, templates

O = relax.op  # noqa: E741
HOST = targets.parse("cpu")[0]
STRIDED = Conv(5, 34, (3, 3), strides=(2, 2), padding=(1, 1, 1, 1))
PLAIN = Conv(4, 20, (1, 2))
DEPTHWISE = Conv(20, 20, (3, 3), padding=(1, 1, 1, 1), groups=20)
WINOGRAD = Conv(32, 64, (3, 3), padding=(1, 1, 1, 1))
CONVOLUTIONS = (STRIDED, PLAIN, DEPTHWISE, WINOGRAD)
ACROSS_ROWS = Conv(6, 32, (3, 3), strides=(2, 2), padding=(1, 1, 1, 1))
SAMPLE = 3
"""Candidates of each kernel that the test compiles, spread over all."""


def network(width: int | str) -> tuple[tvm.IRModule, list[np.ndarray]]:
    weights = [case.weight() for case in CONVOLUTIONS]
    deep, bias = data(300, 40), data(40)

    def layers(*inputs: relax.Expr) -> list[relax.Expr]:
        *images, rows, left, right = inputs
        results = [O.nn.relu(case.op(x, w)) for case, x, w in zip(CONVOLUTIONS, images, weights, strict=True)]
        product = emit(O.add(O.matmul(rows, const(deep)), const(bias)))
        return [*results, product, O.matmul(left, right)]

    images = [(1, case.channels, 15, width) for case in CONVOLUTIONS]
    others = [(2, width, 300), (2, width, 24), (2, 24, 33)]
    return graph(layers, *images, *others), [*weights, deep, bias]


def answers(arrays: list[np.ndarray], constants: list[np.ndarray]) -> list[np.ndarray]:
    *weights, deep, bias = constants
    images, (rows, left, right) = arrays[:-3], arrays[-3:]
    convolved = [case.reference(x, w) for case, x, w in zip(CONVOLUTIONS, images, weights, strict=True)]
    return [*(np.maximum(y, 0) for y in convolved), rows @ deep + bias, left @ right]


def choices_in(mod: tvm.IRModule, target: targets.Target = HOST) -> dict[str, Choices]:
    functions = {gv.name_hint: f for gv, f in mod.functions.items() if isinstance(f, tirx.PrimFunc)}
    found = {name: choices_of(function, target) for name, function in functions.items()}
    return {name: choices for name, choices in found.items() if choices is not None}


@pytest.mark.parametrize("width", [13, "w"])
def test_every_choice_computes_the_same(width: int | str) -> None:
    mod, constants = network(width)
    pipeline = Pipeline("O2")
    optimized = pipeline.optimize(mod, HOST)
    choices = choices_in(optimized)
    tuned = {c.template for c in choices.values() if len(c.candidates) > 1}
    assert tuned >= {"conv2d", "depthwise_conv2d", "matmul", "batch_matmul"}
    for step in range(SAMPLE):
        chosen = {name: c.candidates[step * (len(c.candidates) - 1) // (SAMPLE - 1)] for name, c in choices.items()}
        scheduled, reports = schedule_functions(optimized, HOST, parameters=chosen)
        assert {r.name: r.parameters for r in reports if r.name in chosen} == {k: dict(v) for k, v in chosen.items()}
        assert not any(report.reason for report in reports if report.name in chosen)
        machine = relax.VirtualMachine(build(pipeline.finish(scheduled, HOST), HOST), tvm.cpu())
        for size in (width,) if isinstance(width, int) else (13, 32):
            shapes = [(1, case.channels, 15, size) for case in CONVOLUTIONS]
            shapes += [(2, size, 300), (2, size, 24), (2, 24, 33)]
            arrays = [data(*shape) for shape in shapes]
            results = machine["main"](*[tvm.runtime.tensor(array) for array in arrays])
            for got, want in zip(results, answers(arrays, constants), strict=True):
                np.testing.assert_allclose(got.numpy(), want, rtol=1e-3, atol=1e-3, err_msg=str(chosen))


def test_the_default_is_the_first_candidate_and_each_stands_there_once() -> None:
    for name in ("cpu:x86-64-v3", "cpu:x86-64-v4"):
        target = targets.parse(name)[0]
        mod = Pipeline("O2").optimize(network(31)[0], target)
        for choices in choices_in(mod, target).values():
            assert choices.candidates[0] == choices.default
            assert len({tuple(sorted(c.items())) for c in choices.candidates}) == len(choices.candidates)


@pytest.mark.parametrize("width", [31, "w"])
def test_a_default_given_as_parameters_is_the_default_schedule(width: int | str) -> None:
    mod = Pipeline("O2").optimize(network(width)[0], HOST)
    for name, choices in choices_in(mod).items():
        function = mod[name]
        alone, given = schedule_function(function, HOST), schedule_with(function, HOST, choices.default)
        tvm.ir.assert_structural_equal(alone.function, given.function)


def test_parameters_that_do_not_fit_leave_the_default_and_say_so() -> None:
    mod = Pipeline("O2").optimize(network(31)[0], HOST)
    function = next(mod[name] for name, choices in choices_in(mod).items() if choices.template == "matmul")
    for parameters in ({"tile": 4}, {"tile": 4, "blocks": "three"}):
        scheduled = schedule_function(function, HOST, parameters)
        assert scheduled.template == "matmul" and "chosen parameters failed" in scheduled.reason
        tvm.ir.assert_structural_equal(scheduled.function, schedule_function(function, HOST).function)


def test_functions_without_a_tile_are_refused() -> None:
    mod = Pipeline("O2").optimize(network(31)[0], HOST)
    winograd = next(mod[name] for name, choices in choices_in(mod).items() if choices.template == "winograd_conv2d")
    with pytest.raises(ValueError, match="no tile"):
        retile(winograd, 3)


def test_templates_have_versions() -> None:
    assert all(isinstance(template.version, int) for template in templates().values())


def test_tiles_across_rows_are_changed_as_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conv2d, "FLAT_GAIN", 0.0)
    weight, x = ACROSS_ROWS.weight(), data(2, 6, 13, 9)
    pipeline = Pipeline("O2")
    optimized = pipeline.optimize(graph(lambda x: O.nn.relu(ACROSS_ROWS.op(x, weight)), x.shape), HOST)
    ((name, choices),) = ((name, c) for name, c in choices_in(optimized).items() if c.template == "conv2d")
    assert {c["tile"] for c in choices.candidates} >= {5, 7, 9, 12}  # of 35 pixels, not of a row's 5
    for tile in (4, 9):
        scheduled, _ = schedule_functions(optimized, HOST, parameters={name: {"tile": tile, "blocks": 2}})
        machine = relax.VirtualMachine(build(pipeline.finish(scheduled, HOST), HOST), tvm.cpu())
        got = machine["main"](tvm.runtime.tensor(x))[0].numpy()
        np.testing.assert_allclose(got, np.maximum(ACROSS_ROWS.reference(x, weight), 0), rtol=1e-3, atol=1e-3)
