"""Passes say why they did or didn't apply, in words that follow from the graph alone."""

from __future__ import annotations

import numpy as np
import pytest
from pass_graphs import const, data, graph
from tvm import relax

from onnxkiln import targets
from onnxkiln.passes.explanations import Explanations, explain, listening
from onnxkiln.passes.pipeline import Pipeline

O = relax.op  # noqa: E741


def explained(mod):
    """{(step, candidate): [(applied, reason)]} of the pipeline."""
    pipeline = Pipeline("O2")
    pipeline.optimize(mod, targets.parse("cpu:x86-64-v3")[0])
    found: dict[tuple[str, str], list[tuple[bool, str]]] = {}
    for said in pipeline.explanations.all():
        found.setdefault((said.step, said.candidate), []).append((said.applied, said.reason))
    return found


def test_the_same_words_are_counted_and_silence_costs_nothing() -> None:
    explain("a", "b", True, "nobody listens")
    said = Explanations()
    with listening(said, "step"):
        for _ in range(3):
            explain("conv", "Winograd", False, "too small")
        explain("conv", "Winograd", True, "large")
    explain("conv", "Winograd", True, "large")
    assert [(e.step, e.applied, e.times) for e in said.all()] == [("step", False, 3), ("step", True, 1)]


CONVOLUTIONS = {
    "applied": ((64, 64, 3, 3), {}, None),
    "a window of another size": ((64, 64, 1, 1), {}, "the window is 1x1, not 3x3"),
    "strides": ((64, 64, 3, 3), {"strides": (2, 2)}, "strides are [2, 2], dilations [1, 1], not 1"),
    "groups": ((64, 16, 3, 3), {"groups": 4}, "4 groups"),
    "few channels": ((8, 64, 3, 3), {}, "its transforms would cost more than they save for so few channels or pixels"),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_why_not_winograd(case: str) -> None:
    shape, window, reason = CONVOLUTIONS[case]
    found = explained(graph(lambda x: O.nn.conv2d(x, const(data(*shape)), padding=(1, 1), **window), (1, 64, 20, 20)))
    if reason is None:
        assert ("select_kernels", "winograd_conv2d") in found and ("select_kernels", "Winograd") not in found
    else:
        assert found["select_kernels", "Winograd"] == [(False, reason)]


def test_integer_weights_keep_their_exact_sums() -> None:
    weight = const(np.rint(data(64, 64, 3, 3) * 5).astype("float32"))
    found = explained(graph(lambda x: O.nn.conv2d(x, weight, padding=(1, 1)), (1, 64, 20, 20)))
    assert found["select_kernels", "Winograd"] == [(False, "the weights are integers, whose sums must be exact")]


def test_why_no_kernel_and_why_not_channels_last() -> None:
    found = explained(graph(O.nn.conv2d, (1, 8, 6, 6), (4, 8, 3, 3)))
    assert found["convert_layout", "channels-last"] == [(False, "its weights are computed at run time")]
    assert found["select_kernels", "a template's kernel"] == [(False, "the weights are computed at run time")]
    doubles = explained(graph(O.matmul, (3, 4), (4, 5), dtype="float64"))
    reason = "kernels take float32, or uint8 by int8, these are float64"
    assert doubles["select_kernels", "a template's kernel"] == [(False, reason)]


def test_why_a_scale_was_not_folded() -> None:
    def twice(x):
        y = O.nn.conv2d(x, const(data(4, 3, 3, 3)))
        return [O.multiply(y, const(np.float32(2))), O.nn.relu(y)]

    found = explained(graph(twice, (1, 3, 8, 8)))
    reason = "the convolution's result is read 2 times"
    assert found["fold_affine", "folded into the weights"] == [(False, reason)]


def test_why_two_functions_are_not_one() -> None:
    def chain(x):
        return O.nn.softmax(O.matmul(O.matmul(x, const(data(8, 8))), const(data(8, 8))))

    found = explained(graph(chain, (5, 8)))
    reasons = [reason for applied, reason in found["group", "one function"] if not applied]
    assert set(reasons) == {"each is a kernel or a reduction with a schedule of its own"}
    fused = explained(graph(lambda x: O.nn.relu(O.matmul(x, const(data(8, 8)))), (5, 8)))
    assert (True, "elementwise operators around one kernel, if any") in fused["group", "one function"]
