"""The log that comes with the package: small, and with the winners of the log it is made of."""

from tuning_records import make

import ship_log
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
