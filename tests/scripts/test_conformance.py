"""The conformance suite: a slice of ONNX's tests over all families, and the suite's own logic."""

import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import onnx.backend.base
import onnx.backend.test.runner
import pytest
from source_tree import ROOT

from conformance_check import one_case, server
from conformance_check.cases import Case, load_cases
from conformance_check.engines import Engine, NotSupported, Prepared, Refused
from conformance_check.external import ExternalFunctions
from conformance_check.report import format_failures, format_summary, summarise

SLICE = (
    "abs|add_bcast|and_bcast3v1d|argmax_keepdims_example_select_last_index|averagepool_2d_ceil|batchnorm_example|"
    "bitshift_left_uint8|cast_BFLOAT16_to_FLOAT|cast_FLOAT16_to_DOUBLE|ceil|clip_default_int8_inbounds|compress_0|"
    "constantofshape_int_shape_zero|conv_with_autopad_same|convtranspose_pads|cumsum_2d_negative_axis|"
    "einsum_batch_matmul|expand_dim_unchanged|gather_elements_1|gathernd_example_int32_batch_dim1|"
    "gemm_all_attributes|gru_seq_length|instancenorm_example|isinf_float16|layer_normalization_4d_axis2|"
    "logsoftmax_axis_1|lstm_with_peepholes|matmul_bcast|maxpool_2d_dilations|mod_mixed_sign_int8|"
    "nonmaxsuppression_two_batches|nonzero_example|onehot_with_axis|pow_types_float32_int64|"
    "reduce_l2_keep_dims_random|reduce_log_sum_exp_empty_set|reduce_min_empty_set|reshape_zero_and_negative_dim|"
    "resize_upsample_scales_linear|"
    "reversesequence_time|rnn_seq_length|roialign_aligned_false|scatternd_add|shape_start_1|simple_rnn_batchwise|"
    "slice_neg_steps|softmax_large_number|split_equal_parts_2d|tile|top_k|transpose_all_permutations_4|"
    "where_long_example|AvgPool1d_stride|operator_add_broadcast|single_relu_model"
)


def test_a_slice_of_all_families_passes():
    only = f"^test_({SLICE})$"
    command = [sys.executable, str(ROOT / "scripts" / "conformance.py"), "--only", only, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert [result for result in found["results"] if result["outcome"] != "passed"] == []
    assert (found["tests"], found["external"], done.returncode) == (SLICE.count("|") + 1, {}, 0)


@pytest.fixture(scope="module")
def cases():
    return {case.name: case for case in load_cases()}


def test_every_test_of_onnx_is_there(cases):
    runner = onnx.backend.test.runner.Runner(onnx.backend.base.Backend)
    theirs = {name.removesuffix("_cpu") for items in runner._test_items.values() for name in items if "_cpu" in name}
    assert set(cases) == theirs
    if onnx.__version__ == "1.23.2":
        assert len(cases) == 2033


@pytest.mark.parametrize("name", ["test_relu", "test_AvgPool1d", "test_single_relu_model", "test_squeezenet"])
def test_each_kind_of_test_has_inputs_and_expected_outputs(cases, name):
    case = cases[name]
    ((inputs, outputs),) = case.data_sets(case.model())
    assert inputs[0].dtype == outputs[0].dtype == np.float32


def test_lists_and_absent_values_are_read(cases):
    case = cases["test_sequence_model6"]
    ((_, outputs),) = case.data_sets(case.model())
    assert all(isinstance(item, np.ndarray) for item in outputs)
    case = cases["test_optional_has_element_empty_optional_input"]
    ((inputs, _),) = case.data_sets(case.model())
    assert inputs == [None]


class FakeEngine(Engine):
    """Does with the model what the test says."""

    def __init__(self, behave):
        self.behave = behave

    def prepare(self, model, folder):
        return FakeModel(self.behave)


class FakeModel(Prepared):
    def __init__(self, behave):
        self.behave = behave

    def run(self, feeds):
        return [self.behave(value) for value in feeds.values()]


def fail(error):
    raise error


BEHAVIOURS = {
    "passed": lambda x: np.maximum(x, 0),
    "wrong answer": lambda x: x,
    "unsupported operator": lambda x: fail(NotSupported("Relu")),
    "refused": lambda x: fail(Refused("not today")),
    "error": lambda x: fail(KeyError("x")),
    "crash": lambda x: os.kill(os.getpid(), signal.SIGKILL),
    "time-out": lambda x: time.sleep(60),
}


@pytest.mark.parametrize(("outcome", "behave"), BEHAVIOURS.items())
def test_outcomes(cases, outcome, behave):
    engine = FakeEngine(behave)
    work = lambda case: one_case.run_case(engine, case)  # noqa: E731
    limit = 0.3 if outcome == "time-out" else 30
    (result,) = server.run_all([cases["test_relu"]], work, jobs=2, limit_s=limit)
    assert (result["outcome"], result["operators"]) == (outcome, ["Relu"])
    assert result["reason"] or outcome == "passed"


@pytest.mark.parametrize(
    "change",
    [
        lambda y: y.astype(np.float64),
        lambda y: y[None],
        lambda y: y.astype(np.float32) * 1.01,
        lambda y: [y],
        lambda y: None,
    ],
    ids=["dtype", "shape", "value", "list", "nothing"],
)
def test_comparison_is_strict(cases, change):
    engine = FakeEngine(lambda x: change(np.maximum(x, 0)))
    assert one_case.run_case(engine, cases["test_relu"])["outcome"] == "wrong answer"


def test_lists_are_compared_by_element():
    case = Case("test_lists", "node", SimpleNamespace(rtol=1e-3, atol=1e-7))
    value = [[np.array(1.0), np.ones(3)], None]
    one_case._compare(value, [[np.array(1.0), np.ones(3)], None], case)
    for other in ([[np.array(1.0)], None], [[np.array(1.0), np.zeros(3)], None], [value[0], np.ones(1)], [value[0]]):
        with pytest.raises(AssertionError):
            one_case._compare(value, other, case)


def test_a_child_that_is_given_up_takes_its_own_children_along(tmp_path):
    mark = tmp_path / "alive"

    def work(case):
        subprocess.run(["sh", "-c", f"sleep 1; touch {mark}"])

    case = Case("test_slow", "node", None)
    children = server.run_all([case], work, jobs=1, limit_s=0.2)
    with pytest.raises(AttributeError):  # this case has no model to name an operator of
        next(children)
    time.sleep(1.2)
    assert not mark.exists()


def result(name, outcome, **changes):
    about = {"name": name, "operators": ["Relu"], "outcome": outcome}
    return {**about, "reason": "why", "seconds": 1.0, "external": [], **changes}


def test_the_report_counts_and_lists():
    results = [
        result("test_a", "passed", external=["tvm.sort"]),
        result("test_b", "refused"),
        result("test_c", "crash", operators=["Add"]),
        result("test_d", "refused"),
    ]
    found = summarise(results)
    assert found["tests"] == 4 and found["outcomes"]["refused"] == 2 and found["external"] == {"tvm.sort": 1}
    assert "1 passed" in format_summary(results) and "external functions: 1 (tvm.sort (1))" in format_summary(results)
    text = format_failures(results)
    assert text.index("## Relu: 2 refused") < text.index("## Add: 1 crash")
    assert "- test_b: refused: why" in text and "test_a" not in text


def test_a_function_of_python_is_seen(tmp_path):
    from tvm import relax
    from tvm.script import ir as I
    from tvm.script import relax as R

    @I.ir_module
    class Calls:
        @R.function
        def main(x: R.Tensor((3,), "float32")):
            return R.call_dps_packed("conformance.python", (x,), out_ty=R.Tensor((3,), "float32"))

    @I.ir_module
    class Plain:
        @R.function
        def main(x: R.Tensor((3,), "float32")):
            return R.add(x, x)

    functions = ExternalFunctions()
    for name, module, expected in [("calls.so", Calls, ["conformance.python"]), ("plain.so", Plain, [])]:
        relax.build(module, "llvm").export_library(str(tmp_path / name))
        assert functions.of(tmp_path, name) == expected
