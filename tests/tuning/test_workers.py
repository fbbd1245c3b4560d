"""Workers outlive what they are asked for, and are replaced when they don't."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from children import check_child

from onnxkiln.tuning.workers import Worker, WorkerFailed

HANDLER = f"{__name__}:obey"


def obey(do="", value=None):
    """What the worker of these tests does."""
    if do == "hang":
        time.sleep(600)
    if do == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if do == "leave":
        os._exit(7)
    if do == "raise":
        raise ValueError("first line\nno such thing")
    if do == "print":
        os.write(1, b"kernels may print\n")
    if do == "cpus":
        return sorted(os.sched_getaffinity(0))
    return {"pid": os.getpid(), "value": value}


@pytest.fixture(scope="module")
def worker():
    with Worker(HANDLER) as one:
        yield one


def test_one_process_answers_many_requests(worker):
    answers = [worker.call(30, value=value) for value in (1, "two", [3])]
    assert [answer["value"] for answer in answers] == [1, "two", [3]]
    assert len({answer["pid"] for answer in answers} | {os.getpid()}) == 2
    assert worker.call(30, do="print", value=4)["value"] == 4


def test_an_error_is_reported_and_the_worker_lives_on(worker):
    before = worker.call(30)["pid"]
    with pytest.raises(WorkerFailed, match="ValueError: no such thing") as failure:
        worker.call(30, do="raise")
    assert failure.value.status == "error" and worker.call(30)["pid"] == before


@pytest.mark.parametrize(
    ("do", "seconds", "status", "words"),
    [("hang", 0.3, "timeout", "0.3 s"), ("crash", 30, "crash", "signal 11"), ("leave", 30, "crash", "exit code 7")],
)
def test_a_dead_worker_is_replaced(worker, do, seconds, status, words):
    before = worker.call(30)["pid"]
    with pytest.raises(WorkerFailed, match=words) as failure:
        worker.call(seconds, do=do)
    assert failure.value.status == status
    assert worker.call(30)["pid"] != before
    assert not os.path.exists(f"/proc/{before}")


def test_it_runs_on_the_processors_it_was_given():
    chosen = sorted(os.sched_getaffinity(0))[-1:]
    with Worker(HANDLER, chosen) as one:
        assert one.call(30, do="cpus") == chosen


def test_it_does_not_outlive_a_parent_that_is_killed(tmp_path):
    code = f"""
        import sys
        sys.path[:0] = {sys.path!r}
        import importlib
        from onnxkiln.tuning.workers import Worker
        worker = Worker({HANDLER!r})
        print(worker.call(30)["pid"], flush=True)
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
    """
    child = subprocess.run([sys.executable, "-c", code.replace("\n        ", "\n")], capture_output=True, text=True)
    assert child.returncode == -signal.SIGKILL, child.stderr
    pid = int(child.stdout)
    for _ in range(100):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or " Z " in state.read_text():
            return
        time.sleep(0.05)
    raise AssertionError(f"worker {pid} lives on")


def test_the_scripts_that_use_it_need_no_main_guard():
    printed = check_child(
        """
        import sys
        sys.path[:] = sys.argv[1].split(":")
        from onnxkiln.tuning.workers import Worker
        print("once")
        with Worker(sys.argv[2]) as worker:
            worker.call(30)
        """,
        ":".join(sys.path), HANDLER,
    )  # fmt: skip
    assert printed.split() == ["once"]
