"""The log that comes with the package: small, and with the winners of the log it is made of."""

from types import SimpleNamespace

import pytest
from tuning_records import make

import ship_log
from onnxkiln.errors import ModelError
from onnxkiln.tuning.log import TuningLog
from onnxkiln.tuning.selection import best
from onnxkiln.tuning.shipped import shipped_records


def records(count, **changes):
    return [
        make(parameters={"n": n}, seconds=((100 + n * 7 % count) / 3e5,), features={"flops": 2312110080.0}, **changes)
        for n in range(count)
    ]


def test_the_winner_is_there_and_others_of_all_speeds():
    log = records(50)
    shipped = ship_log.to_ship(log, most=6)
    assert len(shipped) == 6
    assert best(shipped).parameters == best(log).parameters
    speeds = [one.latency for one in shipped]
    assert speeds == sorted(speeds)
    assert speeds[-1] / speeds[0] > 1.4
    assert shipped[0].features["flops"] == 2312000000


def test_winner_takes_all_measurements_into_account():
    """What is confirmed wins; the lucky one that isn't, and one that crashed, are not shipped."""
    confirmed = [make(parameters={"n": 7}, seconds=(time,), when=f"2026-02-0{n}T00:00:00Z")
                 for n, time in enumerate([1e-5, 2e-5, 3e-5], 1)]  # fmt: skip
    lucky, crashed = make(parameters={"n": 9}, seconds=(1e-6,)), make(parameters={"n": 8}, status="crash")
    shipped = ship_log.to_ship([*records(5), *confirmed, lucky, crashed], most=20)
    assert best(shipped).parameters == {"n": 7} and best(shipped).seconds == (2e-5,)
    assert {one.parameters["n"] for one in shipped} == {0, 1, 2, 3, 4, 7}


def test_classes_are_apart_and_traces_left_out():
    log = [*records(3), *records(3, isa="x86-64-v3"), make(template="metaschedule", trace="[]", workload="other")]
    shipped = ship_log.to_ship(log, most=2)
    assert [one.isa for one in shipped] == ["x86-64-v3"] * 2 + ["x86-64-v4"] * 2


@pytest.fixture
def tuner(tmp_path, monkeypatch):
    """``tune`` without measuring: it asks nothing, takes the seconds listed for each call, and notes its budgets."""
    calls, takes = [], []
    model = tmp_path / "m.onnx"
    model.write_bytes(b"a model")
    names = ["one", "two"]
    monkeypatch.setattr(ship_log, "load_models", lambda _: [SimpleNamespace(name=n, path=lambda: model) for n in names])

    def tune(path, *, target, budget, log, observer):
        calls.append((target, budget.seconds))
        took = takes.pop(0) if takes else budget.seconds
        if isinstance(took, Exception):
            raise took
        search, interrupted = SimpleNamespace(latency=lambda tuned: 1e-3), state.interrupt_at
        observer(SimpleNamespace(elapsed=interrupted or took, left=budget.seconds - took, search=search))
        if interrupted:
            state.interrupt_at = None
            raise KeyboardInterrupt
        return [(None, SimpleNamespace(chosen=(), measurements=1))]

    monkeypatch.setattr("onnxkiln.compiler.tune", tune)
    monkeypatch.setattr(ship_log.Progress, "EVERY", 0)
    log = tmp_path / "log"
    TuningLog.open(log).close()

    def run(*options):
        calls.clear()
        return ship_log.main(["tune", str(log), "--seconds", "20", *options]), list(calls)

    state = SimpleNamespace(run=run, takes=takes, model=model, interrupt_at=None)
    return state


def test_all_models_for_one_target_before_the_next_and_each_once(tuner):
    assert tuner.run("--targets", "a,b") == (0, [("a", 20), ("a", 20), ("b", 20), ("b", 20)])
    assert tuner.run("--targets", "a,b") == (0, [])
    tuner.model.write_bytes(b"another model")
    assert tuner.run("--targets", "a") == (0, [("a", 20), ("a", 20)])


def test_tuning_goes_on_where_it_was_interrupted(tuner, capsys):
    tuner.interrupt_at = 8
    assert tuner.run("--targets", "a")[0] == 130
    assert "goes on from here" in capsys.readouterr().err
    assert tuner.run("--targets", "a") == (0, [("a", 12), ("a", 20)])


def test_what_ended_by_itself_is_done_and_what_failed_is_named(tuner, capsys):
    tuner.takes += [3, ModelError("no such thing")]
    assert tuner.run("--targets", "a")[0] == 1
    assert "two for a: failed: no such thing" in capsys.readouterr().err
    assert tuner.run("--targets", "a") == (0, [("a", 20)])


def test_the_time_for_all_of_it_is_kept(tuner):
    code, calls = tuner.run("--targets", "a", "--within", "7s")
    assert code == 0 and len(calls) == 2 and all(6 < seconds <= 7 for _, seconds in calls)


def test_the_program(tmp_path, capsys):
    with TuningLog.open(tmp_path / "log") as log:
        log.extend([*records(9), make(workload="failed", status="wrong")])
    output = tmp_path / "shipped.jsonl"
    assert ship_log.main(["write", str(tmp_path / "log"), "--output", str(output), "--most", "4"]) == 0
    assert "4 record(s)" in capsys.readouterr().out
    assert len(shipped_records(output)) == 4
    first = output.read_bytes()
    ship_log.main(["write", str(tmp_path / "log"), "--output", str(output), "--most", "4"])
    assert output.read_bytes() == first
