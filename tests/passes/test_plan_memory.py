"""Activations share buffers when they are never alive at once, and their memory is known before anything runs."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from pass_graphs import const, data, graph
from tvm import relax

from onnxkiln import targets
from onnxkiln.passes.pipeline import Pipeline
from onnxkiln.passes.plan_memory import activation_bytes

O = relax.op  # noqa: E741


def optimized(function, *shapes):
    return Pipeline("O1").optimize(graph(function, *shapes), targets.parse("cpu:x86-64-v3")[0])


def chain(length):
    """Softmax cannot be fused with itself: ``length`` tensors one after the other."""

    def run(x):
        for _ in range(length):
            x = O.nn.softmax(x)
        return x

    return run


@pytest.mark.parametrize("length", [3, 4, 9])
def test_a_chain_needs_two_buffers_and_its_output_however_long_it_is(length: int) -> None:
    assert activation_bytes(optimized(chain(length), (8, 100)), [[8, 100]]) == 3 * 8 * 100 * 4


def test_open_sizes_share_buffers_too_and_give_a_formula() -> None:
    formula = activation_bytes(optimized(chain(9), ("n", 100)), [["batch.size", 100]])
    assert isinstance(formula, str)
    assert eval(formula.replace("batch.size", "7")) == 3 * 7 * 100 * 4


def test_what_is_alive_at_once_is_counted_at_once() -> None:
    def diamond(x):
        y = O.nn.softmax(x)
        return O.matmul(O.nn.softmax(y), O.permute_dims(y))

    # y, its softmax, its transpose, and the product: the buffer of y is free by then, but outputs have their own.
    assert activation_bytes(optimized(diamond, (16, 16)), [[16, 16]]) == 4 * 1024


def test_no_activations_and_sizes_that_are_computed() -> None:
    assert activation_bytes(optimized(lambda x: x, (4,)), [[4]]) in (0, 16)  # an output that is an input is copied
    assert activation_bytes(optimized(lambda x: O.matmul(x, const(data(4, 4))), ("n", 4)), [[None, 4]]) is None


def test_the_plan_is_what_runs(tmp_path) -> None:
    """The planned buffers, allocated by the virtual machine, give the chain's numbers."""
    from onnxkiln.passes.lower import build
    from onnxkiln.passes.schedule_functions import schedule_functions

    machine = targets.parse("cpu")[0]
    mod = Pipeline("O1").optimize(graph(chain(5), ("n", 13)), machine)
    executable = build(schedule_functions(mod, machine)[0], machine)
    x = data(7, 13)
    expected = x
    for _ in range(5):
        expected = np.exp(expected) / np.exp(expected).sum(-1, keepdims=True)
    found = relax.VirtualMachine(executable, tvm.cpu())["main"](tvm.runtime.tensor(x))
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=1e-5)
