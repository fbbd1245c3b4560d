"""Records between logs and files: all of them arrive, what is none is named, and pruning never makes a bad choice."""

import random

import pytest
from tuning_records import WHOLE, make, several

from onnxkiln.errors import LogError
from onnxkiln.tuning.exchange import export_lines, import_lines, merge, to_prune
from onnxkiln.tuning.log import TuningLog
from onnxkiln.tuning.selection import best


@pytest.fixture
def log():
    with TuningLog.open("none", shipped=False) as log:
        yield log


def file_of(path, records):
    with TuningLog.open(path) as log:
        log.extend(records)
    return path


def test_lines_out_and_in(tmp_path, log):
    records = [WHOLE, make(status="crash", error="line\nbreak \u2028"), *several(2500, workload="other")]
    path = tmp_path / "lines"
    assert export_lines(records, path) == 2502
    arrival = import_lines(log, path)
    assert (arrival.read, arrival.new, arrival.skipped) == (2502, 2502, ())
    assert list(log.records()) == records
    assert import_lines(log, path).new == 0
    assert [one.name for one in tmp_path.iterdir()] == ["lines"]


def test_lines_that_are_no_records_are_named_and_the_others_read(tmp_path, log):
    path = tmp_path / "lines"
    good = [one.to_text() for one in several(2)]
    path.write_text("\n".join([good[0], "", "{}", good[1], WHOLE.to_text()[:100]]), encoding="utf-8")
    arrival = import_lines(log, path)
    assert (arrival.read, arrival.new) == (2, 2)
    assert [where for where, _ in arrival.skipped] == ["line 3", "line 5"]
    assert len(log) == 2


def test_a_file_of_other_bytes_is_left_out_line_by_line(tmp_path, log):
    path = tmp_path / "lines"
    path.write_bytes(random.Random(3).randbytes(100_000))
    assert not import_lines(log, path).read


def test_logs_and_lines_are_merged_without_doubles(tmp_path, log):
    first = file_of(tmp_path / "first", several(3))
    with TuningLog.open(first) as open_log:
        open_log.keep_module(WHOLE.workload, "module")
    lines = tmp_path / "lines"
    export_lines([*several(2), WHOLE], lines)
    assert (merge(log, first).read, merge(log, first).new) == (3, 0)
    assert merge(log, lines).new == 1
    assert len(log) == 4
    assert log.module(WHOLE.workload) == "module"


def test_a_log_is_not_merged_with_itself_nor_with_what_is_not_there(tmp_path):
    path = file_of(tmp_path / "log", several(3))
    with TuningLog.open(path) as log:
        with pytest.raises(LogError, match="to merge into"):
            merge(log, path)
        with pytest.raises(LogError, match="no log"):
            merge(log, tmp_path / "absent")


def test_a_damaged_source_adds_nothing(tmp_path, log):
    path = file_of(tmp_path / "log", several(300))
    path.write_bytes(path.read_bytes()[: 10 * 16384])
    with pytest.raises(LogError, match="damaged"):
        merge(log, path)
    assert len(log) == 0


def test_keeping_the_fastest(log):
    records = [*several(5), *several(5, workload="other"), *several(5, machine="another"), make(status="timeout")]
    removed = to_prune(random.Random(2).sample(records, len(records)), keep=2)
    assert len(removed) == 9
    assert all(one.parameters["pixels"] >= 2 for one in removed)


def test_pruning_keeps_the_choice():
    """Whatever is taken out, the best of what is left was never a candidate that the whole log knows to be bad."""
    luck = random.Random(4)
    for _ in range(300):
        records = [
            make(
                parameters={"pixels": luck.randrange(4)},
                machine=luck.choice("ab"),
                when=f"2026-01-{luck.randrange(1, 29):02}T00:00:00Z",
                **luck.choice([{"seconds": (luck.random() + 0.1,)}, {"status": luck.choice(["wrong", "crash"])}]),
            )
            for _ in range(8)
        ]
        removed = to_prune(records, keep=1, failed=True)
        left = [one for one in records if one not in removed]
        before, after = best(records), best(left)
        assert (before is None) == (after is None)
        assert before is None or after.candidate == before.candidate or len({one.machine for one in records}) > 1
        assert after is None or not any(one.status == "wrong" and one.candidate == after.candidate for one in records)


def test_old_and_failed_records():
    old = make(when="2025-12-31T23:59:59Z")
    failed = make(parameters={"pixels": 9}, status="crash")
    wrong = make(status="wrong", when="2025-01-01T00:00:00Z")
    records = [WHOLE, old, failed, wrong]
    assert to_prune(records, before="2026-01-01") == [old]  # wrong stays while a measurement of its candidate does
    assert to_prune(records, failed=True) == [failed]
    assert to_prune([old, wrong], before="2026-01-01") == [old, wrong]
    assert to_prune(records) == []
