"""The tuner as a whole: real kernels in real workers, faults among them, and what a log spares."""

import json
from dataclasses import replace

import faulty_builder
import numpy as np
import pytest
import tuning_cases as cases
import tvm
from pass_graphs import data
from tvm import relax

from onnxkiln import targets
from onnxkiln.errors import UsageError
from onnxkiln.passes.lower import build
from onnxkiln.passes.pipeline import Pipeline
from onnxkiln.passes.schedule_functions import schedule_functions
from onnxkiln.tuner import Tuning, tune_module
from onnxkiln.tuning import session as session_module
from onnxkiln.tuning.budget import Budget
from onnxkiln.tuning.log import TuningLog
from onnxkiln.tuning.machine import machine_key


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Tests ask what is measured, never how long it takes."""
    monkeypatch.setattr(session_module, "MEASURE_SECONDS", 0.01)


CONTRACT = cases.contract_of([12, 64])


@pytest.fixture
def log(tmp_path):
    with TuningLog.open(tmp_path / "log.sqlite", shipped=False) as opened:
        yield opened


def tuned(log, trials=None, mod=None, **options):
    mod, weights = cases.optimized(mod if mod is not None else cases.layers(12))
    budget = None if trials is None else Budget(trials=trials)
    return mod, tune_module(mod, cases.HOST, CONTRACT, weights, Tuning(log, budget, **options))


def test_measurements_go_to_the_log_and_spare_the_next_build_all_of_them(log):
    seen = []
    _, first = tuned(log, 6, observer=lambda snapshot: seen.append((snapshot.measurements, len(log))))
    assert first.measurements == 6 and first.log_hits == 0
    assert seen == [(count, count) for count in range(7)]  # on disk before anything else happens
    assert {one.source for one in first.chosen} == {"exact"}
    _, second = tuned(log, 6)
    assert second.measurements == 0 and second.log_hits == len(second.chosen) == 2
    assert second.parameters == first.parameters


def test_a_search_goes_on_where_it_was_left(log):
    _, first = tuned(log, 4)
    tried = {(r.workload, r.candidate) for r in log.records()}
    _, again = tuned(log, 4, again=True)
    assert (first.measurements, again.measurements) == (4, 4)
    assert again.log_hits == 2 and len(log) == 8
    assert len({(r.workload, r.candidate) for r in log.records()}) > len(tried)


def test_the_same_seed_tries_the_same_candidates(tmp_path):
    orders = []
    for number in range(2):
        with TuningLog.open(tmp_path / f"{number}.sqlite", shipped=False) as log:
            tuned(log, 6, seed=5, mod=cases.layers(12, repeat=0))
            orders.append(list(dict.fromkeys(record.candidate for record in log.records()))[:5])
    assert orders[0] == orders[1]


def test_the_chosen_parameters_compute_what_the_defaults_do(log):
    mod, found = tuned(log, 8)
    other = {
        name: one.task.choices.candidates[-1] for one in found.chosen for name in one.task.functions
    }  # certainly not the default
    arrays = [data(12, 64), *(array for _, array in cases.optimized(cases.layers(12))[1])]
    results = []
    for parameters in (None, found.parameters, other):
        scheduled, reports = schedule_functions(mod, cases.HOST, parameters=parameters)
        assert not any(report.reason for report in reports if report.name in (parameters or {}))
        machine = relax.VirtualMachine(build(Pipeline("O2").finish(scheduled, cases.HOST), cases.HOST), tvm.cpu())
        tensors = [tvm.runtime.tensor(array) for array in arrays]
        results.append(machine["main"](tensors[0], tensors[1:])[0].numpy())
    np.testing.assert_allclose(results[1], results[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(results[2], results[0], rtol=1e-4, atol=1e-5)


def test_faulty_candidates_are_recorded_and_never_chosen(log, monkeypatch):
    (task,) = cases.tasks(6, repeat=0)
    names = [faulty_builder.name_of(one) for one in task.choices.candidates]
    faults = dict(zip(names[1:5], ("crash", "hang", "nothing", "refuse"), strict=True))
    monkeypatch.setenv("FAULTS", json.dumps(faults))
    monkeypatch.setattr(session_module, "RUN_LIMIT", 5.0)
    monkeypatch.setattr("onnxkiln.tuner.ranked", lambda task, *_: task.choices.candidates)
    _, found = tuned(log, 8, mod=cases.layers(6, repeat=0), builder=faulty_builder.HANDLER)
    statuses = {}
    for record in log.records():
        statuses.setdefault(faulty_builder.name_of(record.parameters), set()).add(record.status)
        assert bool(record.error) == (record.status != "ok")
    words = {"crash": "crash", "hang": "timeout", "nothing": "wrong", "refuse": "error"}
    assert set(statuses) >= set(faults)
    assert statuses == {name: {words[faults[name]]} if name in faults else {"ok"} for name in statuses}
    assert faulty_builder.name_of(found.chosen[0].parameters) not in faults


def test_a_default_that_fails_leaves_the_kernel_as_it_is(log, monkeypatch):
    (task,) = cases.tasks(6, repeat=0)
    monkeypatch.setenv("FAULTS", json.dumps({faulty_builder.name_of(task.choices.default): "refuse"}))
    _, found = tuned(log, 50, mod=cases.layers(6, repeat=0), builder=faulty_builder.HANDLER)
    assert found.parameters == {} and [one.source for one in found.chosen] == ["default"]
    assert {record.status for record in log.records()} == {"error"}


def test_records_of_the_class_are_defaults_and_exact_ones_win(log):
    (task,) = cases.tasks(12, repeat=0)
    key = machine_key(cases.HOST)
    place = {"isa": key.isa, "threads": key.threads, "cache": key.cache}
    one, other = task.choices.candidates[1:3]
    log.append(cases.record_of(task, one, 1e-6, machine="a sister of this one", **place))
    mod = cases.layers(12, repeat=0)
    _, found = tuned(log, mod=mod)
    assert [(c.source, c.parameters) for c in found.chosen] == [("class", one)]
    log.append(cases.record_of(task, other, 1e-3, machine=key.machine, **place))
    _, found = tuned(log, mod=mod)
    assert [(c.source, c.parameters) for c in found.chosen] == [("exact", other)]


def test_records_that_mean_nothing_here_are_left_out(log):
    (task,) = cases.tasks(12, repeat=0)
    key = machine_key(cases.HOST)
    place = {"isa": key.isa, "threads": key.threads, "cache": key.cache, "machine": key.machine}
    good = task.choices.candidates[1]
    for record in (
        cases.record_of(task, good, 1e-6, template_version=99, **place),
        cases.record_of(task, good, 1e-6, algorithm="another", **place),
        cases.record_of(task, {"tile": 1000, "blocks": 2}, 1e-6, **place),
        cases.record_of(task, {}, 1e-6, **place),
        cases.record_of(task, good, 1e-6, workload="0" * 64, **place),
        cases.record_of(task, good, 1e-6, **{**place, "isa": "x86-64-v1", "machine": "other"}),
    ):
        log.append(record)
    _, found = tuned(log, mod=cases.layers(12, repeat=0))
    assert found.parameters == {} and found.log_hits == 0


def test_code_that_this_machine_cannot_run_is_not_tuned(log):
    foreign = targets.parse("cpu:aarch64")[0]
    mod, weights = cases.optimized(cases.layers(12))
    with pytest.raises(UsageError, match="can't be tuned on this machine"):
        tune_module(mod, foreign, CONTRACT, weights, Tuning(log, Budget(trials=1)))
    lacking = replace(cases.HOST, features=("amx-tile", "no-such-feature"))
    with pytest.raises(UsageError, match="no-such-feature"):
        tune_module(mod, lacking, CONTRACT, weights, Tuning(log, Budget(trials=1)))
    assert tune_module(mod, foreign, CONTRACT, weights, Tuning(log)).measurements == 0
    gpu = targets.parse("cuda")[0]
    with pytest.raises(UsageError, match="GPUs can't be measured"):
        tune_module(mod, gpu, CONTRACT, weights, Tuning(log, Budget(trials=1)))
    assert tune_module(mod, gpu, CONTRACT, weights, Tuning(log)).parameters == {}  # the log has none


def test_threads_have_records_of_their_own_and_one_threads_serve_where_there_are_none(log):
    mod, weights = cases.optimized(cases.layers(12, repeat=0))
    two = replace(cases.HOST, run_threads=2)
    with pytest.raises(UsageError, match="with 999 threads"):
        tune_module(mod, replace(two, run_threads=999), CONTRACT, weights, Tuning(log, Budget(trials=1)))
    first = tune_module(mod, cases.HOST, CONTRACT, weights, Tuning(log, Budget(trials=2)))
    assert [one.source for one in first.chosen] == ["exact"]
    found = tune_module(mod, two, CONTRACT, weights, Tuning(log))
    assert [(one.source, one.parameters) for one in found.chosen] == [("class", first.chosen[0].parameters)]
    if targets.host_cores() > 1:
        both = tune_module(mod, two, CONTRACT, weights, Tuning(log, Budget(trials=2)))
        assert both.measurements == 2 and [one.source for one in both.chosen] == ["exact"]
        assert {record.threads for record in log.records()} == {1, 2}
        assert all(record.status == "ok" for record in log.records())
