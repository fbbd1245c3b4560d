"""The log on disk: what is appended is found again, by key, in other processes, and only by those it serves."""

import pytest
from tuning_records import WHOLE, make, several

from onnxkiln.errors import LogError
from onnxkiln.tuning import log as log_module
from onnxkiln.tuning.log import TuningLog


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a folder" / "made" / "log.sqlite"


def test_records_outlive_the_process_that_wrote_them(path):
    records = [WHOLE, make(status="crash"), *several(3, workload="other")]
    with TuningLog.open(path) as log:
        for record in records:
            log.append(record)
        assert len(log) == 5
    with TuningLog.open(path, write=False) as log:
        assert list(log.records()) == records
        assert list(log.records({"workload": WHOLE.workload})) == records[:2]


def test_a_record_is_kept_once(path):
    with TuningLog.open(path) as log:
        assert log.extend([WHOLE, make(threads=2)]) == 2
        assert log.extend([WHOLE, make(threads=3)]) == 1
        log.append(WHOLE)
        assert len(log) == 3


def test_an_exact_record_is_of_the_same_machine_and_workload(path):
    with TuningLog.open(path) as log:
        log.extend([make(seconds=(5e-3,)), make(seconds=(1e-3,), machine="faster"), make(workload="other")])
        assert log.exact(WHOLE.workload, WHOLE.machine).latency == 5e-3
        assert log.exact(WHOLE.workload, "unknown") is None


def test_a_class_record_is_of_the_same_class(path):
    with TuningLog.open(path, shipped=False) as log:
        log.append(WHOLE)
        assert log.class_best(WHOLE.workload, "x86-64-v4", 1, "l2=1024k") == WHOLE
        for isa, threads, cache in [("x86-64-v3", 1, "l2=1024k"), ("x86-64-v4", 2, "l2=1024k"), ("x86-64-v4", 1, "")]:
            assert log.class_best(WHOLE.workload, isa, threads, cache) is None


def test_what_is_not_accepted_is_not_chosen(path):
    old, new = make(template_version=1, seconds=(1e-3,)), make(template_version=2, seconds=(2e-3,))
    with TuningLog.open(path) as log:
        log.extend([old, new])
        assert log.exact(WHOLE.workload, WHOLE.machine) == old
        assert log.exact(WHOLE.workload, WHOLE.machine, lambda one: one.template_version == 2) == new


def test_shipped_records_stand_behind_the_files_own(path, monkeypatch):
    shipped = make(machine="elsewhere", seconds=(1e-6,))
    monkeypatch.setattr(log_module, "shipped_records", lambda: (shipped,))
    key = (WHOLE.workload, "x86-64-v4", 1, "l2=1024k")
    with TuningLog.open(path) as log:
        assert log.class_best(*key) == shipped
        assert log.similar("conv2d", "x86-64-v4") == [shipped]
        assert log.similar("conv2d", "x86-64-v3") == []
        assert len(log) == 0
        log.append(WHOLE)
        assert log.class_best(*key) == WHOLE
        assert log.similar("conv2d", threads=1) == [WHOLE, shipped]
    with TuningLog.open("none", shipped=False) as log:
        assert log.class_best(*key) is None


def test_a_log_in_memory_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with TuningLog.open("none") as log:
        log.append(WHOLE)
        assert list(log.records()) == [WHOLE]
    assert not list(tmp_path.iterdir())


def test_reading_a_log_that_is_not_there_creates_nothing(path):
    with TuningLog.open(path, write=False) as log:
        assert len(log) == 0
    assert not path.parent.exists()


def test_the_default_log_lies_in_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with TuningLog.open() as log:
        log.append(WHOLE)
    assert (tmp_path / "onnxkiln" / "tuning.sqlite").is_file()


def test_records_are_removed(path):
    records = several(4)
    with TuningLog.open(path) as log:
        log.extend(records)
        assert log.remove([records[1], WHOLE]) == 1
        assert list(log.records()) == [records[0], *records[2:]]


def test_modules_are_kept_once_and_given_back(path):
    with TuningLog.open(path) as log:
        log.keep_module("a" * 64, "a module" * 1000)
        log.keep_module("a" * 64, "another")
        assert log.module("a" * 64) == "a module" * 1000
        assert log.module("b" * 64) is None
        assert log.modules() == ["a" * 64]


def test_a_field_that_is_no_key_is_refused():
    with TuningLog.open("none") as log, pytest.raises(LogError, match="'when'"):
        log.records({"when": "now"})
