"""The tasks of a module: each kernel once, with its calls, its work and what it is measured with."""

import pytest
import tuning_cases as cases
from conv_cases import Conv
from pass_graphs import const, data, graph
from tvm import relax, tirx

from onnxkiln.contract import DimRange
from onnxkiln.tuning.sizes import SizedGraph, representative_sizes
from onnxkiln.tuning.tasks import tasks_of


def test_each_kernel_is_one_task_with_all_its_calls():
    tasks = cases.tasks(12, repeat=3)
    assert [(task.choices.template, task.calls) for task in tasks] == [("matmul", 1), ("matmul", 3)]
    assert len({task.workload for task in tasks}) == 2
    assert tasks[0].flops == 2 * 12 * 64 * 96 and tasks[1].flops == 2 * 12 * 96 * 96


def test_the_same_model_gives_the_same_tasks():
    assert [t.workload for t in cases.tasks("n")] == [t.workload for t in cases.tasks("m")]


def test_arguments_say_what_comes_from_the_weights_file():
    (first, _) = cases.tasks(12)
    (arguments,) = first.arguments
    assert [(a.shape, a.is_weight) for a in arguments] == [((12, 64), False), ((6, 64, 16), True), ((12, 96), False)]
    assert first.results == 1 and first.scales == (1.0,)
    assert first.nbytes == 4 * (12 * 64 + 6 * 64 * 16 + 12 * 96)


def test_an_open_batch_is_measured_with_one_and_with_several():
    (first, _) = cases.tasks("n")
    shapes = [[a.shape for a in arguments] for arguments in first.arguments]
    assert shapes == [[(1, 64), (6, 64, 16), (1, 96)], [(8, 64), (6, 64, 16), (8, 96)]]
    assert first.scales == (1.0, 1 / 8) and first.flops == 2 * 64 * 96


def test_ranges_say_the_sizes():
    contract = cases.contract_of(["n", 3, "h", "w"], n=DimRange(2, 4), h=DimRange(32, 100))
    assert representative_sizes(contract) == {"n": 2, "h": 100, "w": 224}
    assert representative_sizes(contract, many=True) == {"n": 4, "h": 100, "w": 224}
    assert representative_sizes(cases.contract_of(["n", "length"])) == {"n": 1, "length": 128}
    assert representative_sizes(cases.contract_of(["n", "length"], n=DimRange(0, 0))) == {"n": 1, "length": 128}


def test_functions_with_nothing_to_choose_are_no_tasks():
    mod, _ = cases.optimized(graph(lambda x: relax.op.nn.softmax(relax.op.add(x, const(data(7)))), ("n", 7)))
    assert tasks_of(mod, cases.HOST, cases.contract_of(["n", 7])) == []


def test_features_tell_candidates_apart():
    (first, _) = cases.tasks(12)
    features = {tuple(sorted(first.candidate_features(c, cases.HOST).items())) for c in first.choices.candidates}
    assert len(features) == len(first.choices.candidates)
    one = first.candidate_features({"tile": 5, "blocks": 2}, cases.HOST)
    assert one["useful"] == 12 / 15 and one["sums"] == 10 and one["p_tile"] == 5


@pytest.mark.parametrize("channels", [32, 256])
def test_winograd_is_an_algorithm_of_its_own_by_the_size_of_its_tiles(channels):
    case = Conv(channels, 64, (3, 3), padding=(1, 1, 1, 1))
    weight = case.weight()
    mod, _ = cases.optimized(graph(lambda x: case.op(x, weight), (1, channels, 24, 24)))
    (task,) = [t for t in tasks_of(mod, cases.HOST, cases.contract_of([1, channels, 24, 24])) if "conv2d" in t.text]
    assert task.choices.template == "winograd_conv2d"
    transformed = max(task.arguments[0], key=lambda argument: argument.is_weight).shape
    assert task.algorithm == f"winograd_f{transformed[0] - 2}" and transformed[0] == transformed[1]
    assert {t.algorithm for t in cases.tasks(12)} == {"direct"}


def test_an_unbounded_dim_is_large_enough_for_every_kernel_to_have_work():
    """A window of 200 samples fits into no 128."""
    case = Conv(32, 32, (1, 200))

    def network(x):
        rows = cases.emit(relax.op.permute_dims(cases.emit(relax.op.expand_dims(x, 1)), [0, 3, 1, 2]))
        return case.op(rows, case.weight())

    mod, _ = cases.optimized(graph(network, (1, "w", 32)))
    (task,) = tasks_of(mod, cases.HOST, cases.contract_of([1, "w", 32]))
    assert task.arguments[0][-1].shape == (1, 1, 256 - 199, 32)


def test_functions_that_are_called_have_the_sizes_of_their_calls():
    """The branches of an If are functions of their own, with dims of their own."""
    m, n = tirx.Var("m", "int64"), tirx.Var("n", "int64")
    builder = relax.BlockBuilder()
    inner = relax.Var("y", relax.TensorType((m, 64), "float32"))
    with builder.function("branch", [inner]):
        builder.emit_func_output(builder.emit(relax.op.nn.relu(inner)))
    x = relax.Var("x", relax.TensorType((n + 1, 64), "float32"))
    outer = relax.Var("z", relax.TensorType((n, 64), "float32"))
    with builder.function("main", [outer, x]):
        builder.emit_func_output(builder.emit(relax.Call(builder.get().get_global_var("branch"), [x])))
    contract = cases.contract_of(["n", 64], n=DimRange(1, 77))
    assert SizedGraph(builder.get(), contract).evaluate(m * 2) == 2 * (1 + 1)
    assert SizedGraph(builder.get(), contract, many=True).evaluate(m * 2) == 2 * (8 + 1)
